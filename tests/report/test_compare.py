"""`hybrid-perf compare`: a real run against altered copies of it, against the history, and load generator's results."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hybrid_ops.cli import main

SPREAD = (1.0, 1.004, 0.997, 1.002, 0.999)
"""Five launches of one value."""
Captured = pytest.CaptureFixture[str]


@pytest.fixture
def run(measured: Path) -> dict[str, Any]:
    """The results of a run of one model and two workloads, with four more launches of each noisy value."""
    results = json.loads(measured.read_text())
    results["cells"] = [cell for cell in results["cells"] if cell["case"].startswith("steady/")]
    for cell in results["cells"]:
        if cell["kind"] != "exact":
            cell["launches"] = [cell["value"] * factor for factor in SPREAD]
    return results


@pytest.fixture
def sides(run: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Writes a changed copy of the run under a name, in the folder that the command runs in."""
    monkeypatch.chdir(tmp_path)

    def write(name: str, change: Callable[[dict[str, Any]], None] = lambda document: None) -> Path:
        document = copy.deepcopy(run)
        document["run_id"] = f"night-{name}"
        change(document)
        path = Path(f"{name}.json")
        path.write_text(json.dumps(document))
        return path

    return write


def scaled(metric: str, factor: float) -> Callable[[dict[str, Any]], None]:
    def change(document: dict[str, Any]) -> None:
        for cell in document["cells"]:
            if cell["metric"] == metric:
                cell["launches"] = [value * factor for value in cell["launches"]]

    return change


def compared(capsys: Captured, *words: str | Path, code: int) -> list[dict[str, Any]]:
    assert main(["compare", *map(str, words), "--format", "json"]) == code
    return json.loads(capsys.readouterr().out)


def cell_of(comparison: dict[str, Any], case: str, metric: str) -> dict[str, Any]:
    return next(cell for cell in comparison["cells"] if (cell["case"], cell["metric"]) == (case, metric))


def test_a_run_against_itself_is_undecided_and_equal(sides: Callable[..., Path], capsys: Captured) -> None:
    [comparison] = compared(capsys, sides("a"), sides("b"), code=0)
    assert {cell["verdict"] for cell in comparison["cells"]} == {"pass", "inconclusive"}
    throughput = cell_of(comparison, "steady/brief", "output_throughput")
    assert throughput["ratio"] == pytest.approx(1)
    assert throughput["interval"][0] < 1 < throughput["interval"][1]
    assert throughput["launches"] == [5, 5]
    assert comparison["differs"] == "nothing that is recorded differs"
    lists = [comparison[name] for name in ("refused", "only_before", "only_after", "unmeasured")]
    assert lists == [[], [], [], []]


def test_what_is_worse_ends_with_one(sides: Callable[..., Path], capsys: Captured) -> None:
    slow = sides("slow", scaled("output_throughput", 0.6))
    good, fast = sides("good"), sides("fast", scaled("output_throughput", 1.6))
    worse, better = compared(capsys, good, slow, fast, code=1)
    for comparison, verdict, ratio in ((worse, "slower", 0.6), (better, "faster", 1.6)):
        cell = cell_of(comparison, "steady/wide", "output_throughput")
        assert (cell["verdict"], cell["ratio"]) == (verdict, pytest.approx(ratio))
        assert cell["interval"][0] < ratio < cell["interval"][1]
        [mean] = [mean for mean in comparison["geometric_means"] if mean["metric"] == "output_throughput"]
        assert (mean["model"], mean["ratio"], mean["cases"]) == ("steady", pytest.approx(ratio), 2)
    assert (worse["worse"], better["worse"]) == (True, False)
    assert compared(capsys, good, slow, "--metric", "*_itl_ms", code=0)[0]["worse"] is False
    allowed = compared(capsys, good, slow, "--tolerance", "0.9", code=0)
    assert cell_of(allowed[0], "steady/wide", "output_throughput")["verdict"] == "pass"


