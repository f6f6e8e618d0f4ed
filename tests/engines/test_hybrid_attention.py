"""The suite's own model inside a real vLLM: what `hybrid_ops.layers` computes with the same weights, in any batch."""

from __future__ import annotations

import copy
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hybrid_ops.engines.worker import WorkerError
from hybrid_ops.layers.language_model import LanguageModel
from tests.engines.hybrid_models import (
    BLOCK,
    FEW_BLOCKS,
    FEW_BLOCKS_PROMPTS,
    FLOAT32,
    LAYERS,
    VOCABULARY,
    WINDOW,
    check_answers,
    differences,
    expected,
    random_model,
)
from tests.engines.real_engine import Engine, engine, log_probabilities, needs_vllm, random_prompts
from tests.engines.recall import MARKERS, REACH, questions, recall_model
from tests.engines.recall import WINDOW as RECALL_WINDOW

pytestmark = [pytest.mark.long, needs_vllm]

ATTENTIONS = ("full", "sliding", "hybrid")
GENERATED = 4
BFLOAT16 = 1.5
"""Largest root mean square error in bfloat16, in units of the reference's own error in bfloat16."""
CLEARLY = 100 * FLOAT32
"""Smallest difference that counts as another result."""

# Shorter than the window, equal to it, around a block of the cache, and many windows long.
LENGTHS = st.sampled_from((1, WINDOW - 1, WINDOW, WINDOW + 1, BLOCK, 2 * BLOCK + 1)) | st.integers(1, 8 * WINDOW)


class Built(NamedTuple):
    """A reference model, and the folder from which the engine reads the same weights."""

    model: LanguageModel
    folder: Path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Built]:
    folders = {attention: tmp_path_factory.mktemp(attention) for attention in ATTENTIONS}
    return {attention: Built(random_model(attention, folder), folder) for attention, folder in folders.items()}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with engine(tmp_path_factory.mktemp("engine")) as shared:
        yield shared


