"""What defines a measurement: the same on every platform where the value holds on every machine; and read once."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hybrid_ops.engines.devices import Device
from hybrid_ops.errors import InputError
from hybrid_ops.measure.metrics import Scope
from hybrid_ops.regression.baselines import Baselines
from hybrid_ops.regression.cells import Cell
from hybrid_ops.run.options import SuiteOptions
from hybrid_ops.run.plan import SuitePlan
from hybrid_ops.yaml_files import round_trip_yaml
from tests.plugin.suite import Suite

WORKLOADS = """
schema_version: 1
workloads:
  brief: {description: a few tokens, prompt_tokens: 8, generation_tokens: 4}
rollouts:
  roll: {description: small, prompt_tokens: 64, generation_tokens: [128], num_prompts: 2, samples: 3}
probes:
  cache: {kind: cache, description: figures, lengths: [100]}
comparisons:
  three:
    description: small
    models: {toy: {full: toy-full, sliding: toy-sliding, hybrid: toy-hybrid}}
    prompt_tokens: [32]
    generation_tokens: 8
    num_prompts: 6
    reduced: {cpu: {num_prompts: 2, warmup_iterations: 1}}
suites:
  quick: [brief, roll, cache, three]
"""
TEST_FILE = """
import pytest
from hybrid_ops.plugin import check

@pytest.mark.perf
def test_generation(generation_cell):
    check(generation_cell)

@pytest.mark.perf
def test_comparison(comparison_cell):
    check(comparison_cell)

@pytest.mark.perf
def test_probe(probe_cell):
    check(probe_cell)
"""
MODELS = ("toy-full", "toy-sliding", "toy-hybrid")
GPU = Device("cuda", 0, "NVIDIA H200", "nvidia-h200")


def write_suite(folder: Path, engine: str) -> None:
    """A suite of each kind of work on three models of `engine`, for both platforms."""
    (folder / "config.json").write_text('{"vocab_size": 1000, "max_position_embeddings": 4096}')
    (folder / "workloads.yaml").write_text(WORKLOADS)
    entry = {"architecture": "none", "config": "config.json", "engine": engine, "platforms": ["cpu", "cuda"]}
    with (folder / "zoo.yaml").open("w") as file:
        round_trip_yaml().dump({"schema_version": 1, "models": dict.fromkeys(MODELS, entry)}, file)


def planned(folder: Path, platform: str) -> dict[str, Cell]:
    """The cells of the suite in `folder`, by id, without those of the shipped zoo."""
    options = SuiteOptions(
        workloads_file=folder / "workloads.yaml", models_files=(folder / "zoo.yaml",), platform=platform
    )
    return {cell.id: cell for cell in SuitePlan(options).cells() if cell.case.spec.model in MODELS}


@pytest.mark.parametrize("engine", ["noop", "vllm"])
def test_a_portable_definition_is_the_same_on_every_platform(tmp_path: Path, engine: str) -> None:
    write_suite(tmp_path, engine)
    on_cpu, on_cuda = planned(tmp_path, "cpu"), planned(tmp_path, "cuda")
    cases = {cell.case.id: (cell.case, on_cuda[name].case) for name, cell in on_cpu.items() if name in on_cuda}
    assert {case.procedure.name for case, _ in cases.values()} == {
        "generation", "rollout", "comparison", "cache-probe"
    }  # fmt: skip
    for here, there in cases.values():
        assert here.definition(portable=True) == there.definition(portable=True)
        assert here.definition(portable=False) != there.definition(portable=False), "the sizes of its cache are not"


def test_what_a_reduced_comparison_counts_belongs_to_the_platform(tmp_path: Path) -> None:
    write_suite(tmp_path, "noop")
    cells = planned(tmp_path, "cpu")
    scopes = {name.partition("/")[2]: cell.metric.scope for name, cell in cells.items() if name.startswith("toy-full")}
    assert scopes["input-32-output_tokens"] is Scope.PLATFORM
    assert scopes["brief-output_tokens"] is Scope.ANY
    assert scopes["input-32-model_bytes"] is Scope.ANY
    portable = [cell for cell in cells.values() if cell.metric.scope is Scope.ANY]
    assert not [cell.id for cell in portable if cell.metric.name == "output_tokens" and "@three" in cell.id]


def test_what_is_recorded_under_any_on_a_cpu_is_found_by_a_gpu(suite: Suite) -> None:
    suite.pytester.makepyfile(test_suite=TEST_FILE)
    write_suite(suite.root, "noop")
    suite.models = {name: {} for name in MODELS}
    assert (
        suite.run(
            "--update-baselines", "--perf-launches=1", "-k", "toy and (output_tokens or model_bytes or cache)"
        ).ret
        == 0
    )
    baselines = Baselines(suite.root / "perf_baselines", GPU)
    found = {}
    for name, cell in planned(suite.root, "cuda").items():
        if (known := baselines.find(cell.case.id, cell.metric.name)) is not None:
            found[name] = (known.path.parent.name, known.definition == cell.definition)
    assert set(found.values()) == {("any", True)}
    assert {"toy-full/brief-output_tokens", "toy-full@roll/roll-128-output_tokens"} <= found.keys()
    assert "toy-full@three/input-32-output_tokens" not in found, "it lies under cpu/"
    assert suite.baseline("toy-full", "toy-full@three/input-32", "output_tokens")["value"] == 2 * 8


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each file is read from now on."""
    counted: Counter[str] = Counter()
    read_text, read_bytes = Path.read_text, Path.read_bytes

    def counting(read: Any) -> Any:
        def counted_read(path: Path, *arguments: Any, **options: Any) -> Any:
            counted[str(path)] += 1
            return read(path, *arguments, **options)

        return counted_read

    monkeypatch.setattr(Path, "read_text", counting(read_text))
    monkeypatch.setattr(Path, "read_bytes", counting(read_bytes))
    return counted


