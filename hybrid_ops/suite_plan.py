"""What a suite asks of which model: every cell that a command line chooses, before anything is launched."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hybrid_ops.engines.devices import devices, gpus
from hybrid_ops.engines.spec import SERVER_ENGINE, Case, EngineSpec, RunningServer
from hybrid_ops.errors import InputError
from hybrid_ops.measure.metrics import ARITHMETIC_INTENSITY, PEAK_METRICS, Metric, Scope, metrics_of
from hybrid_ops.measure.peaks import has_peaks
from hybrid_ops.measure.utilisation import accounted_model
from hybrid_ops.models.zoo import ModelEntry, load_zoo
from hybrid_ops.regression.cells import Cell
from hybrid_ops.workloads.overrides import OPTION, parse_overrides
from hybrid_ops.workloads.probe import CacheProbe
from hybrid_ops.workloads.prompt_files import encode_prompts, read_prompts
from hybrid_ops.workloads.serving import ServingWorkload
from hybrid_ops.workloads.workload import (
    FIRST_ORDINARY_TOKEN,
    SUITES_FILE,
    ComparedWorkload,
    Workload,
    load_suites,
    split_entry,
)

ROLLOUT_CACHE_BYTES = 1 << 30
"""Cache of a rollout on a CPU: room for all of its sequences at their longest."""


class SuitePlan:
    """The models of the zoo × the workloads of the chosen suite, as the options have them.

    Raises InputError for options and files that do not go together.
    """

    def __init__(self, config: pytest.Config) -> None:
        option = config.option
        self.option = option
        self.zoo = load_zoo(*(Path(path).absolute() for path in option.perf_models))
        suites_file = Path(option.perf_workloads) if option.perf_workloads else SUITES_FILE
        suites = load_suites(suites_file)
        if option.perf_suite not in suites.suites:
            known = ", ".join(suites.suites)
            raise InputError(f"{suites_file}: no suite is named {option.perf_suite!r}; --perf-suite takes {known}")
        for name, configuration in suites.configurations.items():
            for model in sorted(set(configuration.models or ()) - self.zoo.keys()):
                raise InputError(f"{suites_file}: configurations.{name}.models: no model is named {model!r}")
        for name, entries in suites.suites.items():
            for unknown in sorted({split_entry(entry).model for entry in entries} - {None, *self.zoo}, key=str):
                raise InputError(f"{suites_file}: suites.{name}: no model is named {unknown!r}")
        for name, comparison in suites.comparisons.items():
            for base, models in comparison.models.items():
                for model in sorted(set(models.values()) - self.zoo.keys()):
                    raise InputError(f"{suites_file}: comparisons.{name}.models.{base}: no model is named {model!r}")
        self.overrides = parse_overrides(option.perf_set)
        self.suites = self.overrides.apply(suites, option.perf_suite)
        self.entries = self.suites.suites[option.perf_suite]
        self.running = running_server(config, self.zoo)
        self.platform = chosen_platform(config)
        self.data_folder = config.rootpath / option.perf_data
        self.texts: dict[str, list[str]] = {}
        """Prompts for the rollouts, where they are given."""
        if option.perf and option.perf_prompts:
            self.texts = {
                name: read_prompts(option.perf_prompts, rollout.num_prompts)
                for name, rollout in self.suites.rollouts.items()
            }

    def cells(self) -> list[Cell]:
        """Every cell of the suite."""
        cells = []
        changed: set[str] = set()
        in_arms = self.option.perf_ab or self.option.perf_aa
        for model, entry in self.zoo.items():
            if entry.suites is not None and self.option.perf_suite not in entry.suites:
                continue
            for listed in self.entries:
                # A running server serves one model: its reference is not there to be compared with.
                references = self._cases(entry.reference, listed) if entry.reference and self.running is None else []
                by_name = {reference.workload_name: reference for reference in references}
                for own in self._cases(model, listed):
                    changed |= own.spec.config_changes.keys()
                    for metric in _metrics_of(own, in_arms):
                        if metric.of is None:
                            cells.append(Cell(own, metric))
                        elif metric.against is not None:
                            cells.append(Cell(own, metric, self._compared_with(own, listed, metric)))
                        elif own.workload_name in by_name:
                            cells.append(Cell(own, metric, by_name[own.workload_name]))
        for unknown in [name for name in self.overrides.config if name not in changed]:
            raise InputError(
                f"{OPTION}: config.{unknown}: no model of the suite {self.option.perf_suite} has it in its config.json"
            )
        return cells

    def _compared_with(self, own: Case, listed: str, metric: Metric) -> Case:
        """The case of a comparison that a ratio of `own` is divided by."""
        assert isinstance(own.workload, ComparedWorkload) and metric.against is not None
        model = self.suites.comparisons[listed].models[own.workload.base][metric.against]
        # Its context may be another, so that the same input length has another name.
        for case in self._cases(model, listed):
            assert isinstance(case.workload, ComparedWorkload)
            if case.workload.published_tokens == own.workload.published_tokens:
                if case.workload_name == own.workload_name:
                    return case
                raise InputError(
                    f"{self.zoo[model].source}: models.{model}: another context than {own.spec.model}'s; "
                    f"{listed} compares equal lengths"
                )
        raise AssertionError(f"{listed} has no {own.workload_name} for {model}")

    def _cases(self, model: str, listed: str) -> list[Case]:
        """The cases of a model and a suite's entry: one, one a length of a rollout or comparison, or none."""
        name, configuration, only_model = split_entry(listed)
        if only_model not in (None, model):
            return []
        own = self.suites.configuration(listed)
        if name in self.suites.rollouts:
            return self._rollout(model, name) if self.running is None else []
        if name in self.suites.comparisons:
            return self._comparison(model, name) if self.running is None else []
        entry, workload = self.zoo[model], self.suites.all_workloads[name]
        if own.models is not None and model not in own.models:
            return []
        if not isinstance(workload, ServingWorkload):
            spec = self._spec(model, configuration, own.arguments)
            return [Case(spec, name, workload)] if self.running is None else []
        # Where the model's engine has no answer to such a workload there is no case.
        if self.running is None and entry.engine != "vllm" and entry.server_command is None:
            return []
        spec = replace(
            self._spec(model, configuration, {**own.arguments, **workload.arguments}),
            engine=SERVER_ENGINE,
            environment=workload.environment,
        )
        if self.running is not None:
            spec = replace(spec, platform="server", running_server=self.running)
        return [Case(spec, name, workload, self.data_folder)]

    def _spec(
        self, model: str, configuration: str, arguments: Mapping[str, Any], is_compared: bool = False
    ) -> EngineSpec:
        """How a model is launched, with what the command line sets anew."""
        entry = self.zoo[model]
        where = self.platform if self.platform in entry.platforms else entry.platforms[0]
        weights = "packaged" if entry.package else self.option.perf_weights if entry.hub else "seeded"
        spec = EngineSpec(model, entry, where, configuration, {**arguments, **self.overrides.arguments}, weights)
        changes = self.overrides.config_changes(spec.model_config(), is_compared)
        if changes and weights != "seeded":
            raise InputError(f"{OPTION}: config.{next(iter(changes))}: {model}'s real weights are for its own config")
        return replace(spec, config_changes=changes)

    def _fitted(self, spec: EngineSpec, tokens: int) -> EngineSpec:
        """The spec of an engine for sequences of `tokens` tokens, even where the model has fewer positions."""
        positions = _positions(spec)
        beyond = positions is not None and tokens > positions
        environment = {"VLLM_ALLOW_LONG_MAX_MODEL_LEN": "1"} if beyond else {}
        arguments = {"max_model_len": tokens, **spec.arguments}
        return replace(spec, arguments=arguments, environment=environment)

    def _rollout(self, model: str, name: str) -> list[Case]:
        """The cases of a rollout, one a generation length; they share a launch."""
        entry, rollout = self.zoo[model], self.suites.rollouts[name]
        spec = self._spec(model, name, {})
        context = entry.context or _positions(spec) or rollout.longest
        given = None
        if name in self.texts:
            tokenizer = entry.hub if spec.weights == "hub" else None
            vocabulary = spec.model_config()["vocab_size"]
            given = encode_prompts(self.texts[name], vocabulary, FIRST_ORDINARY_TOKEN, tokenizer)
        divisor = rollout.scale(context)
        arguments: dict[str, Any] = {
            "enable_prefix_caching": True,
            "max_num_seqs": rollout.num_prompts * rollout.samples,
        }
        if spec.platform == "cpu":
            # Each prompt in one step: vLLM's CPU build fails where a request with a seed is computed in parts ("CPU
            # Generator does not use offset").
            most_tokens = arguments["max_num_seqs"] * rollout.prompt_tokens // divisor
            arguments |= {"kv_cache_memory_bytes": ROLLOUT_CACHE_BYTES, "max_num_batched_tokens": most_tokens}
        spec = self._fitted(replace(spec, arguments={**arguments, **spec.arguments}), rollout.longest // divisor)
        workloads = self.suites.rollout(name, context, given)
        return [Case(spec, workload_name, workload) for workload_name, workload in workloads.items()]

    def _comparison(self, model: str, name: str) -> list[Case]:
        """The cases of a comparison on one of its models, one an input length; they share a launch."""
        comparison = self.suites.comparisons[name]
        if comparison.base_of(model) is None:
            return []
        spec = self._spec(model, name, {}, is_compared=True)
        context = self.zoo[model].context or _positions(spec) or comparison.longest
        workloads = self.suites.comparison(name, model, spec.platform, context)
        arguments = {"max_num_seqs": comparison.on(spec.platform).num_prompts, **spec.arguments}
        spec = self._fitted(replace(spec, arguments=arguments), comparison.longest // comparison.scale(context))
        return [Case(spec, workload_name, workload) for workload_name, workload in workloads.items()]


def _positions(spec: EngineSpec) -> int | None:
    """The positions that a model is made for, if it has any."""
    config = spec.model_config()
    return config.get("text_config", config).get("max_position_embeddings")


def _metrics_of(case: Case, in_arms: bool) -> list[Metric]:
    """The metrics that a case has: those of its workload, less those that its model or device leaves without a value.

    Arms are compared with each other in what they measure: in no ratio to another model or to a device's peaks.
    """
    metrics = metrics_of(case.workload)
    left_out: set[Metric] = set()
    if in_arms:
        left_out |= {*PEAK_METRICS, *(metric for metric in metrics if metric.of is not None)}
    if isinstance(case.workload, Workload):
        if accounted_model(case.spec) is None:
            left_out |= {*PEAK_METRICS, ARITHMETIC_INTENSITY}
        # A GPU's testcases are shown on a machine without one, too.
        if not all(map(has_peaks, devices(case.spec.platform))):
            left_out |= {*PEAK_METRICS}
    kept = [metric for metric in metrics if metric not in left_out]
    if "kv_cache_memory_bytes" not in case.spec.engine_arguments:
        # The cache is what memory the device has left.
        is_probe = isinstance(case.workload, CacheProbe)
        return [
            replace(metric, scope=Scope.DEVICE_CLASS) if is_probe or metric.name == "kv_cache_memory_bytes" else metric
            for metric in kept
        ]
    return kept


def chosen_platform(config: pytest.Config) -> str:
    """The platform of `--perf-device`, or the one that this machine has."""
    if config.option.perf_device == "auto":
        return "cuda" if gpus() else "cpu"
    return config.option.perf_device


def running_server(config: pytest.Config, zoo: Mapping[str, ModelEntry]) -> RunningServer | None:
    """The server of `--perf-server`, if one is named. Raises InputError."""
    url, names = server_url(config), config.option.perf_server_model
    if url is None:
        if names:
            raise InputError("--perf-server-model says what a running server calls a model: add --perf-server URL")
        return None
    known = {}
    for text in names:
        model, separator, name = text.partition("=")
        if not separator or not name or model not in zoo:
            raise InputError(f"--perf-server-model: MODEL=NAME with a model of the zoo, not {text!r}")
        known[model] = name
    return RunningServer(url, known)


def server_url(config: pytest.Config) -> str | None:
    """The base URL of `--perf-server`, without the path of OpenAI's protocol. Raises InputError."""
    url = config.option.perf_server
    if url is None:
        return None
    match = re.fullmatch(r"(https?://[^/?#\s]+)(/v1)?/?", url)
    if match is None:
        raise InputError(f"--perf-server: a URL such as http://127.0.0.1:8000, not {url!r}")
    return match[1]