@pytest.mark.parametrize("prefix_caching", [False, True], ids=["no prefix cache", "prefix cache"])
@pytest.mark.parametrize("attention", ATTENTIONS)
def test_float32(attention: str, prefix_caching: bool, built: dict[str, Built], shared: Engine) -> None:
    """Prompts of any lengths, arriving at any distance, in prefill chunks of any size; then all at once, and alone."""
    model, folder = built[attention]
    replaced = shared.load(folder, dtype="float32", max_num_batched_tokens=256, enable_prefix_caching=prefix_caching)
    states_cached = attention == "hybrid" and prefix_caching
    assert replaced == (["store_prefill_checkpoint"] if states_cached else [])
    # With states in the prefix cache vLLM cuts a prefill at the ends of blocks only, so a step must hold one.
    smallest_step = BLOCK if states_cached else 8

    @settings(max_examples=4)
    @given(
        lengths=st.lists(LENGTHS, min_size=1, max_size=5),
        steps_between=st.integers(0, 3),
        step_tokens=st.integers(smallest_step, 256),
    )
    def check(lengths: list[int], steps_between: int, step_tokens: int) -> None:
        shared.limit_step(step_tokens)
        shared.forget()
        prompts = random_prompts(tuple(lengths), VOCABULARY)
        check_answers(model, prompts, shared.generate(prompts, GENERATED, steps_between))
        together = shared.generate(prompts, GENERATED)
        check_answers(model, prompts, together)
        alone = shared.generate(prompts[:1], GENERATED)
        check_answers(model, prompts[:1], alone)
        # Whole blocks are found, and the last token is always computed.
        reusable = sum((length - 1) // BLOCK * BLOCK for length in lengths)
        cached = sum(answer["cached"] for answer in together)
        assert cached == (reusable if prefix_caching else 0)

    check()


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_bfloat16_in_a_cache_of_few_blocks(attention: str, built: dict[str, Built], shared: Engine) -> None:
    """Blocks change hands between windows and states: what one leaves behind is no number to the other."""
    model, folder = built[attention]
    shared.load(folder, **FEW_BLOCKS)
    prompts = FEW_BLOCKS_PROMPTS
    answers = shared.generate(prompts, GENERATED, steps_between=1)
    reference = copy.deepcopy(model)
    # As in the engine, whose decay rates and rotary angles stay exact.
    with_dtype(reference, torch.bfloat16)
    of_the_reference = torch.cat([expected(reference, p, a["tokens"]) for p, a in zip(prompts, answers)])
    with_dtype(reference, torch.float32)  # the weights stay rounded, so that only the arithmetic differs
    exact = torch.cat([expected(reference, p, a["tokens"]) for p, a in zip(prompts, answers)])
    unavoidable = (of_the_reference - exact).square().mean().sqrt()
    assert differences(reference, prompts, answers).square().mean().sqrt() < BFLOAT16 * unavoidable


def with_dtype(model: LanguageModel, dtype: torch.dtype) -> None:
    """Turn the weights into `dtype`, the decay rates aside."""
    for name, parameter in model.named_parameters():
        if not name.endswith("A_log"):
            parameter.data = parameter.data.to(dtype)


# --- the faults of a branch that only pretends to remember: each has its test, and each test could fail ---


@pytest.fixture
def hybrid_engine(built: dict[str, Built], shared: Engine) -> Engine:
    shared.ensure(built["hybrid"].folder, dtype="float32", max_num_batched_tokens=192, enable_prefix_caching=False)
    return shared


def test_requests_do_not_mix(built: dict[str, Built], hybrid_engine: Engine) -> None:
    """These prompts differ only where no layer's window reaches: each answer needs its own request's history."""
    model = built["hybrid"].model
    ending = random_prompts((LAYERS * WINDOW,), VOCABULARY, seed=1)[0]
    prompts = [start + ending for start in random_prompts((150, 150, 150), VOCABULARY, seed=2)]
    answers = hybrid_engine.generate(prompts, GENERATED)
    check_answers(model, prompts, answers)
    for number, answer in enumerate(answers):
        own, others = (expected(model, prompts[index], answer["tokens"]) for index in (number, number - 1))
        assert (own - others).abs().max() > CLEARLY, "another request's history would not show"


def test_state_is_kept_between_steps(built: dict[str, Built], hybrid_engine: Engine) -> None:
    """Token by token gives what one prefill of the same tokens gives."""
    model = built["hybrid"].model
    prompt = random_prompts((200,), VOCABULARY)[0]
    decoded = hybrid_engine.generate([prompt], 8)[0]
    tokens = decoded["tokens"]
    fresh = hybrid_engine.generate([prompt + tokens[:count] for count in range(8)], 1)
    prefilled = torch.cat([log_probabilities(answer) for answer in fresh])
    assert (log_probabilities(decoded) - prefilled).abs().max() < FLOAT32
    forgetful = without_state(model, prompt, tokens)
    assert (forgetful - prefilled)[1:].abs().amax(-1).min() > CLEARLY, "a forgotten state would not show"


@torch.no_grad()
def without_state(model: LanguageModel, prompt: list[int], tokens: list[int]) -> Tensor:
    """The model's log-probabilities at each token if the branch began anew with it."""
    logits, cache = model(torch.tensor([prompt]))
    rows = [logits[0, -1]]
    for token in tokens[:-1]:
        cache = cache._replace(states=tuple((seen, None) for seen, _ in cache.states))
        logits, cache = model(torch.tensor([[token]]), cache)
        rows.append(logits[0, -1])
    return torch.stack(rows).log_softmax(-1)


def test_an_error_in_the_branch_is_the_engines_error(built: dict[str, Built], hybrid_engine: Engine) -> None:
    """It is not an answer of attention alone, which would look much like one."""
    prompts = random_prompts((20,), VOCABULARY)
    check_answers(built["hybrid"].model, prompts, hybrid_engine.generate(prompts, 1))
    hybrid_engine.break_history("no room in the state")
    with pytest.raises(WorkerError, match="no room in the state"):
        hybrid_engine.generate(prompts, 1)


def leave_the_branch_out(model: LanguageModel) -> None:
    for block in model.layers:
        block.mamba.out_proj.weight.data.zero_()


def widen_the_window(model: LanguageModel) -> None:
    for block in model.layers:
        block.attention.window += 1


@pytest.mark.parametrize("change", [leave_the_branch_out, widen_the_window])
def test_both_branches_have_their_say(change: Any, built: dict[str, Built]) -> None:
    """What the comparisons above would miss if it did not change a result."""
    model = built["hybrid"].model
    changed = copy.deepcopy(model)
    change(changed)
    prompt, tokens = random_prompts((200, GENERATED), VOCABULARY)
    assert (expected(changed, prompt, tokens) - expected(model, prompt, tokens)).abs().max() > CLEARLY


def test_a_branch_without_a_place_is_refused(built: dict[str, Built], shared: Engine, tmp_path: Path) -> None:
    """The hybrid's weights in a model without the branch: not loaded in part."""
    shutil.copy(built["hybrid"].folder / "model.safetensors", tmp_path)
    shutil.copy(built["sliding"].folder / "config.json", tmp_path)
    with pytest.raises(WorkerError, match=r"mamba\.\w+.*: the model with sliding attention has no such weight"):
        shared.load(tmp_path, dtype="float32")


def test_an_override_makes_no_other_model(built: dict[str, Built], shared: Engine) -> None:
    """A window may be set for a run. Full attention has none, and the attention is not changed in passing."""
    folder = built["full"].folder
    with pytest.raises(WorkerError, match="sliding_window: full attention has none, found 64"):
        shared.load(folder, hf_overrides={"sliding_window": 64})
    with pytest.raises(WorkerError, match="attention: 'hybrid' is not of the architecture SoftmaxAttentionForCausalLM"):
        shared.load(folder, hf_overrides={"attention": "hybrid"})
    narrower = copy.deepcopy(built["sliding"].model)
    for block in narrower.layers:
        block.mixer.window = WINDOW // 2
    prompts = random_prompts((200,), VOCABULARY)
    shared.load(built["sliding"].folder, dtype="float32", hf_overrides={"sliding_window": WINDOW // 2})
    check_answers(narrower, prompts, shared.generate(prompts, GENERATED))


# --- what the branch is for ---


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_recall_from_beyond_the_window(attention: str, shared: Engine, tmp_path: Path) -> None:
    """With a window alone the answer is out of sight, and all answers are equally likely; the branch carries it."""
    recall_model(attention, tmp_path)
    shared.load(tmp_path, dtype="float32", max_num_batched_tokens=192, enable_prefix_caching=False)
    for distance in (RECALL_WINDOW - 1, REACH + 1, 10 * REACH):
        answers = torch.cat([log_probabilities(answer) for answer in shared.generate(questions(distance), 1)])
        markers = answers[:, :MARKERS]
        if attention == "sliding" and distance >= RECALL_WINDOW:
            assert (answers - answers[0]).abs().max() < FLOAT32, "no prompt is told from another"
            assert (markers - markers[:, :1]).abs().max() < FLOAT32
        else:
            assert markers.diagonal().min() > math.log(0.99)
