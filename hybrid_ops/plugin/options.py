"""The command line: the options, and what they mean for a suite and a run."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from hybrid_ops.engines.devices import devices, gpus, server
from hybrid_ops.errors import InputError
from hybrid_ops.measure.conditions import Limits
from hybrid_ops.measure.pair import Arm
from hybrid_ops.run.options import RunOptions, SuiteOptions
from hybrid_ops.run.plan import server_base
from hybrid_ops.yaml_files import parse_value

BUDGET_SECONDS = {"quick": 200.0, "hybrid-attention": 240.0, "standard": 1800.0, "full": 7200.0}
"""What a run of each suite may last before undecided cells are no longer launched again."""


def add_options(parser: pytest.Parser) -> None:
    """The options, in a group of their own in `pytest --help`."""
    group = parser.getgroup("perf", "performance regression (hybrid-ops)")
    _add_run_options(group)
    _add_suite_options(group)
    _add_measuring_options(group)
    _add_arm_options(group)


def _add_run_options(group: pytest.OptionGroup) -> None:
    """Whether to run, where, and where from and to."""
    group.addoption("--perf", action="store_true", help="Run the performance tests, and only them.")
    group.addoption(
        "--update-baselines",
        action="store_true",
        help="Record what this run measures as the new baselines (and --perf). Launches every engine 3 to 5 times.",
    )
    group.addoption(
        "--perf-suite",
        metavar="SUITE",
        default="quick",
        help="quick (default), standard, full, serving, rollout, hybrid-attention.",
    )
    group.addoption(
        "--perf-device", choices=["auto", "cpu", "cuda"], default="auto", help="Where engines run (default: auto)."
    )
    group.addoption("--perf-require-gpu", action="store_true", help="Fail, not skip, GPU tests where there is no GPU.")
    group.addoption(
        "--perf-baselines", metavar="DIR", default="perf_baselines", help="Folder of the baselines (perf_baselines)."
    )
    group.addoption(
        "--perf-results", metavar="DIR", default="perf_results", help="Folder for results and logs (perf_results)."
    )


def _add_suite_options(group: pytest.OptionGroup) -> None:
    """Which models, workloads and servers."""
    group.addoption(
        "--perf-models", metavar="FILE", action="append", default=[], help="A further zoo file; may be repeated."
    )
    group.addoption(
        "--perf-set",
        metavar="FIELD=VALUE",
        action="append",
        default=[],
        help="Set a field of the suite's workloads (num_prompts=20, prompt_tokens=256,512), arg.NAME=VALUE (an engine "
        "argument), config.NAME=VALUE (of the model's config.json) or model=NAME_OR_CONFIG (the base model of a "
        "comparison); may be repeated.",
    )
    group.addoption("--perf-workloads", metavar="FILE", help="Workloads and suites instead of the shipped ones.")
    group.addoption(
        "--perf-weights", choices=["seeded", "hub"], default="seeded", help="Drawn weights (default) or the real ones."
    )
    group.addoption("--perf-server", metavar="URL", help="Aim serving cases at this running OpenAI-compatible server.")
    group.addoption(
        "--perf-server-model",
        metavar="MODEL=NAME",
        action="append",
        default=[],
        help="What the running server calls a model of the zoo; may be repeated.",
    )
    group.addoption(
        "--perf-data", metavar="DIR", default="perf_data", help="Folder of data files that do not ship (perf_data)."
    )
    group.addoption(
        "--perf-prompts",
        metavar="FILE_OR_DATASET",
        help="Prompts of the rollout suite: a JSON, JSONL or text file, or a Hugging Face dataset (drawn tokens).",
    )


def _add_measuring_options(group: pytest.OptionGroup) -> None:
    """How often, how long and under which conditions to measure."""
    group.addoption(
        "--perf-launches", type=int, metavar="N", default=8, help="Most launches of one engine in a run (8)."
    )
    group.addoption("--perf-budget", metavar="TIME", help="Time for the run, such as 90s or 15m; more only to finish.")
    group.addoption(
        "--perf-deadline", metavar="TIME", default="300s", help="Longest load or iteration of an engine (300s)."
    )
    group.addoption(
        "--perf-foreign-cpu",
        metavar="SHARE",
        default="5%",
        help="Share of the processors that others may use while an engine on the CPU is measured (5%%).",
    )
    group.addoption(
        "--perf-inject", metavar="SHARE", help="Slow each engine step by this share, such as 5%%, to see the gate work."
    )


def _add_arm_options(group: pytest.OptionGroup) -> None:
    """What to compare with what."""
    group.addoption("--perf-ab", action="store_true", help="Compare two arms, A and B, launch by launch; no baseline.")
    group.addoption(
        "--perf-arm-b",
        metavar="DIFFERENCE",
        action="append",
        default=[],
        help="How arm B differs: python=PATH, env.NAME=VALUE or arg.NAME=VALUE (an engine argument); may be repeated.",
    )
    group.addoption(
        "--perf-aa", action="store_true", help="Compare an arm with itself: the noise of each cell on this machine."
    )
    group.addoption(
        "--perf-tolerance", metavar="SHARE", default="2%", help="Change that still passes between arms (2%%)."
    )


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
        device=devices(chosen_platform(config))[0] if url is None else server(url),
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
