"""What differed between two runs, of all that the history keeps of them, in a sentence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from hybrid_ops.regression.history.store import RunFacts

UNSET = "not set"


def differences(before: RunFacts, after: RunFacts) -> str:
    """Versions, machine, the launches that both made, and the command, each as `old -> new`.

    `vllm 0.32.0 -> 0.33.0; llama-tiny: max_num_seqs 64 -> 32; otherwise nothing that is recorded differs`. It says so
    where a run was kept before machine, launches and command were.
    """
    found = [f"{name} {change}" for name, change in _changed(before.versions, after.versions)]
    if unknown := [run.name for run in (before, after) if not run.machine]:
        return "; ".join([*found, f"machine, arguments and command of {' and '.join(unknown)} are not recorded"])
    found += [f"{name} {change}" for name, change in _changed(before.machine, after.machine)]
    for launch in sorted(before.setups.keys() & after.setups.keys()):
        old, new = before.setups[launch], after.setups[launch]
        changed = [f"{name} {change}" for part in sorted(old) for name, change in _changed(old[part], new[part])]
        if changed:
            found.append(f"{launch}: {', '.join(changed)}")
    if _asked(before) != _asked(after):
        found.append(f"command {_asked(before)} -> {_asked(after)}")
    return "; ".join([*found, ("otherwise " if found else "") + "nothing that is recorded differs"])


def _asked(run: RunFacts) -> str:
    """The command of a run without the run's own name, which always differs."""
    return (run.command or "").replace(run.name, "RUN")


def _changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The names whose values differ, and how."""
    for name in sorted(before.keys() | after.keys()):
        old, new = before.get(name, UNSET), after.get(name, UNSET)
        if old != new:
            yield name, f"{UNSET if old is None else old} -> {UNSET if new is None else new}"
