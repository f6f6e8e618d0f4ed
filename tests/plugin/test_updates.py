"""Updates of the baselines: only what was measured, comments kept, written once, nothing from a failure."""

from __future__ import annotations

import pytest

from hybrid_ops.measure.metrics import Kind
from hybrid_ops.regression.judge import PRIORS, tolerance_from_launches
from hybrid_ops.regression.update import LAUNCHES_OF_AN_UPDATE, SPARE_LAUNCHES_OF_AN_UPDATE
from tests.plugin.suite import Suite


def test_comments_and_unmeasured_cells_survive(suite: Suite) -> None:
    suite.add_model("steady")
    suite.run("--update-baselines", "--perf-suite=full")
    path = suite.edit_baseline("steady", "steady/brief", "output_throughput", lambda value: value * 3)
    lines = path.read_text().splitlines()
    noted = [line + "  # doubled by the new scheduler" if "median_ttft_ms" in line else line for line in lines]
    path.write_text("# Reviewed by the kernel team.\n" + "\n".join(noted) + "\n")
    before = path.read_text()

    result = suite.run("--update-baselines", "-k", "steady/brief-output_throughput")

    assert result.ret == 0
    after = path.read_text()
    assert "# Reviewed by the kernel team." in after
    assert after.count("# doubled by the new scheduler") == 2
    changed = [(a, b) for a, b in zip(before.splitlines(), after.splitlines()) if a != b]
    assert {line.strip().partition(":")[0] for pair in changed for line in pair} <= {"output_throughput", "recorded"}
    result.stdout.fnmatch_lines(["steady/brief output_throughput: 1500 tok/s → 500 tok/s"])


def test_exact_metrics_need_one_launch(suite: Suite) -> None:
    suite.add_model("steady")
    suite.run("--update-baselines", "-k", "steady/brief-output_tokens or steady/brief-output_hash")
    document = suite.results()
    assert len(document["launches"]) == 1
    assert len(document["update"]["written"]) == 2


def test_a_failed_measurement_updates_nothing(suite: Suite) -> None:
    suite.add_model("broken", arguments={"fail": {"on": "generate", "how": "raise"}})
    result = suite.run("--update-baselines")
    assert result.ret == 1
    assert suite.baseline_files("broken") == []
    assert len(suite.results()["update"]["refused"]) == 20


def test_an_unstable_measurement_is_refused(suite: Suite) -> None:
    suite.add_model("wild", arguments={"noise": 5.0})
    suite.run("--update-baselines")
    refused = suite.results()["update"]["refused"]
    assert "unstable" in refused["wild/brief-output_throughput"]
    assert not any("output_throughput" in path.read_text() for path in suite.baseline_files("wild"))
    assert len(suite.results()["launches"]) == LAUNCHES_OF_AN_UPDATE + SPARE_LAUNCHES_OF_AN_UPDATE


def test_a_lone_slow_launch_is_made_up_for_and_named_in_the_file(suite: Suite) -> None:
    suite.add_model("disturbed", arguments={"slow_launch": 2})
    suite.run("--update-baselines", "-k", "disturbed/brief-output_throughput")
    assert len(suite.results()["launches"]) == LAUNCHES_OF_AN_UPDATE + 1
    cell = suite.baseline("disturbed", "disturbed/brief", "output_throughput")
    assert cell["launches"] == [500, 500, 500]
    assert cell["outliers"] == [pytest.approx(500 / 3, rel=1e-4)]
    assert (cell["value"], cell["tolerance"]) == (500, pytest.approx(0.119, abs=0.02))

    suite.add_model("disturbed", arguments={"slow_launch": 9})
    suite.run("--update-baselines", "-k", "disturbed/brief-output_throughput")
    assert "outliers" not in suite.baseline("disturbed", "disturbed/brief", "output_throughput")


def test_an_update_narrows_its_own_tolerance_but_not_a_persons(suite: Suite) -> None:
    suite.add_model("steady")
    suite.run("--update-baselines")
    scattered = [400.0, 500.0, 600.0]
    recorded = tolerance_from_launches(scattered, PRIORS["cpu"][Kind.ABSOLUTE])
    for metric, tolerance in (("output_throughput", recorded), ("decode_throughput", recorded + 0.1)):
        suite.edit_baseline(
            "steady", "steady/brief", metric, lambda value: value, tolerance=tolerance, launches=scattered
        )
    suite.run("--update-baselines")
    assert suite.baseline("steady", "steady/brief", "output_throughput")["tolerance"] < recorded
    assert suite.baseline("steady", "steady/brief", "decode_throughput")["tolerance"] == recorded + 0.1


def test_portable_cells_that_pass_are_not_rewritten(suite: Suite) -> None:
    suite.add_model("steady")
    suite.run("--update-baselines")
    portable = [path for path in suite.baseline_files("steady") if path.parent.name in ("any", "cpu")]
    before = {path: path.read_bytes() for path in portable}
    suite.run("--update-baselines")
    assert len(portable) == 2
    assert {path: path.read_bytes() for path in portable} == before


@pytest.mark.parametrize("workers", [[], ["-n2"]])
def test_an_update_alone_is_a_performance_run(suite: Suite, workers: list[str]) -> None:
    suite.add_model("steady")
    options = [option for option in suite.arguments if option != "--perf"]
    result = suite.pytest(*options, "--update-baselines", *workers, "-k", "steady/brief-output or ordinary")
    assert result.ret == 0, result.stdout.str()
    assert result.parseoutcomes()["passed"] == 3, "the cells, and no ordinary test"
    assert len(suite.results()["update"]["written"]) == 3


def test_xdist_measures_each_engine_once_and_writes_once(suite: Suite) -> None:
    for name in ("one", "two", "three"):
        suite.add_model(name)
    result = suite.run("--update-baselines", "-n2")
    assert result.ret == 0, result.stdout.str()
    document = suite.results()
    assert len(list((suite.root / "perf_results").iterdir())) == 1
    assert sorted((launch["engine"], launch["index"]) for launch in document["launches"]) == sorted(
        (name, index) for name in ("one", "two", "three") for index in (1, 2, 3)
    )
    assert len(document["update"]["written"]) == 60
    result.stdout.fnmatch_lines(["*one: loading*"])
    compared = suite.run("-n2")
    assert compared.parseoutcomes()["passed"] == 60
