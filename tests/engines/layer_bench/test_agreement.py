"""Who may be timed: planted faults are refused, each for its own reason, and everyone real on this machine agrees."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch

from hybrid_ops.engines.layer_bench import cases
from hybrid_ops.engines.layer_bench.agreement import Agreed, DisagreementError, agree, bound, worst_block
from hybrid_ops.engines.layer_bench.contender import PLATFORM_DTYPES, Contender, Function
from hybrid_ops.engines.layer_bench.peers import installed_peers
from hybrid_ops.engines.layer_bench.shape import Shape

SMALL = Shape(tokens=400, heads=2, window=64)
TAIL = 20
"""The last 5 % of `SMALL`."""


def planted(
    monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Function], Function], case: str = "ssd/forward", **traits: object
) -> Agreed:
    """The check of a case in which "ours" competes with itself, spoilt."""
    layer = cases.LAYERS[case.split("/")[0]]
    ours = layer.contenders[0]
    fault = Contender("fault", lambda shape, device: spoil(ours.make(shape, device)), **traits)
    monkeypatch.setitem(cases.LAYERS, layer.name, dataclasses.replace(layer, contenders=(ours, fault)))
    agreed = agree(case, SMALL)
    assert "ours" in agreed.calls
    return agreed


def zeros(ours: Function) -> Function:
    return lambda *inputs: ours(*inputs)[0] * 0


def without_tail(ours: Function) -> Function:
    def spoilt(*inputs: torch.Tensor) -> torch.Tensor:
        y = ours(*inputs)[0]
        y[:, -(y.shape[1] // 20) :] = 0
        return y

    return spoilt


def without_long_tails(ours: Function) -> Function:
    """Right at the length of the first check, wrong at the one that is timed."""
    return lambda *inputs: (without_tail(ours) if inputs[0].shape[1] > 300 else ours)(*inputs)


def rounded(ours: Function) -> Function:
    return lambda *inputs: ours(*inputs)[0].bfloat16().float()


def not_a_number(ours: Function) -> Function:
    return lambda *inputs: ours(*inputs)[0].log()


@pytest.mark.parametrize(
    ("spoil", "error", "where"),
    [
        (zeros, 1.0, "output, tokens "),
        (without_tail, 1.0, "output, tokens 288 to 299 (of 300)"),
        (without_long_tails, 1.0, f"output, tokens 384 to 399 (of {SMALL.tokens})"),
        (rounded, 1.6e-3, "output, tokens "),  # an even distribution of roundings of at most 2⁻⁸
        (not_a_number, float("inf"), "output, tokens "),
    ],
)
def test_a_wrong_output_has_no_time(
    monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Function], Function], error: float, where: str
) -> None:
    agreed = planted(monkeypatch, spoil)
    assert "fault" not in agreed.calls
    check = agreed.checks["fault"]
    assert check.error == pytest.approx(error, rel=0.2)
    assert check.error > check.bound
    assert check.where.startswith(where)
    assert f"{check.error:.2g}" in agreed.refused["fault"] and check.where in agreed.refused["fault"]


def test_the_same_rounding_agrees_where_it_is_declared(monkeypatch: pytest.MonkeyPatch) -> None:
    agreed = planted(monkeypatch, rounded, dtype="bfloat16")
    assert "fault" in agreed.calls and not agreed.refused


@pytest.mark.parametrize(("name", "where"), [("B", "gradient of B, tokens "), ("A", "gradient of A (of 300)")])
def test_a_gradient_of_zeros_has_no_time(monkeypatch: pytest.MonkeyPatch, name: str, where: str) -> None:
    place = ["x", "B", "C", "dt", "A"].index(name)

    def spoil(ours: Function) -> Function:
        return lambda *inputs: ours(*(x.detach() + 0 * x if i == place else x for i, x in enumerate(inputs)))

    agreed = planted(monkeypatch, spoil, "ssd/backward")
    assert "fault" not in agreed.calls
    assert agreed.checks["fault"].error == pytest.approx(1)
    assert agreed.checks["fault"].where.startswith(where)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda ours: lambda *inputs: ours(*(x.detach() for x in inputs)), "RuntimeError: "),
        (lambda ours: lambda x, *others: ours(x.detach(), *others), "gradient of x: there is none"),
        (lambda ours: lambda *inputs: ours(*inputs)[0].mT, "output: its shape is "),
        (lambda ours: 1 / 0, "ZeroDivisionError: division by zero"),
    ],
    ids=["no graph", "no gradient", "shape", "raises"],
)
def test_who_cannot_be_compared_has_no_time(
    monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Function], Function], reason: str
) -> None:
    agreed = planted(monkeypatch, spoil, "ssd/backward")
    assert "fault" not in agreed.calls and "fault" not in agreed.checks
    assert reason in agreed.refused["fault"]


def test_a_small_tail_weighs_as_much_as_the_rest() -> None:
    exact = torch.randn(1, SMALL.tokens, 2, 8, dtype=torch.float64)
    exact[:, -TAIL:] *= 1e-9
    found = exact.clone()
    found[:, -TAIL:] = 0
    assert (found - exact).norm() / exact.norm() < bound("float32", SMALL.tokens)  # what hides in a norm of the whole
    assert worst_block({"y": found}, {"y": exact})[0] == 1


def test_a_block_that_is_exactly_zero_must_be_found_so() -> None:
    exact = torch.zeros(1, 16, 2)
    assert worst_block({"y": exact}, {"y": exact}) == (0, "y, tokens 0 to 15")
    assert worst_block({"y": exact + 1e-30}, {"y": exact})[0] == float("inf")


def test_a_yardstick_has_a_time_and_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    agreed = planted(monkeypatch, zeros, is_yardstick=True)
    assert set(agreed.calls) == {"ours", "fault"}
    assert set(agreed.checks) == {"ours"}


def test_nothing_is_compared_with_a_wrong_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = cases.LAYERS["ssd"]
    ours = layer.contenders[0]
    wrong = dataclasses.replace(ours, make=lambda shape, device: without_tail(ours.make(shape, device)))
    monkeypatch.setitem(cases.LAYERS, "ssd", dataclasses.replace(layer, contenders=(wrong, *layer.contenders[1:])))
    with pytest.raises(DisagreementError, match=r"^ssd/forward: ours: its relative error is 1 in output, tokens 288 "):
        agree("ssd/forward", SMALL)


@pytest.mark.parametrize("case", cases.CASES)
def test_everyone_on_this_machine_agrees(case: str) -> None:
    """And the planner's list, which no import stands behind, is the list of those who can be called."""
    agreed = agree(case, SMALL)
    assert not agreed.refused
    assert list(agreed.calls) == ["ours", *installed_peers(*case.split("/"), "cpu")]
    assert set(agreed.calls) - set(agreed.checks) <= {"matmul floor", "SDPA, full causal"}


