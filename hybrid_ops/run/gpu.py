"""What a GPU machine has to show, point by point: runs of the suite, and what their `results.json` must say.

An exit status says that something failed, not that the right thing did: each point looks for itself.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hybrid_ops.measure.metrics import Kind
from hybrid_ops.measure.records import LaunchRecord
from hybrid_ops.measure.store import new_run_id
from hybrid_ops.regression.cells import CellResult
from hybrid_ops.regression.results import RESULTS_FILE, RunResults, read_results
from hybrid_ops.regression.verdicts import Verdict
from hybrid_ops.run.night import Interruptible

PACE = ("output_throughput", "decode_throughput", "median_itl_ms", "median_tpot_ms", "median_step_ms")
"""The metrics in which a slower engine step must show."""
UNREAD_VARIABLE = "VLLM_ATTENTION_BACKEND"
"""A variable that vLLM once read (up to 0.25) and reads no more."""
MOST_NAMES = 3

Look = Callable[[RunResults], str | None]
"""What a run's results lack, in words; None where they show the point."""


@dataclass(frozen=True)
class Point:
    """One line of the page."""

    title: str
    look: Look
    mend: str
    """What to do where it is not shown."""
    on_cpu: bool = True
    """Whether the same can be shown on a CPU, in a dry run."""


@dataclass(frozen=True)
class Step:
    """One pytest run, and the points that it shows."""

    name: str
    arguments: Sequence[str]
    points: Sequence[Point]


@dataclass(frozen=True)
class Shown:
    """A point, and what is lacking."""

    title: str
    problem: str | None
    mend: str

    @property
    def line(self) -> str:
        """`✓ what is shown`, or `✗ what is not: why. What to do.`"""
        return f"✓ {self.title}" if self.problem is None else f"✗ {self.title}: {self.problem}. {self.mend}"


@dataclass
class Proof:
    """All steps, one after the other."""

    steps: Sequence[Step]
    results: Path
    common: Sequence[str] = ()
    """Arguments of every pytest run, in place of a step's own where they are the same."""
    is_dry: bool = False
    shown: list[Shown] = field(default_factory=list)

    def run(self, tell: Callable[[str], None]) -> bool:
        """Make every run and look at it. Returns whether every point is shown."""
        run_id = new_run_id()
        with Interruptible() as programs:
            for step in self.steps:
                if programs.is_interrupted:
                    break
                tell(f"\n== {step.name}")
                name = f"{run_id}-{step.name}"
                own = [f"--perf-results={self.results}", f"--perf-run-id={name}"]
                programs.run([sys.executable, "-m", "pytest", "--perf", *step.arguments, *self.common, *own])
                self.shown += self._look(step, self.results / name, programs.is_interrupted)
        return not programs.is_interrupted and all(one.problem is None for one in self.shown)

    def _look(self, step: Step, folder: Path, is_interrupted: bool) -> Iterator[Shown]:
        has_results = (folder / RESULTS_FILE).is_file() and not is_interrupted
        results = read_results(folder) if has_results else None
        for point in step.points:
            if self.is_dry and not point.on_cpu:
                continue
            if results is None:
                yield Shown(point.title, "the run left no results", f"Its messages are above; {folder} has its logs")
            elif not results.cells:
                yield Shown(point.title, "nothing was measured", "The run's messages above say why")
            else:
                yield Shown(point.title, point.look(results), f"{point.mend} ({folder / 'summary.md'})")


def named(cells: Sequence[CellResult]) -> str:
    """`3 cells: a, b, c`."""
    more = f" and {len(cells) - MOST_NAMES} more" if len(cells) > MOST_NAMES else ""
    return f"{len(cells)} cell{'s' if len(cells) > 1 else ''} ({', '.join(c.cell for c in cells[:MOST_NAMES])}{more})"


def without(*verdicts: Verdict) -> Look:
    """No cell has one of these verdicts."""

    def look(results: RunResults) -> str | None:
        found = [cell for cell in results.cells if cell.verdict in verdicts and not cell.recorded]
        return f"{named(found)} {'/'.join(dict.fromkeys(cell.verdict.value for cell in found))}" if found else None

    return look


