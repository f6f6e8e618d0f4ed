"""Data for serving loads: exact lengths, the same for a seed, and ShareGPT files as they really are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hybrid_ops.cli import build_parser
from hybrid_ops.errors import InputError
from hybrid_ops.workloads.conversations import (
    SHIPPED_CONVERSATIONS,
    load_conversations,
    make_conversations,
    write_conversations,
)
from hybrid_ops.workloads.prompts import PromptMaker, load_tokenizer
from hybrid_ops.workloads.tokenizer import write_word_tokenizer


def run(*arguments: str) -> int:
    args = build_parser().parse_args(["data", *arguments])
    return args.run(args)


@pytest.fixture(scope="module")
def merging_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A byte-level BPE tokenizer, trained here: unlike words, its tokens merge where texts are joined."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<s>"],
        show_progress=False,
    )
    tokenizer.train_from_iterator([SHIPPED_CONVERSATIONS.read_text()], trainer)
    folder = tmp_path_factory.mktemp("merging")
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>").save_pretrained(folder)
    return str(folder)


def test_the_word_tokenizer_has_a_token_a_word(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    write_word_tokenizer(tmp_path, 500)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert len(tokenizer) == 500
    text = load_conversations(SHIPPED_CONVERSATIONS).conversations[0]["conversations"][0]["value"]
    ids = tokenizer(text).input_ids
    assert len(ids) == len(text.split())
    assert tokenizer.decode(ids) == text
    assert tokenizer("neverheardof").input_ids == [tokenizer.unk_token_id]


@pytest.mark.parametrize("kind", ["words", "merging"])
def test_prompts_have_exactly_their_lengths(kind: str, merging_tokenizer: str, tmp_path: Path) -> None:
    name = merging_tokenizer if kind == "merging" else "words"
    file = tmp_path / "prompts.jsonl"
    assert run("random", "--tokenizer", name, "--input-lengths", "16,64", "--num-prompts", "8", "--range-ratio", "0.25",
               "--output-len", "9", "--output-file", str(file)) == 0  # fmt: skip
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    tokenizer = load_tokenizer(name)
    counted = [len(tokenizer(line["prompt"], add_special_tokens=False).input_ids) for line in lines]
    assert counted == [line["prompt_tokens"] for line in lines]
    assert all(12 <= count <= 20 for count in counted[:8])
    assert all(48 <= count <= 80 for count in counted[8:])
    assert len(set(counted)) > 3
    assert {line["output_tokens"] for line in lines} == {9}


def test_a_seed_gives_the_same_file(tmp_path: Path) -> None:
    def make(name: str, seed: int) -> bytes:
        file = tmp_path / name
        run("shared-prefix", "--tokenizer", "words", "--input-lengths", "32", "--num-prompts", "4",
            "--seed", str(seed), "--output-file", str(file))  # fmt: skip
        return file.read_bytes()

    assert make("first", 1) == make("again", 1)
    assert make("first", 1) != make("other", 2)


def test_a_shared_prefix_is_shared_token_by_token(merging_tokenizer: str) -> None:
    tokenizer = load_tokenizer(merging_tokenizer)
    prompts = PromptMaker(tokenizer, seed=3).make(48, 6, 1, prefix_tokens=40)
    ids = [tokenizer(prompt.text).input_ids for prompt in prompts]
    assert len({tuple(tokens[:40]) for tokens in ids}) == 1
    assert len({tuple(tokens) for tokens in ids}) == 6


def test_a_prefix_must_leave_room(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a prefix of 64 tokens leaves no room in prompts of 64 tokens"):
        run("shared-prefix", "--tokenizer", "words", "--input-lengths", "64", "--prefix-len", "64",
            "--output-file", str(tmp_path / "x"))  # fmt: skip


def test_an_unknown_tokenizer_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no tokenizer in "):
        run("random", "--tokenizer", str(tmp_path), "--output-file", str(tmp_path / "x"))


def test_the_shipped_conversations_are_made_by_this_code(tmp_path: Path) -> None:
    count = len(load_conversations(SHIPPED_CONVERSATIONS).conversations)
    write_conversations(tmp_path / "again.json", make_conversations(count))
    assert (tmp_path / "again.json").read_bytes() == SHIPPED_CONVERSATIONS.read_bytes()


@pytest.mark.parametrize("cut", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_gives_what_is_whole(cut: float, tmp_path: Path) -> None:
    whole = SHIPPED_CONVERSATIONS.read_bytes()
    file = tmp_path / "cut.json"
    file.write_bytes(whole[: int(cut * len(whole))])
    loaded = load_conversations(file)
    originals = json.loads(whole)
    assert loaded.conversations == originals[: len(loaded.conversations)]
    assert len(loaded.conversations) == pytest.approx(cut * len(originals), abs=8)
    assert loaded.dropped == {"cut off at the end of the file": 1}


def test_what_is_dropped_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def turns(*speakers: str, value: object = "text") -> dict:
        return {"id": "x", "conversations": [{"from": speaker, "value": value} for speaker in speakers]}

    entries = [
        turns("human", "gpt"),
        turns("gpt", "human", "gpt"),
        turns("human"),
        turns("human", "gpt", value=None),
        {"id": "y"},
        "not a conversation",
    ]
    source, written = tmp_path / "source.json", tmp_path / "written.json"
    source.write_text(json.dumps(entries))
    assert run("sharegpt", "--from", str(source), "--output-file", str(written)) == 0
    assert json.loads(written.read_text()) == entries[:2]
    assert capsys.readouterr().out.splitlines()[0] == (
        f"{source}: 2 conversations; dropped 4: 1 without an answer, 1 with a turn that has no text, "
        "2 without a list of turns"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "does not begin with a JSON list"), ("{}", "does not begin with a JSON list"), ("[]", "no usable"),
     ('[{"id": "cut', "no usable conversation .*1 cut off")],
)  # fmt: skip
def test_a_file_of_no_use_is_one_line(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "bad.json"
    file.write_text(text)
    with pytest.raises(InputError, match=message):
        load_conversations(file)
