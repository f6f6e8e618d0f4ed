"""Kernels pass by pass: who may be timed, from cold caches, with how much memory, and what a mask lets through."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from hybrid_ops.engines.layer_bench import attention, cases, clock, kernels
from hybrid_ops.engines.layer_bench.agreement import agree
from hybrid_ops.engines.layer_bench.contender import Contender, Function
from hybrid_ops.engines.layer_bench.kernels import Kernel, mask_blocks
from hybrid_ops.engines.layer_bench.memory import peak_allocation
from hybrid_ops.engines.layer_bench.shape import Shape
from hybrid_ops.engines.layers import Layers
from hybrid_ops.engines.worker import Worker, WorkerError
from hybrid_ops.layers import masks

SMALL = Shape(tokens=320, heads=2, head_size=16, window=64, prefix=64, documents=3)
CPU = torch.device("cpu")
PUBLISHED = dataclasses.replace(SMALL, tokens=8192, window=1025, prefix=1024)
"""The attention benchmark's own lengths; its window sees one key more than its name says."""


def planted(monkeypatch: pytest.MonkeyPatch, kernel: str, spoil: Callable[[Function], Function]) -> Kernel:
    """A kernel in which our form competes with itself, spoilt."""
    layer = cases.KERNELS[kernel]
    ours = layer.contenders[0]
    fault = Contender("F.conv1d", lambda shape, device: spoil(ours.make(shape, device)))
    monkeypatch.setitem(cases.KERNELS, kernel, dataclasses.replace(layer, contenders=(ours, fault)))
    return Kernel(kernel, SMALL, "cpu", None, {})


def zeros(ours: Function) -> Function:
    return lambda *inputs: ours(*inputs) * 0


def without_tail(ours: Function) -> Function:
    """The last 5 % of a sequence are not computed."""

    def spoilt(*inputs: torch.Tensor) -> torch.Tensor:
        y = ours(*inputs)
        kept = y.shape[1] - y.shape[1] // 20
        return torch.cat([y[:, :kept], torch.zeros_like(y[:, kept:])], dim=1)

    return spoilt


@pytest.mark.parametrize("kernel", ["causal", "document"])
@pytest.mark.parametrize("spoil", [zeros, without_tail])
def test_a_kernel_that_gives_zeros_or_skips_the_tail_has_no_time(
    monkeypatch: pytest.MonkeyPatch, kernel: str, spoil: Callable[[Function], Function]
) -> None:
    timed = planted(monkeypatch, kernel, spoil)
    for direction, seconds in timed.round(0).items():
        assert set(seconds) == {"ours", "matmul", "copy"}, direction
        assert "its relative error is 1 in " in timed.passes[direction].refused["F.conv1d"]
        assert "F.conv1d" not in timed.peaks[direction]


def test_a_wrong_gradient_costs_the_backward_pass_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def key_without_gradient(ours: Function) -> Function:
        return lambda q, k, v: ours(q, k.detach() + 0 * k, v)

    seconds = planted(monkeypatch, "causal", key_without_gradient).round(0)
    assert set(seconds["forward"]) - set(seconds["backward"]) == {"F.conv1d"}


@pytest.mark.parametrize("case", [case for case in cases.KERNEL_CASES if case not in cases.CASES])
def test_everyone_on_this_machine_agrees(case: str) -> None:
    """FlexAttention is left to a test of its own: it is compiled for each kernel and length."""
    names = [one.name for one in cases.contenders(case, "cpu") if one.name != "flexattention"]
    agreed = agree(case, SMALL, names=names)
    assert list(agreed.calls) == names and not agreed.refused


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_within_its_own_bound_and_beyond_the_other(dtype: str) -> None:
    agreed = agree("sliding_window/backward", dataclasses.replace(SMALL, dtype=dtype, batch=2), names=["F.sdpa + mask"])
    assert not agreed.refused
    errors = [check.error for check in agreed.checks.values()]
    assert all(error > 1e-4 for error in errors), "a rounding of 2⁻¹¹ shows"


def test_flex_attention_agrees_and_its_missing_backward_pass_is_known() -> None:
    [flex] = [one for one in cases.KERNELS["causal"].contenders if one.name == "flexattention"]
    if not flex.is_installed():
        pytest.skip("torch.compile has no compiler here")
    shape = dataclasses.replace(SMALL, tokens=300)
    assert "flexattention" in agree("causal/forward", shape, names=["flexattention"]).calls
    reason = agree("causal/backward", shape, names=["flexattention"]).refused["flexattention"]
    [known] = flex.known_failures
    assert (known.platform, known.direction) == ("cpu", "backward")
    assert known.matches in reason