@pytest.mark.parametrize("case", cases.CASES)
def test_in_bfloat16_as_on_a_gpu_our_forms_and_those_for_both_platforms_agree(case: str) -> None:
    agreed = agree(case, dataclasses.replace(SMALL, dtype="bfloat16"))
    assert agreed.checks["ours"].bound == bound("bfloat16", SMALL.tokens) > bound("float32", SMALL.tokens)
    assert not agreed.refused.keys() & {one.name for one in cases.contenders(case, "cuda")}


def test_all_contenders_are_given_inputs_of_one_type_and_gates_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[torch.dtype] = []

    def note(ours: Function) -> Function:
        def noted(*inputs: torch.Tensor) -> object:
            given[:] = [tensor.dtype for tensor in inputs]
            return ours(*inputs)

        return noted

    layer = cases.LAYERS["ssd"]
    ours = layer.contenders[0]
    peer = Contender("peer", lambda shape, device: note(ours.make(shape, device)))
    monkeypatch.setitem(cases.LAYERS, "ssd", dataclasses.replace(layer, contenders=(ours, peer)))
    agree("ssd/forward", dataclasses.replace(SMALL, dtype="bfloat16"))
    assert given == [torch.bfloat16] * 3 + [torch.float32] * 2
    assert PLATFORM_DTYPES == {"cpu": "float32", "cuda": "bfloat16"}


def test_batches_are_packed_where_a_kernel_has_no_batch() -> None:
    for case in ("delta_rule/forward", "ssd/forward"):
        assert not agree(case, dataclasses.replace(SMALL, batch=2)).refused
