"""What the options of the command line mean for a suite and a run."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from hybrid_ops.engines.devices import Device, devices, gpus, server
from hybrid_ops.errors import InputError
from hybrid_ops.measure.conditions import Limits
from hybrid_ops.measure.pair import Arm
from hybrid_ops.run.options import RunOptions, SuiteOptions
from hybrid_ops.run.plan import server_base
from hybrid_ops.yaml_files import parse_value

BUDGET_SECONDS = {"quick": 200.0, "hybrid-attention": 240.0, "kernels": 180.0, "standard": 1800.0, "full": 7200.0}
"""What a run of each suite may last before undecided cells are no longer launched again."""


def suite_options(config: pytest.Config) -> SuiteOptions:
    """What the command line says about the suite."""
    option = config.option
    return SuiteOptions(
        suite=option.perf_suite,
        workloads_file=Path(option.perf_workloads) if option.perf_workloads else None,
        models_files=tuple(Path(path).absolute() for path in option.perf_models),
        platform=chosen_platform(config),
        settings=tuple(option.perf_set),
        weights=option.perf_weights,
        data_folder=config.rootpath / option.perf_data,
        prompts=option.perf_prompts if option.perf else None,
        server_url=option.perf_server,
        server_names=tuple(option.perf_server_model),
        in_arms=option.perf_ab or option.perf_aa,
    )


def run_options(config: pytest.Config) -> RunOptions:
    """What the command line says about the run. Raises InputError."""
    option = config.option
    if option.perf_launches < 1:
        raise InputError(f"--perf-launches: at least 1, not {option.perf_launches}")
    environment: dict[str, str | None] = {}
    if option.perf_inject:
        environment["HYBRID_OPS_INJECT"] = str(share(option.perf_inject, "--perf-inject"))
    budget = option.perf_budget
    url = server_base(option.perf_server)
    return RunOptions(
        device=_device(chosen_platform(config)) if url is None else server(url),
        baselines=config.rootpath / option.perf_baselines,
        update=option.update_baselines,
        most_launches=option.perf_launches,
        budget_seconds=seconds(budget, "--perf-budget") if budget else BUDGET_SECONDS.get(option.perf_suite, 1800.0),
        deadline_seconds=seconds(option.perf_deadline, "--perf-deadline"),
        environment=environment,
        command=shlex.join(["pytest", *config.invocation_params.args]),
        arms=_arms(config, environment),
        limits=Limits(foreign_cpu=share(option.perf_foreign_cpu, "--perf-foreign-cpu")),
        arm_tolerance=share(option.perf_tolerance, "--perf-tolerance"),
    )


def _device(platform: str) -> Device:
    """The device that baselines are looked up for. Raises InputError where the machine has none of the platform."""
    found = devices(platform)
    if not found:
        raise InputError(f"--perf-device {platform}: NVML shows no GPU on this machine")
    return found[0]


def chosen_platform(config: pytest.Config) -> str:
    """The platform of `--perf-device`, or the one that this machine has."""
    if config.option.perf_device == "auto":
        return "cuda" if gpus() else "cpu"
    return config.option.perf_device


def _arms(config: pytest.Config, environment: dict[str, str | None]) -> tuple[Arm, Arm] | None:
    """The two arms of a comparison; None without one. Raises InputError."""
    option = config.option
    if not (option.perf_ab or option.perf_aa):
        if option.perf_arm_b:
            raise InputError("--perf-arm-b: only with --perf-ab")
        return None
    if option.perf_server:
        raise InputError("--perf-server: arms are engines that the suite starts; a running server is none")
    if option.update_baselines:
        raise InputError("--update-baselines: record baselines in a plain run, not in a comparison of arms")
    if option.perf_aa and (option.perf_arm_b or environment):
        raise InputError("--perf-aa: both arms are the same; drop --perf-arm-b and --perf-inject, or use --perf-ab")
    return Arm("a"), arm_b(option.perf_arm_b, environment)


def arm_b(differences: Sequence[str], environment: dict[str, str | None]) -> Arm:
    """Arm B from `python=PATH`, `env.NAME=VALUE` and `arg.NAME=VALUE` (the value as YAML). Raises InputError."""
    interpreter = sys.executable
    variables = dict(environment)
    arguments: dict[str, Any] = {}
    for difference in differences:
        name, equals, value = difference.partition("=")
        kind, _, key = name.partition(".")
        if equals and name == "python":
            interpreter = str(Path(value).absolute())
        elif equals and kind == "env" and key:
            variables[key] = value
        elif equals and kind == "arg" and key:
            arguments[key] = parse_value(value, f"--perf-arm-b: {name}")
        else:
            raise InputError(f"--perf-arm-b: python=PATH, env.NAME=VALUE or arg.NAME=VALUE, not {difference!r}")
    return Arm("b", interpreter, variables, arguments)


def seconds(text: str, option: str) -> float:
    """`90s`, `15m`, `2h` or a plain number of seconds. Raises InputError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|m|h|)", text.strip())
    if match is None or float(match[1]) == 0:
        raise InputError(f"{option}: a time such as 90s, 15m or 2h, not {text!r}")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]


def share(text: str, option: str) -> float:
    """`5%` as 0.05. Raises InputError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*%", text.strip())
    if match is None:
        raise InputError(f"{option}: a share such as 5%, not {text!r}")
    return float(match[1]) / 100
