"""The plots of a run of 20 models: each is drawn, of nothing is drawn without data, and no two texts overlap."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import matplotlib.figure
import pytest
from matplotlib.text import Text

from hybrid_ops.cli import main
from hybrid_ops.measure.power_limit import SWEEPS
from hybrid_ops.regression.results import RunResults
from hybrid_ops.report.drawing import looks
from hybrid_ops.report.run_plots import PLOTS_FOLDER, write_run_plots
from tests.regression.history.nights import cell, launch, results

KINDS = ("llama-3.1-8b", "nemotron-h-8b", "falcon-h1-7b", "zamba2-2.7b", "gemma3-12b")
MODELS = [f"{kind}{suffix}" for suffix in ("", "@float32", "@fp8-kv-cache", "@tp2") for kind in KINDS]
WORKLOADS = ("short", "medium", "long", "decode", "prefill")
LENGTHS = (1024, 4096, 16384, 65536, 131072)
CONCURRENCIES = (1, 2, 4, 8, 16, 32)
PEAKS = {"name": "h200", "flops": {"bfloat16": 9.9e14, "float8_e4m3": 1.98e15}, "bandwidth": 4.8e12, "memory": 1.4e11,
         "source": "made up"}  # fmt: skip


def night() -> dict[str, Any]:
    """A made-up run of 20 models with every kind of data."""
    cells, launches = [], []
    loads: dict[str, Any] = {}
    limits: dict[str, Any] = {}
    for place, model in enumerate(MODELS):
        cases: dict[str, Any] = {}
        slow = 1 + 0.35 * (place % 7)
        for number, workload in enumerate(WORKLOADS):
            rate = 9000 / slow / (1 + number)
            cells += speeds(f"{model}/{workload}", rate, 20 * slow * (1 + number), 4 * slow)
            cases[f"{model}/{workload}"] = {
                "prefill_arithmetic_intensity": 120.0 * (1 + number),
                "prefill_flops_per_second": 4e14 / slow,
                "decode_arithmetic_intensity": 1.5 + number + place / 9,
                "decode_flops_per_second": 6e12 * (1 + number) / slow,
                "mean_power_watts": 350 + 17 * place + 40 * number,
                "tokens_per_joule": rate / (350 + 17 * place + 40 * number),
            }
        cells += [
            cell((place + 1) * (1 << 20) + length * 300 * (1 + place % 5), f"{model}/cache", unit="B", kind="exact",
                 metric=f"kv_cache_bytes_per_sequence@{length}", direction="none")
            for length in LENGTHS
        ]  # fmt: skip
        for limit, concurrency in [*((size, size) for size in CONCURRENCIES), ("unlimited", 2 * CONCURRENCIES[-1])]:
            case = f"{model}/chat-c{limit}"
            served = concurrency / (0.3 + 0.05 * concurrency * slow)
            loads[case] = {"max_concurrency": limit, "request_rate": "unlimited", "sweep": "chat"}
            cases[case] = {"request_throughput": served, "mean_e2el_ms": 1e3 * concurrency / served,
                           "mean_ttft_ms": 30 * slow * concurrency}  # fmt: skip
        if place == 0:
            for watts in (700, 500, 400, 300):
                case = f"{model}@{watts}W/decode"
                limits[case] = {"watts": watts, "sweep": f"{model}/decode", "throughput": "output_throughput"}
                rate = 900 * (1 - (1 - watts / 700) ** 2)
                cases[case] = {"output_throughput": rate, "joules_per_token": watts / rate}
        launches.append(launch(model, {}) | {"cases": {name: {"values": values} for name, values in cases.items()}})
    made = results(0, cells, launches=launches, loads=loads)
    return {**made, "device": {**made["device"], "peaks": PEAKS}, SWEEPS: limits}


def speeds(case: str, rate: float, first: float, between: float) -> list[dict[str, Any]]:
    units = {"output_throughput": ("tok/s", rate), "median_ttft_ms": ("ms", first), "median_itl_ms": ("ms", between)}
    return [
        cell(value, case, metric=metric, unit=unit, launches=[0.95 * value, 1.04 * value], baseline=1.1 * value)
        for metric, (unit, value) in units.items()
    ]


@pytest.fixture(scope="module")
def run() -> RunResults:
    return RunResults.model_validate(night())


@pytest.fixture(scope="module")
def figures(run: RunResults, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The figure behind each file that was written."""
    seen = {}
    save = matplotlib.figure.Figure.savefig

    def saved(figure: Any, path: Path, **options: Any) -> None:
        save(figure, path, **options)
        assert path.stat().st_size > 10_000
        seen[path.name] = figure

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matplotlib.figure.Figure, "savefig", saved)
        write_run_plots(run, tmp_path_factory.mktemp("run") / PLOTS_FOLDER, "png")
    return seen