def baselines_are_recorded(results: RunResults) -> str | None:
    """An update wrote baselines and refused none."""
    if results.update is None or not (results.update.written or results.update.kept):
        return "the update wrote nothing"
    refused = results.update.refused
    return f"{len(refused)} cells were refused, such as {next(iter(refused.items()))}" if refused else None


def noise_is_known(results: RunResults) -> str | None:
    """An A/A comparison called nothing slower and added to the noise file."""
    return without(Verdict.SLOWER, Verdict.CHANGED)(results) or (None if results.noise else "no noise was recorded")


def injection_is_caught(results: RunResults) -> str | None:
    """Every pace cell of every case is slower in arm B."""
    pace = [cell for cell in results.cells if cell.metric in PACE]
    missed = [cell for cell in pace if cell.verdict is not Verdict.SLOWER]
    if not pace:
        return "no pace cell was measured"
    return f"{len(pace) - len(missed)} of {len(pace)} pace cells are slower; not {named(missed)}" if missed else None


def exact_cells_pass(results: RunResults) -> str | None:
    """What is exact is the same in both arms."""
    exact = [cell for cell in results.cells if cell.kind == Kind.EXACT.value]
    failing = [cell for cell in exact if cell.verdict is not Verdict.PASS]
    return named(failing) if failing else None if exact else "no exact cell was measured"


def equal_arms_are_refused(results: RunResults) -> str | None:
    """Every cell says that arm B does not differ."""
    found = [cell for cell in results.cells if "arm B does not differ" not in cell.reason]
    return f"{named(found)} {found[0].verdict.value}" if found else None


def engines_compile_and_capture(results: RunResults) -> str | None:
    """Every launch that is not eager has compiled its model and captured graphs."""
    for launch in _loaded(results):
        facts = launch.facts
        if launch.arguments.get("enforce_eager") is False and facts is not None and facts.capture_seconds is None:
            return f"{launch.launch_name} captured no CUDA graph"
    return None


def caches_are_fixed(results: RunResults) -> str | None:
    """Every vLLM launch was told the size of its cache, and all launches of a spec have as many blocks."""
    blocks: dict[str, set[int]] = {}
    for launch in _loaded(results):
        if launch.facts is None or launch.facts.cache is None:
            continue
        if launch.arguments.get("kv_cache_memory_bytes") is None:
            return f"{launch.launch_name} took what memory was free: the device is not in models/devices.yaml"
        blocks.setdefault(launch.launch_name, set()).add(launch.facts.cache.num_blocks)
    different = [name for name, seen in blocks.items() if len(seen) > 1]
    return f"launches of {', '.join(different)} have different numbers of blocks" if different else None


def memory_is_split(results: RunResults) -> str | None:
    """The peak is less than the cache where the cache is most of the memory: it does not count it."""
    for case in dict.fromkeys(cell.case for cell in results.cells if cell.metric == "cache_memory_bytes"):
        found = results.medians(case)
        parts = ("weight_memory_bytes", "activation_memory_bytes", "cache_memory_bytes")
        if missing := [name for name in parts if name not in found]:
            return f"{case} has no {missing[0]}"
        if found["peak_memory_bytes"] < found["weight_memory_bytes"]:
            return f"{case}: the peak beside the cache is less than the weights"
    return None


def the_leased_device_is_used(results: RunResults) -> str | None:
    """Each engine ran on the device that it was given."""
    for launch in _loaded(results):
        leased, found = launch.device.get("uuid"), launch.facts.device.uuid if launch.facts is not None else None
        if leased and found and not str(leased).endswith(found.removeprefix("GPU-").removeprefix("MIG-")):
            return f"{launch.launch_name} was given {leased} and ran on {found}"
    return None


def _loaded(results: RunResults) -> Iterator[LaunchRecord]:
    for record in results.launches:
        yield from (launch for launch in record.launches if launch.facts is not None)