def test_an_exact_metric_that_differs_has_changed(sides: Callable[..., Path], capsys: Captured) -> None:
    more = sides("more", scaled("output_tokens", 2))
    [comparison] = compared(capsys, sides("a"), more, code=1)
    assert cell_of(comparison, "steady/brief", "output_tokens")["verdict"] == "changed"


def exact(value: object, **more: object) -> Callable[[dict[str, Any]], None]:
    """A change that gives one exact cell this value, and further fields."""

    def change(document: dict[str, Any]) -> None:
        for cell in document["cells"]:
            if (cell["case"], cell["metric"]) == ("steady/brief", "output_tokens"):
                cell |= {"value": value, "launches": [value], **more}

    return change


@pytest.mark.parametrize(
    ("fields", "before", "alike", "other"),
    [
        ({"bound": 0.5, "direction": "lower"}, 0.1, 0.4, 0.6),
        ({"rounding": 1e-6}, "3.5 2.0", "3.5 2.0000001", "3.5 2.1"),
        ({"metric": "leading_tokens"}, "4 5 6 / 7 8", "4 5 9 / 7 1", "1 5 6 / 7 8"),
    ],
    ids=["bound", "rounding", "tokens"],
)
def test_what_is_exact_within_limits(
    sides: Callable[..., Path], capsys: Captured, fields: dict[str, Any], before: object, alike: object, other: object
) -> None:
    """As a run judges them: a value within its bound, or apart by rounding alone, has not changed."""
    first = sides("a", exact(before, **fields))
    same, different = compared(
        capsys, first, sides("b", exact(alike, **fields)), sides("c", exact(other, **fields)), code=1
    )
    metric = fields.get("metric", "output_tokens")
    told = [cell_of(one, "steady/brief", metric) for one in (same, different)]
    assert [(cell["verdict"], cell["before"], cell["after"]) for cell in told] == [
        ("pass", before, alike),
        ("changed", before, other),
    ]


def test_definitions_missing_cells_and_versions(sides: Callable[..., Path], capsys: Captured) -> None:
    def change(document: dict[str, Any]) -> None:
        document["versions"]["vllm"] = "9.9"
        document["launches"][0]["arguments"]["step_ms"] = 7
        document["cells"] = [cell for cell in document["cells"] if cell["metric"] != "p90_itl_ms"]
        for cell in document["cells"]:
            if cell["case"] == "steady/wide":
                cell["definition"] = "0123456789ab"
            if cell["metric"] == "median_ttft_ms":
                cell |= {"verdict": "failed-to-run", "reason": "out of memory", "value": None, "launches": []}

    a, b = sides("a"), sides("b", change)
    [comparison] = compared(capsys, a, b, code=0)
    assert comparison["refused"] == ["steady/wide"]
    assert {cell["case"] for cell in comparison["cells"]} == {"steady/brief"}
    assert comparison["only_before"] == ["steady/brief p90_itl_ms", "steady/wide p90_itl_ms"]
    assert comparison["only_after"] == []
    assert "steady/brief median_ttft_ms: b.json: failed-to-run: out of memory" in comparison["unmeasured"]
    assert "vllm not set -> 9.9" in comparison["differs"]
    assert "step_ms" in comparison["differs"]
    [across] = compared(capsys, a, b, "--across-definitions", code=0)
    assert {cell["case"] for cell in across["cells"]} == {"steady/brief", "steady/wide"}
    assert main(["compare", str(a), str(b), "--case", "steady/wide"]) == 2
    assert "steady/wide: defined otherwise on the two sides" in capsys.readouterr().err