def test_every_plot_is_drawn(figures: dict[str, Any]) -> None:
    assert set(figures) == {"by_model.png", "load_chat.png", "power_llama-3.1-8b_decode.png", "roofline.png",
                            "efficiency_over_power.png", "cache_over_length.png"}  # fmt: skip
    for name, figure in figures.items():
        assert figure.get_suptitle(), name
        for axis in figure.axes:
            assert axis.get_xlabel(), f"{name}: an axis has its unit"
            assert axis.get_ylabel() or name == "by_model.png", "whose rows are names"


@pytest.mark.parametrize("name", ["by_model.png", "load_chat.png", "power_llama-3.1-8b_decode.png", "roofline.png",
                                  "efficiency_over_power.png", "cache_over_length.png"])  # fmt: skip
def test_no_two_texts_overlap_and_none_leaves_the_figure(figures: dict[str, Any], name: str) -> None:
    figure = figures[name]
    whole = figure.bbox
    boxes = {text: text.get_window_extent() for text in texts(figure) if text.get_visible() and text.get_text().strip()}
    assert len(boxes) > 10
    for text, box in boxes.items():
        assert box.x0 >= whole.x0 - 1 and box.x1 <= whole.x1 + 1, text.get_text()
        assert box.y0 >= whole.y0 - 1 and box.y1 <= whole.y1 + 1, text.get_text()
    for (one, first), (other, second) in combinations(boxes.items(), 2):
        across = min(first.x1, second.x1) - max(first.x0, second.x0)
        down = min(first.y1, second.y1) - max(first.y0, second.y0)
        assert across < 1.5 or down < 1.5, f"{one.get_text()!r} and {other.get_text()!r}"


def texts(figure: Any) -> Iterator[Text]:
    """Every text that is seen in a figure. Matplotlib keeps labels of ticks beyond the ends of an axis, too."""
    yield from figure.texts
    for legend in (*figure.legends, *(axes.get_legend() for axes in figure.axes if axes.get_legend() is not None)):
        yield from legend.get_texts()
    for axes in figure.axes:
        yield from (axes.title, axes.xaxis.label, axes.yaxis.label, *axes.texts)
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            yield from (tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high)


def test_twenty_models_are_told_apart() -> None:
    assert len(set(looks([str(number) for number in range(56)]).values())) == 56


def test_a_run_without_data_has_no_plots_and_the_command_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lone = results(0, speeds("a/short", 100.0, 10.0, 1.0))
    assert write_run_plots(RunResults.model_validate(lone), tmp_path / "plots", "png") == []
    (tmp_path / "results.json").write_text(json.dumps(lone))
    assert main(["plot", str(tmp_path)]) == 2
    assert "it has nothing to draw" in capsys.readouterr().err
    assert not (tmp_path / "plots").exists()


def test_the_command_draws_them_again_in_another_format(
    run: RunResults, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lengths = night() | {"launches": [], "loads": {}, SWEEPS: {}}
    lengths["cells"] = [own for own in lengths["cells"] if "@" in own["metric"]]
    path = RunResults.model_validate(lengths).write(tmp_path)
    assert main(["plot", str(path), "--format", "svg", "--output-dir", str(tmp_path / "again")]) == 0
    assert capsys.readouterr().out.split() == [str(tmp_path / "again" / "plots" / "cache_over_length.svg")]
