"""Utilisation through the plugin: a model that can be accounted for has its metrics, against one set of peaks."""

from __future__ import annotations

import json

from hybrid_ops.models.configs import find_config
from tests.plugin.suite import Suite

UTILISATION = {"mfu", "mbu", "roofline_share", "arithmetic_intensity"}


def test_an_update_records_the_processors_peaks_later_runs_use_them_and_broken_ones_are_one_line(suite: Suite) -> None:
    (suite.root / "llama.json").write_text(find_config("llama-tiny").read_text())
    suite.add_model("accounted", config="llama.json")
    suite.add_model("unknown")
    assert suite.run("--update-baselines").ret == 0
    metrics = {model: {cell["metric"] for cell in suite.results()["cells"] if cell["case"].startswith(model)}
               for model in ("accounted", "unknown")}  # fmt: skip
    assert metrics["accounted"] - metrics["unknown"] == UTILISATION
    [path] = (suite.root / "perf_baselines").glob("*/peaks.json")
    peaks = suite.results()["device"]["peaks"]
    assert json.loads(path.read_text()) == peaks

    # Half the peaks: a fresh measurement would not be so far off, so this shows where they come from.
    halved = peaks | {"flops": {"bfloat16": peaks["flops"]["bfloat16"] / 2}, "bandwidth": peaks["bandwidth"] / 2}
    path.write_text(json.dumps(halved))
    assert suite.run().ret == 0
    assert suite.results()["device"]["peaks"] == halved
    verdicts = suite.verdicts()
    assert {verdicts[f"accounted/brief-{name}"] for name in ("mfu", "mbu", "roofline_share")} == {"faster"}
    assert verdicts["accounted/brief-arithmetic_intensity"] == "pass"

    path.write_text("fast")
    result = suite.run()
    assert result.ret != 0
    result.stderr.fnmatch_lines(["*peaks.json: not the peaks of a device*remove it to measure them anew*"])


def test_peaks_are_not_measured_where_nothing_needs_them(suite: Suite) -> None:
    suite.add_model("unknown")
    assert suite.run().ret == 0
    assert suite.results()["device"]["peaks"] is None
