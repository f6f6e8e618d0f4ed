"""Rollouts scaled to a model's context, and prompts from files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hybrid_ops.errors import InputError
from hybrid_ops.measure.procedures import read_suites
from hybrid_ops.report.published.document import read_documents
from hybrid_ops.workloads.prompt_files import encode_prompts, read_prompts
from hybrid_ops.workloads.rollout import Rollout, RolloutBatch


def rollout(context: int, given: list[list[int]] | None = None) -> dict[str, RolloutBatch]:
    return read_suites().of_kind(Rollout)["rollout"].workloads("rollout", context, given)


ROLLOUTS = read_documents()["hybrid_vs_non_hybrid_results"].table("rollouts of Nemotron-H 8B")
PUBLISHED = [int(row[0]) for row in ROLLOUTS.rows]


def test_the_shipped_rollout_is_the_published_one() -> None:
    workloads = rollout(65536)
    assert list(workloads) == [f"rollout-{length}" for length in PUBLISHED]
    for length, workload in zip(PUBLISHED, workloads.values()):
        assert (workload.num_prompts, workload.samples, workload.prompt_tokens) == (16, 4, 2048)
        assert (workload.generation_tokens, workload.rollout_length, workload.seed) == (length, length, 42)
        assert (workload.sampling.temperature, workload.sampling.top_p) == (1.0, 0.9)
        assert len({tuple(prompt) for prompt in workload.prompts(1024)}) == 16


@pytest.mark.parametrize(("context", "divisor"), [(34048, 1), (34047, 2), (4096, 16), (2128, 16), (2127, 32)])
def test_lengths_are_divided_by_the_least_power_of_two_that_fits(context: int, divisor: int) -> None:
    workloads = rollout(context)
    assert [workload.generation_tokens for workload in workloads.values()] == [
        length // divisor for length in PUBLISHED
    ]
    assert {workload.prompt_tokens for workload in workloads.values()} == {2048 // divisor}
    if divisor > 1:
        assert next(iter(workloads)) == f"rollout-{1024 // divisor}-of-1024"


def test_a_context_that_holds_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="a context of 30 tokens holds no rollout"):
        rollout(30)


def test_given_prompts_are_cut_to_the_scaled_length() -> None:
    given = [[10 + index] * 3000 for index in range(16)]
    workload = rollout(4096, given)["rollout-64-of-1024"]
    assert workload.prompts(1024) == [prompt[:128] for prompt in given]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("p.txt", "one\n\ntwo\none\nthree\n"),
        ("p.json", json.dumps(["one", {"prompt": "two"}, {"question": "one"}, {"messages": [{"content": "three"}]}])),
        ("p.jsonl", '{"text": "one"}\n"two"\n{"id": 1}\n{"conversations": [{"value": "three"}, {"value": "four"}]}\n'),
    ],
)
def test_files_give_different_prompts_in_order(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    assert read_prompts(str(path), 3) == ["one", "two", "three"]
    assert read_prompts(str(path), 2) == ["one", "two"]
    with pytest.raises(InputError, match=r"3 different prompts; 4 are needed"):
        read_prompts(str(path), 4)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("p.json", "{}", "expected a list of prompts"),
        ("p.json", "[", "p.json: not JSON"),
        ("p.jsonl", '"one"\n\n{"text"\n', "p.jsonl:3: not JSON"),
        ("p.txt", b"\xff\xfe\x00", "cannot be read"),
    ],
)
def test_a_broken_file_is_one_line(tmp_path: Path, name: str, text: str | bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=message) as caught:
        read_prompts(str(path), 1)
    assert str(caught.value).startswith("--perf-prompts: ")
    assert "\n" not in str(caught.value)


def test_a_name_that_is_neither_file_nor_dataset_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(InputError, match=r"--perf-prompts: nobody/nothing: no such file") as caught:
        read_prompts("nobody/nothing", 1)
    assert "\n" not in str(caught.value)


def test_without_a_tokenizer_each_byte_is_an_ordinary_token() -> None:
    [first, second] = encode_prompts(["é", "abc"], 60, 10, None)
    assert first == [10 + byte % 50 for byte in "é".encode()]
    assert len(second) == 3
    assert all(10 <= token < 60 for token in first + second)
