"""`hybrid-perf gpu`: everything that a GPU machine has to show, as a page of ticks."""

from __future__ import annotations

import argparse
from pathlib import Path

from hybrid_ops.errors import InputError
from hybrid_ops.regression.verdicts import Verdict
from hybrid_ops.run import gpu
from hybrid_ops.run.gpu import Point, Proof, Step

UNMEASURED = (Verdict.FAILED_TO_RUN, Verdict.INVALID_ENVIRONMENT)
LOOK_AT_LOG = "The engine's own reason and its log are in the summary"


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "gpu",
        help="what a GPU machine has to show, as a page of ticks",
        description="Record baselines, compare with them, measure the noise, inject a slow-down and see it caught, and "
        "run every kind of work once. Ends with one line a point, and with 0 if every point is shown.",
    )
    parser.add_argument("--dry-run", action="store_true", help="on the CPU with tiny models and a coarse injection")
    parser.add_argument(
        "--steps", metavar="NAME,…", help="only these: " + ", ".join(step.name for step in steps(False))
    )
    parser.add_argument(
        "--results", type=Path, default=Path("perf_results"), metavar="DIR", help="default perf_results"
    )
    parser.add_argument("arguments", nargs="*", metavar="-- ARGUMENT", help="further arguments of pytest, after --")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Make the runs and print the page. Raises InputError for a step that is not known."""
    known = {step.name: step for step in steps(args.dry_run)}
    chosen = args.steps.split(",") if args.steps else list(known)
    for name in chosen:
        if name not in known:
            raise InputError(f"--steps: no step is named {name!r}; there are {', '.join(known)}")
    machine = ["--perf-device=cpu", "--perf-foreign-cpu=100%"] if args.dry_run else ["--perf-require-gpu"]
    proof = Proof([known[name] for name in chosen], args.results, [*machine, *args.arguments], args.dry_run)
    is_shown = proof.run(lambda text: print(text, flush=True))
    print("\n" + "\n".join(one.line for one in proof.shown))
    return 0 if is_shown else 1


def steps(is_dry: bool) -> list[Step]:
    """The steps on a GPU, or those of a dry run on a CPU."""
    if is_dry:
        suite = ["--perf-suite=quick", "-k", "llama-tiny/short or nemotron-h-tiny/short"]
        serving = ["--perf-suite=serving", "-k", "nemotron-h-tiny/serving-random"]
        rollout = ["--perf-suite=rollout", "-k", "llama-tiny and 1024"]
        # A verdict of the gate takes five launch pairs, and a pair takes a minute.
        arms = ["--perf-suite=quick", "-k", "llama-tiny/short"]
        share, noise_budget, gate_budget = "40%", "3m", "8m"
        attention = ["--perf-suite=hybrid-attention", "-k", "attention-full-tiny"]
    else:
        suite = ["--perf-suite=standard", "-m", "gpu"]
        serving = ["--perf-suite=serving-published", "-m", "gpu", "-k", "serving-8k-1k"]
        rollout = ["--perf-suite=rollout", "-m", "gpu"]
        arms = ["--perf-suite=quick", "-m", "gpu", "-k", "llama-3.2-1b/short or nemotron-h-8b/short"]
        share, noise_budget, gate_budget = "5%", "30m", "30m"
        attention = ["--perf-suite=hybrid-attention", "-m", "gpu"]
    inject = [*arms, "--perf-ab", f"--perf-inject={share}", f"--perf-budget={gate_budget}"]
    unread = [*arms, "--perf-ab", f"--perf-arm-b=env.{gpu.UNREAD_VARIABLE}=FLASHINFER"]
    layers = ["--perf-suite=standard", "tests/perf/test_layers.py"]
    return [
        Step("record", [*suite, "--update-baselines"], [*_of_every_launch(), _recorded()]),
        Step("compare", suite, [_agrees_with_baselines()]),
        Step("noise", [*arms, "--perf-aa", f"--perf-budget={noise_budget}"], [_noise()]),
        Step("injection", inject, _injection(share)),
        Step("equal-arms", [*unread, "--perf-launches=1"], [_equal_arms()]),
        Step("serving", serving, [_is_measured("a server answers a load")]),
        Step("rollout", rollout, [_is_measured("rollouts, with MFU and MBU")]),
        Step("attention", attention, [_is_measured("full, sliding-window and hybrid attention")]),
        Step("layers", layers, [_is_measured("the layers beside their peers' kernels")]),
    ]


def _of_every_launch() -> list[Point]:
    """What every launch of the first run must show."""
    return [
        Point("every model runs", gpu.without(*UNMEASURED), LOOK_AT_LOG),
        Point(
            "engines run on the GPU that they were given",
            gpu.the_leased_device_is_used,
            "CUDA_VISIBLE_DEVICES of the launch is in results.json: does the driver take full UUIDs?",
            on_cpu=False,
        ),
        Point(
            "engines compile and capture CUDA graphs",
            gpu.engines_compile_and_capture,
            "Look for `Graph capturing` in the engine's log",
            on_cpu=False,
        ),
        Point(
            "the size of each cache is fixed",
            gpu.caches_are_fixed,
            "Add the device to hybrid_ops/models/devices.yaml",
        ),
        Point(
            "weights, activations and cache are told apart",
            gpu.memory_is_split,
            "Compare vllm_plugins/ranks.py with this vLLM: ci/vllm-contract names what is gone",
            on_cpu=False,
        ),
    ]


def _recorded() -> Point:
    mend = "Let the machine rest, or give more launches with --perf-launches; a refusal names its reason"
    return Point("baselines are recorded", gpu.baselines_are_recorded, mend)


def _agrees_with_baselines() -> Point:
    bad = (*UNMEASURED, Verdict.SLOWER, Verdict.CHANGED)
    mend = "`changed`: something that must be exact is not; `slower`: the machine moved between two runs"
    return Point("a second run agrees with them", gpu.without(*bad), mend)


def _noise() -> Point:
    mend = "An arm differs from itself: look for other processes and held-down clocks"
    return Point("an arm compared with itself is not slower, and the noise is kept", gpu.noise_is_known, mend)


def _injection(share: str) -> list[Point]:
    return [
        Point(
            f"{share} injected into each step is called slower in every pace cell",
            gpu.injection_is_caught,
            "`inconclusive` needs more pairs (--perf-budget); `pass` means that the injection is hidden",
        ),
        Point(
            "what is exact is the same with the injection",
            gpu.exact_cells_pass,
            "The injection must change times alone",
        ),
    ]


def _equal_arms() -> Point:
    mend = "A difference that the engine does not read must not pass: see LoadFacts.unknown_variables in results.json"
    return Point("an arm that does not differ is refused", gpu.equal_arms_are_refused, mend)


def _is_measured(title: str) -> Point:
    return Point(title, gpu.without(*UNMEASURED, Verdict.CHANGED), LOOK_AT_LOG)