def test_text_and_markdown(sides: Callable[..., Path], capsys: Captured) -> None:
    a, b = sides("a"), sides("b", scaled("median_itl_ms", 2))
    assert main(["compare", str(a), str(b)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "b.json against a.json"
    words = next(line.split() for line in lines if line.startswith("steady/brief  median_itl_ms"))
    assert words[6] == "×2.000"
    assert words[-2:] == ["5+5", "slower"]
    assert next(line.split() for line in lines if line.startswith("steady/brief  output_throughput"))[-1] == "~"
    assert any(line.startswith("steady  median_itl_ms") and line.split()[2:] == ["×2.000", "2"] for line in lines)
    assert lines[-1] == "differs: nothing that is recorded differs"
    assert main(["compare", str(a), str(b), "--format", "markdown", "--all"]) == 1
    text = capsys.readouterr().out
    assert text.startswith("## b.json against a.json\n\n| case ")
    assert len([line for line in text.splitlines() if line.startswith("| steady/")]) > len(lines) / 2


def test_runs_of_the_history(sides: Callable[..., Path], capsys: Captured) -> None:
    paths = [sides("first"), sides("second", scaled("output_throughput", 0.6))]
    assert main(["history", "add", *map(str, paths), "--store", "history.sqlite"]) == 0
    capsys.readouterr()
    [comparison] = compared(capsys, "night-first", "night-second", "--store", "history.sqlite", code=0)
    assert cell_of(comparison, "steady/brief", "output_tokens")["verdict"] == "pass"
    throughput = cell_of(comparison, "steady/brief", "output_throughput")
    assert (throughput["launches"], throughput["verdict"]) == ([1, 1], "inconclusive"), "one value shows no noise"
    [mixed] = compared(capsys, paths[0], "night-second", "--store", "history.sqlite", code=0)
    assert len(mixed["cells"]) == len(comparison["cells"])
    assert main(["compare", "night-first", "night-third", "--store", "history.sqlite"]) == 2
    assert "no run 'night-third' with results" in capsys.readouterr().err


def bench(path: Path, rate: float, **changes: Any) -> Path:
    """What `vllm bench serve` writes, of five runs of one load."""
    result = {
        "date": "20261101-020000", "backend": "openai", "model_id": "org/model-7b", "num_prompts": 100,
        "request_rate": "inf", "burstiness": 1.0, "max_concurrency": 8, "duration": 10.0, "completed": 100,
        "total_input_tokens": 1000, "total_output_tokens": 2000, "request_goodput": None, "mean_ttft_ms": 40.0,
        "std_ttft_ms": 3.0,
    }  # fmt: skip
    lines = [{**result, "request_throughput": rate * factor, **changes} for factor in SPREAD]
    path.write_text("\n".join(json.dumps(line) for line in lines))
    return path


def test_results_of_the_load_generator(tmp_path: Path, capsys: Captured) -> None:
    a, b = bench(tmp_path / "a.json", 10.0), bench(tmp_path / "b.json", 6.0)
    [comparison] = compared(capsys, a, b, code=1)
    rate = cell_of(comparison, "model-7b/bench-serve", "request_throughput")
    assert (rate["verdict"], rate["ratio"], rate["unit"]) == ("slower", pytest.approx(0.6), "req/s")
    metrics = {cell["metric"] for cell in comparison["cells"]}
    assert metrics == {"request_throughput", "completed", "total_input_tokens", "mean_ttft_ms"}
    other = bench(tmp_path / "other.json", 10.0, max_concurrency=16)
    assert main(["compare", str(a), str(other)]) == 2
    assert "model-7b/bench-serve: defined otherwise on the two sides" in capsys.readouterr().err
    failed = bench(tmp_path / "failed.json", 12.0, completed=90)
    assert main(["compare", str(a), str(failed)]) == 2
    assert "10 of 100 requests failed" in capsys.readouterr().err


def test_bad_sources_are_named(sides: Callable[..., Path], capsys: Captured) -> None:
    def two_arms(document: dict[str, Any]) -> None:
        arm = {"name": "a", "interpreter": "python", "environment": {}, "arguments": {}}
        document["arms"] = [arm, arm]

    a, arms = sides("a"), sides("arms", two_arms)
    for words, message in (
        ([a], "give two sources or more"),
        ([a, arms], "arms.json: it compares two arms already"),
        ([a, "nowhere"], "nowhere: nothing to compare is there"),
        ([a, a, "--case", "other/*"], "nothing to compare: no cell is on both sides"),
    ):
        assert main(["compare", *map(str, words)]) == 2
        assert message in capsys.readouterr().err