def test_sequences_of_a_batch_may_be_checked_one_by_one() -> None:
    """And the gradients of what they share add up to the same."""
    assert not agree("convolution/backward", dataclasses.replace(SMALL, batch=3)).refused


def test_a_type_that_nobody_takes_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^dtype: expected one of float32, bfloat16, float16, got 'int8'$"):
        dataclasses.replace(SMALL, dtype="int8")


PICTURES = {
    "causal": ["2" * row + "1" + "0" * (15 - row) for row in range(16)],
    "sliding_window": [
        "1" + 15 * "0", "21" + 14 * "0", *(row * "0" + "121" + (13 - row) * "0" for row in range(14))
    ],
    "prefix_lm": [2 * "2" + 14 * "0"] * 2 + ["2" * row + "1" + "0" * (15 - row) for row in range(2, 16)],
}  # fmt: skip
"""As the attention benchmark prints them."""


@pytest.mark.parametrize(
    ("kernel", "sparsity", "exact"),
    [("causal", 49.22, 0.5001), ("sliding_window", 86.82, 0.1173), ("prefix_lm", 48.54, 0.5079)],
)
def test_masks_have_the_published_sparsity_and_picture(kernel: str, sparsity: float, exact: float) -> None:
    mask = cases.KERNELS[kernel].mask
    assert mask is not None
    blocks = mask_blocks(mask(PUBLISHED, CPU), PUBLISHED.tokens, CPU)
    assert round(100 * (1 - blocks.block_density), 2) == sparsity
    assert round(blocks.exact_density, 4) == exact
    assert blocks.picture.split("/") == PICTURES[kernel]


@pytest.mark.parametrize("kernel", ["causal", "sliding_window", "prefix_lm", "document"])
def test_torch_counts_the_same_blocks(kernel: str) -> None:
    from torch.nn.attention.flex_attention import create_block_mask

    mask = cases.KERNELS[kernel].mask
    assert mask is not None
    tokens = 1000  # the last block of a row is shorter: torch's own `sparsity()` then counts keys that are not there
    theirs = create_block_mask(mask(SMALL.with_tokens(tokens), CPU), None, None, tokens, tokens, device="cpu")
    ours = mask_blocks(mask(SMALL.with_tokens(tokens), CPU), tokens, CPU)
    assert theirs.full_kv_num_blocks is not None
    blocks = int((theirs.kv_num_blocks + theirs.full_kv_num_blocks).sum())
    assert blocks / 8**2 == ours.block_density


def test_documents_fill_the_sequence() -> None:
    lengths = attention.document_lengths(32768, 12)
    assert len(lengths) == 12 and sum(lengths) == 32768 and min(lengths) > 0
    assert lengths == attention.document_lengths(32768, 12)
    assert attention.document_lengths(3, 12) == [1, 1, 1]


def test_flops_are_those_of_the_benchmark() -> None:
    """TFLOP/s = m · density · B · H · D · S² / t with m = 4 forward and 10 backward; causal FA2 always at one half."""
    shape = dataclasses.replace(SMALL, tokens=256)
    timed = Kernel("sliding_window", shape, "cpu", ["causal FA2"], {})
    assert timed.blocks is not None and timed.blocks.block_density == 0.75
    dense = shape.batch * shape.heads * shape.head_size * shape.tokens**2
    for direction, m in (("forward", 4), ("backward", 10)):
        flops = timed.flops(direction, timed.blocks.block_density)
        assert flops["ours"] == m * 0.75 * dense
        assert flops["causal FA2"] == m * 0.5 * dense
    bytes_of_a_tensor = 4 * shape.tokens * shape.heads * shape.head_size
    assert timed.moved_bytes == {"forward": 4 * bytes_of_a_tensor, "backward": 8 * bytes_of_a_tensor}


def test_rounds_are_repeated_until_nobody_gets_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    timed = Kernel("convolution", SMALL, "cpu", ["F.conv1d"], {})
    speeds = iter([9.0, 5.0, 4.0, 3.99, 1.0])
    monkeypatch.setattr(timed, "round", lambda seed: {"forward": {"ours": next(speeds)}})
    timed._warm_up()
    assert list(speeds) == [1.0]
    counted = itertools.count()
    monkeypatch.setattr(timed, "round", lambda seed: {"forward": {"ours": 0.5 ** next(counted)}})
    timed._warm_up()
    assert next(counted) == kernels.MOST_WARM_UP_ROUNDS


