"""What a night tells of a history: once, by cause, and nothing where nothing changed."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from hybrid_ops.cli import main
from hybrid_ops.regression.history.store import History
from hybrid_ops.regression.results import RunResults
from tests.regression.history.nights import START, cell, launch, results

METRICS = {"output_throughput": ("tok/s", "higher"), "median_itl_ms": ("ms", "lower"), "p99_itl_ms": ("ms", "lower")}


class Store:
    """A history that grows night by night."""

    def __init__(self, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.path = path
        self._capsys = capsys
        self.nights = 0

    def night(self, *cells: dict[str, Any], suite: str = "quick", device: str = "h200", **fields: Any) -> None:
        run = RunResults.model_validate(results(self.nights, list(cells), device, **fields))
        with History(self.path, create=True) as history:
            history.add(run, suite)
        self.nights += 1

    def gap(self, problem: str = "pytest was interrupted", suite: str = "quick") -> None:
        with History(self.path, create=True) as history:
            history.add_gap(f"night-{self.nights:04}", START + timedelta(days=self.nights), suite, problem)
        self.nights += 1

    def told(self, *words: str) -> str:
        """What a dry run prints of the newest night; empty where there is nothing to say."""
        assert main(["notify", "--store", str(self.path), "--dry-run", *words]) == 0
        said = self._capsys.readouterr()
        assert (said.out == "") == (said.err == "hybrid-perf notify: nothing to say\n")
        return said.out


@pytest.fixture
def store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Store:
    return Store(tmp_path / "history.sqlite", capsys)


def engine(
    name: str = "llama-tiny", factor: float = 1.0, verdict: str | None = None, workload: str = "short", **fields: Any
) -> list[dict[str, Any]]:
    """The cells of one case of an engine that takes `factor` times as long."""
    made = []
    for metric, (unit, direction) in METRICS.items():
        value = 100.0 / factor if direction == "higher" else 2.0 * factor
        told = {
            "verdict": verdict or ("slower" if factor > 1.1 else "pass"),
            "baseline": 100.0 if direction == "higher" else 2.0,
            "tolerance": 0.1,
            "engine": name,
            "unit": unit,
            "direction": direction,
            **fields,
        }
        made.append(cell(value, f"{name}/{workload}", metric=metric, **told))
    return made


def broken(name: str = "llama-tiny", reason: str = "RuntimeError: out of memory\nat line 3") -> list[dict[str, Any]]:
    return [
        {**one, "value": None, "launches": [], "verdict": "failed-to-run", "reason": reason} for one in engine(name)
    ]


def test_a_regression_is_told_once_with_its_cause_figures_and_commands(store: Store) -> None:
    store.night(*engine(), *engine("zamba-tiny"), launches=[launch("llama-tiny", {"max_num_seqs": 64})])
    assert store.told() == ""
    command = "pytest --perf '--perf-baselines=my folder' --perf-run-id=night-0001 -k llama"
    late = {"launches": [launch("llama-tiny", {"max_num_seqs": 32})], "command": command}
    store.night(*engine(factor=1.4), *engine("zamba-tiny"), **late)
    assert store.told().splitlines() == [
        "Performance on `h200`: 3 cells worse; night `night-0001`",
        "",
        "*New*",
        "• `llama-tiny/short`: 3 of 3 cells slower together, 40 % worse (median)",
        "      `median_itl_ms 2 ms in the baseline, 2.8 ms now (+40.0 %)`",
        "      `output_throughput 100 tok/s in the baseline, 71.43 tok/s now (-28.6 %)`",
        "      `p99_itl_ms 2 ms in the baseline, 2.8 ms now (+40.0 %)`",
        "",
        "• differs from `night-0000`: `llama-tiny: max_num_seqs 64 -&gt; 32; command pytest --perf -&gt; pytest --perf "
        "'--perf-baselines=my folder' --perf-run-id=RUN -k llama; otherwise nothing that is recorded differs`",
        "• measure again: `pytest --perf '--perf-baselines=my folder' -k llama-tiny/short`",
        "• accept, if it is intended: `pytest --perf '--perf-baselines=my folder' --update-baselines "
        "-k llama-tiny/short`",
        "• summary: `perf_results/night-0001/summary.md`",
    ]
    for _ in range(3):
        store.night(*engine(factor=1.42), *engine("zamba-tiny"), **late)
        assert store.told() == "", "the same regression, which after three nights is a step, too"


def test_an_accepted_regression_is_told_as_recovered_and_then_nothing_is(store: Store) -> None:
    store.night(*engine())
    store.night(*engine(factor=1.4))
    accepted = [{**one, "verdict": "pass", "baseline": one["value"]} for one in engine(factor=1.4)]
    store.night(*accepted)
    said = store.told()
    assert "3 cells recovered" in said
    assert "`llama-tiny/short`: 3 of 3 cells fine again; the baseline was recorded anew for 3" in said
    assert "accept" not in said
    store.night(*accepted)
    assert store.told() == ""


def test_a_repair_is_told_as_recovered_and_its_old_step_keeps_nothing_open(store: Store) -> None:
    for factor in [*[1.0] * 4, *[1.4] * 4]:
        store.night(*engine(factor=factor))
    store.night(*engine())
    assert "3 of 3 cells fine again" in store.told()
    for _ in range(4):
        store.night(*engine())
        assert store.told() == ""


def test_what_gets_worse_than_told_is_told_again_and_small_moves_are_not(store: Store) -> None:
    for factor, word in [(1.0, ""), (1.4, "New"), (1.5, ""), (1.6, "Worse than told before"), (1.4, ""), (1.62, "")]:
        store.night(*engine(factor=factor))
        assert (f"*{word}*" in store.told().splitlines()) if word else store.told() == ""
    # A slow creep is compared with what was told, not with the night before.
    for factor in (1.7, 1.74):
        store.night(*engine(factor=factor))
        assert store.told() == ""
    store.night(*engine(factor=1.8))
    assert "60 %" not in store.told()
    assert "80 % worse (median), since `night-0001`" in store.told()


def test_a_noisy_cell_of_a_told_engine_is_no_news(store: Store) -> None:
    store.night(*engine())
    store.night(*engine(factor=1.4)[:2], *engine(verdict="inconclusive")[2:])
    assert "2 cells worse" in store.told()
    store.night(*engine(factor=1.4)[:2], *engine(factor=1.2)[2:])
    assert store.told() == ""
    store.night(*engine(factor=1.4)[:1], *engine(verdict="pass")[1:])
    assert store.told() == ""
    store.night(*engine(verdict="inconclusive"))
    assert store.told() == "", "what is undecided stays as it was known"


def test_a_noisy_cell_does_not_keep_a_repaired_engine_bad(store: Store) -> None:
    store.night(*engine())
    store.night(*engine(factor=1.4))
    store.night(*engine()[:1], *engine(verdict="inconclusive")[1:])
    assert store.told() == "", "two of three cells are undecided"
    store.night(*engine(factor=1.4))
    assert store.told() == ""
    store.night(*engine()[:2], *engine(verdict="inconclusive")[2:])
    assert "3 of 3 cells fine again" in store.told()
    store.night(*engine(factor=1.4))
    assert "*New*" in store.told()


def test_a_new_baseline_accepts_what_is_then_undecided(store: Store) -> None:
    store.night(*engine())
    store.night(*engine(factor=1.4))
    store.night(*[{**one, "verdict": "inconclusive", "baseline": one["value"]} for one in engine(factor=1.4)])
    assert "the baseline was recorded anew for 3" in store.told()


def test_memory_is_another_cause_than_pace(store: Store) -> None:
    def memory(value: float, verdict: str) -> dict[str, Any]:
        told = {"metric": "peak_memory_bytes", "unit": "B", "baseline": 1024.0, "tolerance": 0.05}
        return cell(value, "llama-tiny/short", verdict=verdict, engine="llama-tiny", **told)

    store.night(*engine(), memory(1024.0, "pass"))
    store.night(*engine(factor=1.4), memory(1024.0, "pass"))
    store.night(*engine(factor=1.4), memory(2048.0, "slower"))
    said = store.told()
    assert "`llama-tiny/short peak_memory_bytes`: slower, 100 % worse" in said
    assert "still bad, as told before: 3 cells" in said


def test_one_metric_over_many_engines_is_one_entry_and_so_is_one_error(store: Store) -> None:
    names = ["a", "b", "c", "d", "e"]
    store.night(*[one for name in names for one in engine(name)])
    rows = []
    for name in names[:3]:
        rows += [*engine(name, factor=1.3)[:1], *engine(name)[1:]]
    store.night(*rows, *broken("d"), *broken("e"))
    said = store.told().splitlines()
    entries = [line for line in said if line.startswith("• `")]
    assert entries == [
        "• `output_throughput` on `a, b, c`: 3 of 5 cells slower together, 30 % worse (median)",
        "• `d, e`: 6 cells: `RuntimeError: out of memory`",
    ]
    assert any(line.startswith("• measure again: ") and line.endswith("'a/ or b/ or c/ or d/ or e/'`") for line in said)


def test_an_outage_is_told_once_and_hides_no_regression(store: Store) -> None:
    store.night(*engine(), *engine("zamba-tiny"))
    store.night(*engine(factor=1.4), *engine("zamba-tiny"))
    store.night(*broken(), *engine("zamba-tiny"))
    assert "3 cells: `RuntimeError: out of memory`" in store.told()
    store.night(*broken(), *engine("zamba-tiny"))
    assert store.told() == ""
    store.night(*engine(factor=1.4), *engine("zamba-tiny"))
    assert store.told() == "", "an outage followed by the same regression is no news"
    store.night(*engine(), *engine("zamba-tiny"))
    assert "3 of 3 cells fine again" in store.told()
    store.night(*engine(), *broken("zamba-tiny"))
    store.night(*engine(), *engine("zamba-tiny"))
    assert "• `zamba-tiny`: 3 cells" in store.told() and "*Measured again*" in store.told()


def test_a_night_without_results_is_told_once_and_is_no_recovery(store: Store) -> None:
    store.night(*engine())
    store.night(*engine(factor=1.4))
    store.gap()
    said = store.told()
    assert "Performance on `h200`: quick could not be measured; night `night-0002`" in said
    assert "• `quick`: `no results: pytest was interrupted`" in said and "recovered" not in said.lower()
    store.gap("nothing was selected")
    assert store.told() == ""
    store.night(*engine(factor=1.4))
    assert store.told() == ""
    store.gap()
    store.night(*engine())
    assert "3 cells recovered" in store.told()


def test_the_night_before_is_that_of_the_same_device_class(store: Store) -> None:
    store.night(*engine(factor=1.4))
    store.night(*engine(), device="a100")
    assert store.told() == ""
    store.night(*engine(factor=1.4))
    assert store.told() == "", "the night before on this device class was as slow"


def test_both_runs_of_a_night_are_one_message(store: Store) -> None:
    for factor in (1.0, 1.5):
        store.night(*engine(factor=factor))
        with History(store.path) as history:
            load = results(store.nights - 1, engine("served", factor))
            later = (START + timedelta(days=store.nights - 1, hours=1)).isoformat()
            load |= {"run_id": f"night-{store.nights - 1:04}-serving", "started": later}
            history.add(RunResults.model_validate(load), "serving")
    said = store.told()
    assert "6 cells worse; night `night-0001`" in said
    assert "`perf_results/night-0001/summary.md, perf_results/night-0001-serving/summary.md`" in said
    assert store.told("--night", "night-0000") == ""


def test_a_step_in_undecided_cells_is_told_once(store: Store) -> None:
    for night in range(9):
        factor = (1.3 if night >= 4 else 1.0) * (1 + 0.001 * (night % 3))
        store.night(*engine(factor=factor, verdict="inconclusive"))
        said = store.told()
        assert bool(said) == (night == 6), night
        if said:
            assert "*Changes that no single night shows*" in said
            assert "step of +30" in said and "last good night-0003 " in said


def test_a_first_night_that_is_bad_is_told(store: Store) -> None:
    store.night(*engine(factor=2.0))
    assert "100 % worse" in store.told()


def test_many_entries_are_cut_with_the_place_of_the_rest(store: Store) -> None:
    names = [f"model-{number:02}" for number in range(30)]
    store.night(*[one for name in names for one in engine(name)])
    store.night(*[one for name in names for one in engine(name, factor=1.5)])
    said = store.told()
    assert said.count("cells slower together") == 20
    assert "… and 10 more: see `perf_results/night-0001/summary.md`" in said


def test_what_comes_from_models_and_errors_is_no_markup(store: Store) -> None:
    store.night(*engine())
    store.night(*broken(reason="<!channel> `x` & <https://bad|click> @all"))
    assert "`&lt;!channel&gt; ʼxʼ &amp; &lt;https://bad|click&gt; @all`" in store.told()
    assert "`` <!channel> `x` & <https://bad|click> @all ``" in store.told("--issue", "github")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--night", "monday"], "no night monday is there; the newest are: night-0001, night-0000"),
        (["--link", "ftp://x"], "--link: not an address that begins with https:// or http://"),
    ],
)
def test_bad_words_are_one_line(
    store: Store, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    store.night(*engine())
    store.night(*engine())
    assert main(["notify", "--store", str(store.path), "--dry-run", *words]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.endswith(message + "\n") and said.err.count("\n") == 1
