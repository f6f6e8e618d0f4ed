"""Updates of the baselines: only what was measured, comments kept, written once, nothing from a failure."""

from __future__ import annotations

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


def test_portable_cells_that_pass_are_not_rewritten(suite: Suite) -> None:
    suite.add_model("steady")
    suite.run("--update-baselines")
    portable = [path for path in suite.baseline_files("steady") if path.parent.name in ("any", "cpu")]
    before = {path: path.read_bytes() for path in portable}
    suite.run("--update-baselines")
    assert len(portable) == 2
    assert {path: path.read_bytes() for path in portable} == before


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
