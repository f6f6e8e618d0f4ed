"""The options of the command line. Imported by every pytest run that has the plugin, so it imports nothing else."""

from __future__ import annotations

import pytest


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
        "--add-to-baselines",
        action="store_true",
        help="Like --update-baselines, but as a further session of each baseline, which so learns how far the machine "
        "moves between sessions. Refuses what has become another engine.",
    )
    group.addoption(
        "--perf-suite",
        metavar="SUITE",
        default="quick",
        help="quick (default), standard, full, serving, serving-published, rollout, hybrid-attention, layers, kernels, "
        "llama-bench.",
    )
    group.addoption(
        "--perf-device", choices=["auto", "cpu", "cuda"], default="auto", help="Where engines run (default: auto)."
    )
    group.addoption("--perf-require-gpu", action="store_true", help="Fail, not skip, GPU tests where there is no GPU.")
    group.addoption(
        "--perf-baselines", metavar="DIR", default="perf_baselines", help="Folder of the baselines (perf_baselines)."
    )
    group.addoption(
        "--perf-history",
        metavar="FILE",
        help="The history, to learn from it how far each cell moves between nights; a night passes its own.",
    )
    group.addoption(
        "--perf-results", metavar="DIR", default="perf_results", help="Folder for results and logs (perf_results)."
    )
    group.addoption(
        "--perf-shard",
        metavar="I/N",
        help="Measure the I-th of N parts of the run, such as 2/3; hybrid-perf merge joins them.",
    )


def _add_suite_options(group: pytest.OptionGroup) -> None:
    """Which models, workloads and servers."""
    group.addoption(
        "--perf-run-id", metavar="ID", help="Name of the run and of its folder, which must be new (the time)."
    )
    group.addoption(
        "--perf-models", metavar="FILE", action="append", default=[], help="A further zoo file; may be repeated."
    )
    group.addoption(
        "--perf-set",
        metavar="FIELD=VALUE",
        action="append",
        default=[],
        help="Set a field of the suite's workloads (num_prompts=20, prompt_tokens=256,512), arg.NAME=VALUE (an engine "
        "argument), config.NAME=VALUE (of the model's config.json), cores=N (that each engine on the CPU is bound to) "
        "or model=NAME_OR_CONFIG (the base model of a comparison); may be repeated.",
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
    group.addoption("--perf-deadline", metavar="TIME", default="300s", help="Longest iteration of an engine (300s).")
    group.addoption(
        "--perf-stage-deadline",
        metavar="STAGE=TIME",
        action="append",
        default=[],
        help="Longest stage before the first iteration: load (20m), compile (30m), capture (20m), and download (4h) of "
        "real weights, which is no part of a launch; may be repeated.",
    )
    group.addoption(
        "--perf-foreign-cpu",
        metavar="SHARE",
        default="5%",
        help="Share of the processors that others may use while an engine on the CPU is measured (5%%).",
    )
    group.addoption(
        "--perf-power-limits",
        metavar="WATTS",
        help="Measure every case at each of these power limits of the GPU, such as 600,500,450. Changes the GPU's "
        "limit, which takes root, and restores it.",
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
