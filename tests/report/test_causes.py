"""What is bad in a run, one cause after the other: what belongs together, in which order, and within which width."""

from __future__ import annotations

from typing import Any

import pytest

from hybrid_ops.regression.results import RunResults
from hybrid_ops.report.causes import causes
from hybrid_ops.report.render import WIDTH, terminal_lines
from hybrid_ops.report.verdicts import Verdicts
from tests.regression.history.nights import cell, results

DEAD = (
    "the engine process died during 'load': killed by signal SIGKILL (the kernel's out-of-memory killer, or a person)"
)
METRICS = ("output_throughput", "median_ttft_ms", "median_itl_ms", "p99_itl_ms", "median_step_ms")


def run_of(*cells: dict[str, Any], **fields: Any) -> RunResults:
    return RunResults.model_validate(results(0, list(cells), **fields))


def failed(model: str, metric: str, reason: str = DEAD) -> dict[str, Any]:
    return cell(None, f"{model}/short", metric=metric, verdict="failed-to-run", reason=reason)


def slower(model: str, metric: str, change: float = 0.5, **fields: Any) -> dict[str, Any]:
    told = {"verdict": "slower", "reason": f"{change:+.0%} (worse)", **fields}
    return cell(10 * (1 + change), f"{model}/short", metric=metric, change=change, baseline=10.0, tolerance=0.1, **told)


def changed(model: str, metric: str, reason: str = "2 instead of 1") -> dict[str, Any]:
    case = f"{model}/short"
    return cell(2, case, metric=metric, kind="exact", verdict="changed", baseline=1, reason=reason)


def told(run: RunResults) -> list[tuple[str, list[str]]]:
    """Verdict and cells of each cause."""
    return [(cause.verdict.value, [one.cell for one in cause.cells]) for cause in causes(run.cells)]


def lines(run: RunResults, is_verbose: bool = False) -> list[str]:
    section = Verdicts().section(run)
    assert section is not None
    return [line for line, _ in terminal_lines(section, is_verbose)]


def test_an_engine_that_dies_is_one_cause_with_what_was_to_be_divided_by_it() -> None:
    follower = failed("follower", "relative_output_throughput", f"the reference dead/short failed: {DEAD}")
    run = run_of(*(failed("dead", metric) for metric in METRICS), follower, cell(1.0))
    [(verdict, cells)] = told(run)
    assert (verdict, len(cells)) == ("failed-to-run", 6)
    text = "\n".join(lines(run))
    assert text.count("SIGKILL") == 1
    assert "failed-to-run: dead/short, follower/short: the engine process died" in text
    assert text.count("measure again: pytest --perf -k 'dead/short or follower/short'") == 1


def test_different_errors_are_different_causes() -> None:
    run = run_of(failed("a", "x", "no kernel"), failed("b", "x", "no weights"), failed("c", "x", "no kernel"))
    assert told(run) == [("failed-to-run", ["a/short-x", "c/short-x"]), ("failed-to-run", ["b/short-x"])]


def test_an_exact_metric_that_changed_in_many_models_is_one_cause_and_so_is_a_model_of_which_much_changed() -> None:
    hashes = [changed(name, "output_hash", f"{name} instead of z") for name in "abc"]
    blocks = [changed("d", metric, f"2 {metric} instead of 1") for metric in ("kv_cache_blocks", "kv_cache_page_bytes")]
    assert told(run_of(*blocks, *hashes)) == [
        ("changed", ["a/short-output_hash", "b/short-output_hash", "c/short-output_hash"]),
        ("changed", ["d/short-kv_cache_blocks", "d/short-kv_cache_page_bytes"]),
    ]
    text = "\n".join(lines(run_of(*blocks, *hashes)))
    assert "changed: a/short-output_hash, b/short-output_hash, c/short-output_hash: a instead of z" in text
    assert "changed: d/short-kv_cache_blocks (and 1 more of d): 2 kv_cache_blocks instead of 1" in text


def test_the_worst_comes_first_and_an_update_settles_what_it_records() -> None:
    run = run_of(
        cell(1.0, "p/short", metric="median_itl_ms"),
        failed("f", "x"),
        changed("c", "output_hash"),
        slower("s", "x", 0.2),
        slower("t", "x", 0.9),
        slower("r", "x", 3.0, recorded=True),
    )
    assert [cells[0].partition("/")[0] for _, cells in told(run)] == ["t", "s", "c", "f"]
    shown = [line.split()[0].partition("/")[0] for line in lines(run)]
    assert shown[shown.index("case") + 1 :][:6] == ["r", "t", "s", "c", "f", "p"]


@pytest.mark.parametrize("is_verbose", [False, True])
def test_no_line_is_wider_than_a_terminal(is_verbose: bool) -> None:
    long = "a-model-whose-name-is-as-long-as-names-of-models-come@and-a-configuration"
    metrics = (*METRICS, "relative_kv_cache_bytes_per_request@32768")
    cells = [slower(f"{long}-{number}", metric) for number in range(9) for metric in metrics]
    cells.append(failed("broken", "x", "an error " * 40))
    hashes = {"kind": "exact", "verdict": "changed", "baseline": "00" * 200, "reason": "they differ"}
    cells.append(cell("ff" * 200, f"{long}/h", metric="output_hash", **hashes))
    run = run_of(*cells, command="pytest --perf --perf-suite=full --perf-models=my/models.yaml --perf-launches=12")
    shown = lines(run, is_verbose)
    assert max(map(len, shown)) <= WIDTH
    assert f"{long}-0/short" in shown, "a case stands above its rows"