def test_the_clock_adds_a_delay_and_flushes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    timer = clock.Clock(CPU)
    ticks = itertools.count()
    monkeypatch.setattr(clock.time, "perf_counter", lambda: float(next(ticks)))
    before = timer._other.clone()
    assert timer.time(lambda: "result") == (1.0, "result")
    assert timer.time(lambda: None, delay=3.0)[0] == 4.0
    assert torch.equal(timer._other, before + 2)


def test_the_cache_is_found_where_linux_tells_of_it(tmp_path: Path) -> None:
    for index, size in enumerate(("32K", "512K", "96M")):
        (tmp_path / f"index{index}").mkdir()
        (tmp_path / f"index{index}" / "size").write_text(f"{size}\n")
    assert clock.last_level_cache_bytes(tmp_path) == 96 << 20
    assert clock.last_level_cache_bytes(tmp_path / "nowhere") == clock.UNKNOWN_CACHE_BYTES


def test_the_peak_counts_what_the_allocator_gave_at_one_time() -> None:
    floats = 1_000_000

    def work() -> torch.Tensor:
        a = torch.zeros(floats)
        b = a + 1
        del a
        return b * 2

    assert peak_allocation(work, CPU) == pytest.approx(2 * 4 * floats, rel=1e-3)
    q = torch.randn(1, 2, 256, 16)
    weights_too = peak_allocation(lambda: (q @ q.mT).softmax(-1) @ q, CPU)
    assert weights_too >= 2 * q.nbytes * 256 // 16, "the scores and their softmax"
    assert peak_allocation(lambda: torch.nn.functional.scaled_dot_product_attention(q, q, q), CPU) > q.nbytes


def test_what_a_kernel_refuses() -> None:
    with pytest.raises(ValueError, match=r"^kernel: 'flash' is not one of causal, "):
        Kernel("flash", SMALL, "cpu", None, {})
    with pytest.raises(ValueError, match=r"^contenders: cutlass: causal has ours, causal FA2, "):
        Kernel("causal", SMALL, "cpu", ["cutlass"], {})


def test_who_takes_no_part_says_why() -> None:
    assert cases.absent_contenders("causal/forward", "cpu")["flash-attn"] == "runs on cuda alone"
    assert cases.absent_contenders("ssd/backward", "cpu")["vLLM"] == "has no backward pass"
    assert cases.absent_contenders("causal/forward", "cuda").get("flash-attn") in (None, "is not installed")


def test_masks_are_the_same_for_ours_and_for_flex() -> None:
    """The counted blocks are those of the mask that the contenders are given."""
    mask = cases.KERNELS["sliding_window"].mask
    assert mask is not None
    seen = torch.cat(list(masks.seen_by_block(mask(SMALL, CPU), 100, 100, CPU, 32)))
    assert seen.sum(dim=1).max().item() == SMALL.window


def test_the_worker_times_passes_and_slows_who_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "layers", **dataclasses.asdict(SMALL)}))
    with Worker(Layers.worker, tmp_path / "launch") as worker:
        with pytest.raises(WorkerError, match="ValueError: slow: cutlass: the contenders are "):
            worker.request("load", 60, model=str(folder), arguments={"slow": {"cutlass": 1.0}})
        worker.request("load", 60, model=str(folder), arguments={"slow": {"F.conv1d": 1.0}})
        asked = {"kernel": "convolution", "shape": {"tokens": 64}, "contenders": ["F.conv1d"]}
        rounds = [worker.request("time_kernel", 60, **asked, seed=seed) for seed in range(2)]
        with pytest.raises(WorkerError, match="unexpected keyword argument"):
            worker.request("time_kernel", 60, kernel="ssd", shape={"depth": 1}, contenders=None, seed=0)
    for one in rounds:
        assert one["mask"] is None and one["matmul_flops"] > 0 and one["copied_bytes"] > 0
        for timed in one["passes"].values():
            assert set(timed["contenders"]["seconds"]) == {"ours", "F.conv1d"}
            assert timed["peak_bytes"]["ours"] >= SMALL.heads * SMALL.head_size * 64 * 4
            assert timed["matmul_seconds"] > 0 and timed["copy_seconds"] > 0
    assert rounds[0]["passes"]["forward"]["peak_bytes"] == rounds[1]["passes"]["forward"]["peak_bytes"]
