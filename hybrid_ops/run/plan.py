"""What a suite asks of which model: every cell that the options choose, before anything is launched."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from hybrid_ops.engines.devices import devices
from hybrid_ops.engines.engine import Engine
from hybrid_ops.engines.registry import find_engine
from hybrid_ops.engines.replicas import REPLICATED
from hybrid_ops.engines.spec import EngineSpec
from hybrid_ops.engines.vllm_server import RunningServer, VllmServer
from hybrid_ops.errors import InputError
from hybrid_ops.measure.case import Case
from hybrid_ops.measure.energy import ENERGY_METRICS, readable_metrics
from hybrid_ops.measure.metrics import Kind, Metric
from hybrid_ops.measure.peaks import has_peaks, known_memory
from hybrid_ops.measure.procedures import procedures_for, read_suites
from hybrid_ops.measure.procedures.procedure import Asked, Procedure
from hybrid_ops.models.zoo import ModelEntry, load_zoo
from hybrid_ops.regression.cells import Cell
from hybrid_ops.run.options import SuiteOptions
from hybrid_ops.workloads.base import Definition
from hybrid_ops.workloads.overrides import OPTION, parse_overrides
from hybrid_ops.workloads.prompt_files import read_prompts
from hybrid_ops.workloads.rollout import Rollout
from hybrid_ops.workloads.suites import SUITES_FILE, Configuration, Suites, split_entry


class SuitePlan:
    """The models of the zoo × the workloads of the chosen suite, as the options have them.

    Raises InputError for options and files that do not go together.
    """

    def __init__(self, options: SuiteOptions) -> None:
        self.options = options
        self.zoo = load_zoo(*options.models_files)
        self._engines = {
            name: find_engine(entry.engine, f"{entry.source}: models.{name}.engine") for name, entry in self.zoo.items()
        }
        suites = read_suites(options.workloads_file or SUITES_FILE)
        check_names(suites, self.zoo, options.suite)
        self.overrides = parse_overrides(options.settings)
        self.suites = self.overrides.apply(suites, options.suite)
        self.running = running_server(options, self.zoo)
        self._made: dict[tuple[str, str], list[Case]] = {}
        self._prompts: list[str] | None = None
        if options.prompts is not None:
            counts = [rollout.num_prompts for rollout in self.suites.of_kind(Rollout).values()]
            self._prompts = read_prompts(options.prompts, max(counts, default=1))

    def cells(self) -> list[Cell]:
        """Every cell of the suite. Raises InputError."""
        cells = []
        changed: set[str] = set()
        for model, entry in self.zoo.items():
            if not entry.belongs_to(self.options.suite):
                continue
            for listed in self.suites.suites[self.options.suite]:
                for case in self._cases(model, listed):
                    changed |= case.spec.config_changes.keys()
                    cells += self._cells_of(case, listed)
        for unknown in [name for name in self.overrides.config if name not in changed]:
            raise InputError(
                f"{OPTION}: config.{unknown}: no model of the suite {self.options.suite} has it in its config.json"
            )
        guards = {cell.case.spec.launch_name: cell.case for cell in cells if cell.case.procedure.guards}
        return [replace(cell, guard=_guard_of(cell, guards)) for cell in cells]

    def left_out(self, names: Iterable[str]) -> dict[str, list[str]]:
        """Those of these models that the suite leaves out, each with the suites that ask the same of it."""
        suites, suite = self.suites.suites, self.options.suite
        alike = [other for other, entries in suites.items() if not set(suites[suite]).isdisjoint(entries)]
        return {
            name: [other for other in alike if self.zoo[name].belongs_to(other)]
            for name in names
            if name in self.zoo and not self.zoo[name].belongs_to(suite)
        }

    def _cells_of(self, case: Case, listed: str) -> list[Cell]:
        """The cells of a case: those of its metrics that its engine can give and its device has."""
        measured = case.procedure.metrics_of(case)
        if case.procedure.tokens_value is not None and case.spec.engine.uses_energy:
            measured += ENERGY_METRICS if self.options.is_elsewhere else readable_metrics(case.spec.platform)
        platform = case.spec.platform
        metrics = [
            metric
            for metric in measured
            if case.spec.engine.gives(metric.name) and platform in (metric.platforms or (platform,))
        ]
        if self.options.in_arms:
            # Arms are compared with each other in what they measure: in no ratio to another model or to peaks.
            metrics = [metric for metric in metrics if metric.of is None and not metric.needs_peaks]
        elif not (self.options.is_elsewhere or all(map(has_peaks, devices(case.spec.platform)))):
            # A GPU's testcases are shown on a machine without one, too.
            metrics = [metric for metric in metrics if not metric.needs_peaks]
        cells = []
        for metric in metrics:
            if metric.of is None:
                cells.append(Cell(case, metric))
            elif (reference := self._reference(case, metric, listed)) is not None:
                cells.append(Cell(case, metric, reference))
        return cells

    def _reference(self, case: Case, metric: Metric, listed: str) -> Case | None:
        """The case that a ratio is divided by; None where there is none."""
        definition = self.suites.definitions[split_entry(listed).workload]
        model = case.procedure.reference_model(case, metric, definition)
        # A running server serves one model: its reference is not there to be compared with.
        if model is None or self.running is not None:
            return None
        for reference in self._cases(model, listed):
            is_alike = reference.spec.power_limit_watts == case.spec.power_limit_watts
            if reference.workload_name == case.workload_name and is_alike:
                return reference
        case.procedure.refuse_without_reference(case, model)
        return None

    def _cases(self, model: str, listed: str) -> list[Case]:
        """The cases of a model and a suite's entry. Made once, so that what a case knows of itself is computed once."""
        if (model, listed) not in self._made:
            self._made[model, listed] = self._make_cases(model, listed)
        return self._made[model, listed]

    def _make_cases(self, model: str, listed: str) -> list[Case]:
        name, configuration_name, only_model = split_entry(listed)
        configuration, definition = self.suites.configuration(listed), self.suites.definitions[name]
        if only_model not in (None, model) or (configuration.models is not None and model not in configuration.models):
            return []
        answers = ((one, self._engine(model, configuration, one)) for one in procedures_for(definition))
        procedure, engine = next(((one, engine) for one, engine in answers if engine is not None), (None, None))
        if procedure is None or engine is None:
            return []
        if configuration.replicas > 1 and not procedure.operations <= REPLICATED:
            return []
        if procedure.is_its_own_configuration:
            # Placements stand side by side, so each keeps its name.
            configuration_name = f"{name}-{configuration_name}" if configuration.places else name
        asked = Asked(
            model=model,
            entry=self.zoo[model],
            name=name,
            definition=definition,
            spec=partial(self._spec, model, engine, configuration_name, configuration, definition),
            data_folder=self.options.data_folder,
            prompt_texts=self._prompts,
        )
        cases = procedure.cases(asked)
        if procedure.tokens_value is None or not self.options.power_limits:
            return cases
        return [
            replace(case, spec=replace(case.spec, power_limit_watts=watts))
            for watts in self.options.power_limits
            for case in cases
        ]

    def _engine(self, model: str, configuration: Configuration, procedure: Procedure) -> Engine | None:
        """The engine that answers what a procedure asks of a model; None where there is none.

        It is the configuration's or the model's own, or the server that puts the model's own behind it.
        """
        entry = self.zoo[model]
        if self.running is not None:
            server = VllmServer(self.running)
            return server if server.answers(procedure.operations) else None
        own = self._engines[model]
        if configuration.engine is not None:
            own = find_engine(configuration.engine, f"{self.suites.source}: configurations: engine")
        if own.answers(procedure.operations):
            return own
        server_name = VllmServer.name if entry.server_command is not None else own.server
        if server_name is None:
            return None
        found = find_engine(server_name, own.name)
        return found if found.answers(procedure.operations) else None

    def _spec(
        self,
        model: str,
        engine: Engine,
        configuration_name: str,
        configuration: Configuration,
        definition: Definition,
        arguments: Mapping[str, Any] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> EngineSpec:
        """How a model is launched, with what the command line sets anew."""
        entry = self.zoo[model]
        here = self.options.platform
        where = here if here in entry.platforms else entry.platforms[0]
        spec = EngineSpec(
            model,
            entry,
            where if self.running is None else "server",
            engine,
            configuration_name,
            {**configuration.arguments, **(arguments or {}), **self.overrides.arguments},
            weights=self._weights(entry, engine),
            environment=environment or {},
            memory_bytes=device_memory(where) if self.running is None else None,
            cores=self.overrides.cores or configuration.cores,
            replicas=configuration.replicas,
        )
        changes = self.overrides.config_changes(spec.model_config(), definition.has_base_model)
        if changes and spec.weights != "seeded":
            raise InputError(f"{OPTION}: config.{next(iter(changes))}: {model}'s real weights are for its own config")
        return replace(spec, config_changes=changes)

    def _weights(self, entry: ModelEntry, engine: Engine) -> str:
        """Which weights an engine is given, as `EngineSpec.weights` has it."""
        if entry.gguf is not None and engine.reads_gguf:
            return "gguf"
        if entry.package is not None:
            return "packaged"
        return self.options.weights if entry.hub is not None else "seeded"


def _guard_of(cell: Cell, guards: Mapping[str, Case]) -> Case | None:
    """The guard of a cell that more than equality can say faster of."""
    return None if cell.metric.kind is Kind.EXACT else guards.get(cell.case.spec.launch_name)


def device_memory(platform: str) -> int | None:
    """The memory of each device of a platform, in bytes; None where there is none or it is not known."""
    return next((known_memory(device) for device in devices(platform)), None)


def check_names(suites: Suites, zoo: Mapping[str, ModelEntry], suite: str) -> None:
    """Raise InputError for a suite that does not exist, and for models that a suites file names in vain."""
    where = suites.source
    if suite not in suites.suites:
        raise InputError(f"{where}: no suite is named {suite!r}; --perf-suite takes {', '.join(suites.suites)}")
    for name, configuration in suites.configurations.items():
        for model in sorted(set(configuration.models or ()) - zoo.keys()):
            raise InputError(f"{where}: configurations.{name}.models: no model is named {model!r}")
        if configuration.engine is not None:
            find_engine(configuration.engine, f"{where}: configurations.{name}.engine")
    for name, entries in suites.suites.items():
        for unknown in sorted({split_entry(entry).model for entry in entries} - {None, *zoo}, key=str):
            raise InputError(f"{where}: suites.{name}: no model is named {unknown!r}")
    for name, definition in suites.definitions.items():
        for field, model in definition.named_models():
            if model not in zoo:
                raise InputError(
                    f"{where}: {procedures_for(definition)[0].section}.{name}.{field}: no model is named {model!r}"
                )


def running_server(options: SuiteOptions, zoo: Mapping[str, ModelEntry]) -> RunningServer | None:
    """The server of `--perf-server`, if one is named. Raises InputError."""
    url = server_base(options.server_url)
    if url is None:
        if options.server_names:
            raise InputError("--perf-server-model says what a running server calls a model: add --perf-server URL")
        return None
    known = {}
    for text in options.server_names:
        model, separator, name = text.partition("=")
        if not separator or not name or model not in zoo:
            raise InputError(f"--perf-server-model: MODEL=NAME with a model of the zoo, not {text!r}")
        known[model] = name
    return RunningServer(url, known)


def server_base(url: str | None) -> str | None:
    """The base of a server's URL, without the path of OpenAI's protocol. Raises InputError."""
    if url is None:
        return None
    match = re.fullmatch(r"(https?://[^/?#\s]+)(/v1)?/?", url)
    if match is None:
        raise InputError(f"--perf-server: a URL such as http://127.0.0.1:8000, not {url!r}")
    return match[1]
