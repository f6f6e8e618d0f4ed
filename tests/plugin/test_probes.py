"""Probes through the plugin, on the no-op engine: exact figures, their baselines, and what is no measurement."""

from __future__ import annotations

import pytest

from tests.plugin.suite import Suite, unwrapped

WORKLOADS = """
schema_version: 1
workloads:
  brief: {description: a few tokens, prompt_tokens: 8, generation_tokens: 4}
probes:
  cache: {kind: cache, description: figures, lengths: [100, 300]}
  prefixes: {kind: prefix, description: hits, shared_tokens: [8, 40]}
configurations:
  caching: {arguments: {enable_prefix_caching: true, dtype: float32}, models: [steady]}
suites:
  quick: [brief, cache, cache@caching, prefixes@caching]
"""
TEST_FILE = """
import pytest
from hybrid_ops.plugin import check

@pytest.mark.perf
def test_probe(probe_cell):
    check(probe_cell)
"""


@pytest.fixture
def probed(suite: Suite) -> Suite:
    suite.pytester.makepyfile(test_suite=TEST_FILE)
    (suite.root / "workloads.yaml").write_text(WORKLOADS)
    suite.add_model("steady")
    suite.add_model("plain")
    return suite


def run(suite: Suite, *arguments: str) -> pytest.RunResult:
    options = [option for option in suite.arguments if option != "-k" and not option.startswith("steady")]
    return suite.pytest(*options, "-k", "steady or plain", *arguments)


def values(suite: Suite) -> dict[str, object]:
    return {cell["cell"]: cell["value"] for cell in suite.results()["cells"]}


def test_figures_are_exact_and_a_configuration_is_launched_for_its_models_only(probed: Suite) -> None:
    assert run(probed, "--update-baselines").ret == 0
    seen = values(probed)
    assert seen["plain/cache-kv_cache_groups"] == "1 (1x full attention @ 1 layers)"
    assert seen["plain/cache-max_concurrency@100"] == 1000 / 7  # a block holds 16 tokens
    assert seen["steady@caching/prefixes-prefix_hit_tokens@8"] == 0
    assert seen["steady@caching/prefixes-prefix_hit_tokens@40"] == 32
    assert seen["steady@caching/prefixes-prefix_hit_rate@40"] == 100 * 32 / 48
    assert {launch["engine"] for launch in probed.results()["launches"]} == {"steady", "plain", "steady@caching"}
    assert run(probed).ret == 0
    assert set(probed.verdicts().values()) == {"pass"}  # a fraction without end compares equal to its baseline


def test_another_figure_is_changed(probed: Suite) -> None:
    run(probed, "--update-baselines")
    probed.edit_baseline("plain", "plain/cache", "kv_cache_blocks", lambda value: value + 1)
    assert run(probed).ret == 1
    verdicts = probed.verdicts()
    assert verdicts.pop("plain/cache-kv_cache_blocks") == "changed"
    assert set(verdicts.values()) == {"pass"}


def test_other_logits_after_a_hit_are_no_measurement(probed: Suite) -> None:
    probed.add_model("steady", arguments={"logit_error": 0.01})
    result = run(probed, "-k", "prefixes")
    assert result.ret == 1
    assert set(probed.verdicts().values()) == {"failed-to-run"}
    unwrapped(result).fnmatch_lines(
        ["*with 8 shared tokens, logits with the prefix cache differ by 0.01 from those without*"]
    )


def test_a_prefix_that_is_never_found_is_no_measurement(probed: Suite) -> None:
    file = probed.root / "workloads.yaml"
    file.write_text(file.read_text().replace("shared_tokens: [8, 40]", "shared_tokens: [8, 15]"))
    result = run(probed, "-k", "prefixes")
    assert result.ret == 1
    unwrapped(result).fnmatch_lines(["*of 15 shared tokens the prefix cache found none*"])


def test_arms_are_compared_in_exact_figures_alone(probed: Suite) -> None:
    """Such a case has no throughput by which rounds could be told to have settled."""
    options = ["--perf-ab", "--perf-arm-b=env.A=1", "-k", "plain/cache or caching/prefixes", "--perf-launches=2"]
    result = run(probed, *options)
    assert result.ret == 0, result.stdout.str()
    document = probed.results()
    assert {cell["verdict"] for cell in document["cells"]} == {"pass"}
    assert {cell["compared_with"] for cell in document["cells"]} == {"arm a"}
    assert {cell["case"] for cell in document["cells"]} == {"plain/cache", "steady@caching/prefixes"}
    broken = run(probed, *options, "--perf-arm-b=arg.fail={on: load, how: raise, message: no such kernel}")
    assert broken.ret == 1
    assert set(probed.verdicts().values()) == {"failed-to-run"}
    assert {cell["reason"] for cell in probed.results()["cells"]} == {"arm b: RuntimeError: no such kernel"}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[brief, cache,", "[brief, other,", "*suites.quick: no workload is named 'other'"),
        ("prefixes@caching]", "prefixes@cashing]", "*suites.quick: no configuration is named 'cashing'"),
        ("kind: cache", "kind: cash", "*probes.cache*'cash'*"),
        ("  cache: {kind", "  brief: {kind", "*probes.brief: a workload has this name already"),
        ("lengths: [100, 300]", "lengths: [100, 0]", "*probes.cache*lengths.1*greater than 0*"),
        ("models: [steady]", "models: [ghost]", "*configurations.caching.models: no model is named 'ghost'"),
    ],
)
def test_a_bad_suites_file_is_one_line(probed: Suite, old: str, new: str, message: str) -> None:
    file = probed.root / "workloads.yaml"
    file.write_text(file.read_text().replace(old, new))
    result = run(probed)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([message])