def test_a_plan_reads_each_file_once_and_definitions_read_none(reads: Counter[str]) -> None:
    cells = SuitePlan(SuiteOptions(suite="standard")).cells()
    configs = {str(cell.case.spec.entry.config_path) for cell in cells}
    assert len(configs) > 3
    assert {path: count for path, count in reads.items() if path in configs} == dict.fromkeys(configs, 1)
    reads.clear()
    for _ in range(2):
        for cell in cells:
            for case in cell.cases:
                assert case.definition(portable=True)
                assert case.spec.model_config()
                assert replace(case.spec, configuration="other").model_config()
    assert not reads


def test_a_load_fingerprints_its_data_file_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_suite(tmp_path, "vllm")
    (tmp_path / "chats.json").write_text("[]")
    (tmp_path / "workloads.yaml").write_text(
        "schema_version: 1\nserving:\n  chat: {description: c, dataset: sharegpt, dataset_file: chats.json, "
        "num_prompts: 2}\nsuites:\n  quick: [chat]\n"
    )
    from hybrid_ops.measure.procedures import serving

    fingerprints: list[Path] = []

    def counted(path: Path) -> str:
        fingerprints.append(path)
        return "the same"

    monkeypatch.setattr(serving, "fingerprint", counted)
    options = SuiteOptions(
        workloads_file=tmp_path / "workloads.yaml", models_files=(tmp_path / "zoo.yaml",), data_folder=tmp_path
    )
    cells = [cell for cell in SuitePlan(options).cells() if cell.case.spec.model == "toy-full"]
    assert len({cell.definition for cell in cells}) == 2, "one for every machine, one for this platform"
    assert len(cells) > 10
    assert len(fingerprints) == 2


def test_a_broken_configuration_is_one_line(tmp_path: Path) -> None:
    write_suite(tmp_path, "noop")
    (tmp_path / "config.json").write_text(json.dumps({"vocab_size": 1000})[:-1])
    with pytest.raises(InputError, match=r"config\.json: not a JSON file: "):
        planned(tmp_path, "cpu")


def test_a_launch_of_another_shape_has_another_definition(tmp_path: Path) -> None:
    """The other side: what is meant to differ does."""
    write_suite(tmp_path, "noop")
    case = planned(tmp_path, "cpu")["toy-full/brief-output_tokens"].case
    changed = [
        replace(case, spec=replace(case.spec, config_changes={"vocab_size": 7})),
        case.with_arguments({"step_ms": 9.0}),
        replace(case, workload=case.workload.model_copy(update={"seed": 1})),
    ]
    definitions = {one.definition(portable=True) for one in (case, *changed)}
    assert len(definitions) == 4
