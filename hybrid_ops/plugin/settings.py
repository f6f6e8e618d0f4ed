"""What the options of the command line mean for a suite and a run."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hybrid_ops.engines.devices import Device, devices, gpus, server, why_no_gpu
from hybrid_ops.errors import InputError
from hybrid_ops.measure.conditions import Limits
from hybrid_ops.measure.launch import STAGE_SECONDS
from hybrid_ops.measure.pair import Arm
from hybrid_ops.measure.power_limit import parse_power_limits
from hybrid_ops.run.budget import seconds
from hybrid_ops.run.options import RunOptions, SuiteOptions
from hybrid_ops.run.plan import server_base
from hybrid_ops.run.shards import parse_shard
from hybrid_ops.yaml_files import parse_value

BUDGET_SECONDS = {
    "quick": 200.0,
    "hybrid-attention": 240.0,
    "kernels": 180.0,
    "llama-bench": 240.0,
    "training": 150.0,
    "standard": 1800.0,
    "full": 7200.0,
}
"""What a run of each suite may last before undecided cells are no longer launched again."""
ARMS_BUDGET_SECONDS = {"training": 1800.0}
"""The same of two arms, where pairs take longer: ten processes of the five small models for each pair."""
DOWNLOAD, DOWNLOAD_SECONDS = "download", 4 * 3600.0


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
        power_limits=_power_limits(config),
        in_arms=option.perf_ab or option.perf_aa,
    )


def _power_limits(config: pytest.Config) -> tuple[int, ...]:
    limits = parse_power_limits(config.option.perf_power_limits)
    if limits and config.option.perf_server:
        raise InputError("--perf-power-limits: the GPU of a running server is not known here; drop one of the two")
    return limits


def run_options(config: pytest.Config) -> RunOptions:
    """What the command line says about the run. Raises InputError."""
    option = config.option
    _check_root(config)
    if option.perf_launches < 1:
        raise InputError(f"--perf-launches: at least 1, not {option.perf_launches}")
    environment: dict[str, str | None] = {}
    if option.perf_inject:
        environment["HYBRID_OPS_INJECT"] = str(share(option.perf_inject, "--perf-inject"))
    budget = option.perf_budget
    budgets = BUDGET_SECONDS | (ARMS_BUDGET_SECONDS if option.perf_ab or option.perf_aa else {})
    stages = stage_deadlines(option.perf_stage_deadline)
    url = server_base(option.perf_server)
    return RunOptions(
        device=_device(chosen_platform(config)) if url is None else server(url),
        baselines=config.rootpath / option.perf_baselines,
        history=Path(option.perf_history) if option.perf_history else None,
        update=option.update_baselines,
        update_adds=option.add_to_baselines,
        most_launches=option.perf_launches,
        budget_seconds=seconds(budget, "--perf-budget") if budget else budgets.get(option.perf_suite, 1800.0),
        deadline_seconds=seconds(option.perf_deadline, "--perf-deadline"),
        download_seconds=stages.pop(DOWNLOAD),
        stage_seconds=stages,
        environment=environment,
        command=shlex.join(["pytest", *config.invocation_params.args]),
        processes=int(getattr(config, "workerinput", {}).get("workercount", 1)),
        arms=_arms(config, environment),
        limits=Limits(foreign_cpu=share(option.perf_foreign_cpu, "--perf-foreign-cpu")),
        arm_tolerance=share(option.perf_tolerance, "--perf-tolerance"),
        shard=None if option.perf_shard is None else parse_shard(option.perf_shard),
    )


def _check_root(config: pytest.Config) -> None:
    """Raises InputError where a folder that an option names has become pytest's root.

    Before it knows the options of plugins, pytest takes each argument that is a folder for a place to look for tests.
    """
    here, ini = config.invocation_params.dir, config.inipath
    if here == config.rootpath or (ini is not None and here.is_relative_to(ini.parent)):
        return
    for name in ("perf_baselines", "perf_results", "perf_data"):
        folder = getattr(config.option, name)
        if folder in config.invocation_params.args and Path(folder).is_dir():
            option = f"--{name.replace('_', '-')}"
            raise InputError(f"{option} {folder}: pytest took the folder for a place of tests; write {option}={folder}")


def _device(platform: str) -> Device:
    """The first device, whose class is the run's. Raises InputError where the machine has none of the platform."""
    found = devices(platform)
    if not found:
        raise InputError(f"--perf-device {platform}: no GPU: {why_no_gpu()}")
    return found[0]


def others_than(device: Device) -> list[str]:
    """The GPUs that a run on `device` leaves out, because their times would not compare with its own."""
    others = devices(device.platform) if device.platform == "cuda" else ()
    return [f"{other.name} ({other.uuid})" for other in others if other.device_class != device.device_class]


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
        given = "--add-to-baselines" if option.add_to_baselines else "--update-baselines"
        raise InputError(f"{given}: record baselines in a plain run, not in a comparison of arms")
    if option.perf_aa and (option.perf_arm_b or environment):
        raise InputError("--perf-aa: both arms are the same; drop --perf-arm-b and --perf-inject, or use --perf-ab")
    first, second = Arm("a"), arm_b(option.perf_arm_b, environment)
    if option.perf_ab and replace(second, name=first.name) == first:
        raise InputError(
            "--perf-ab: arm B does not differ: name a difference with --perf-arm-b or --perf-inject; "
            "--perf-aa compares an arm with itself"
        )
    return first, second


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


def stage_deadlines(given: Sequence[str]) -> dict[str, float]:
    """The deadline of each stage in seconds, `STAGE=TIME` in place of its default. Raises InputError."""
    deadlines = {**STAGE_SECONDS, DOWNLOAD: DOWNLOAD_SECONDS}
    for text in given:
        stage, equals, time = text.partition("=")
        if not equals or stage not in deadlines:
            raise InputError(f"--perf-stage-deadline: STAGE=TIME with {', '.join(deadlines)}, not {text!r}")
        deadlines[stage] = seconds(time, f"--perf-stage-deadline {stage}")
    return deadlines


def share(text: str, option: str) -> float:
    """`5%` as 0.05. Raises InputError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*%", text.strip())
    if match is None:
        raise InputError(f"{option}: a share such as 5%, not {text!r}")
    return float(match[1]) / 100
