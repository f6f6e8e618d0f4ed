"""The peaks that a run's utilisation is measured against: a GPU's from the table, a CPU's measured on the spot.

Run as `python -m hybrid_ops.measure.peaks DTYPE…` it measures the CPU and prints the peaks as JSON: in a process of its
own, because the process that runs the tests does not import torch.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import hybrid_ops
from hybrid_ops.engines.devices import Device
from hybrid_ops.errors import InputError
from hybrid_ops.measure.store import write_json
from hybrid_ops.models.devices import DevicePeaks, find_device, measure_cpu, slice_peaks

MEASUREMENT_DEADLINE_SECONDS = 120.0
ROUNDS, ROUND_SECONDS = 4, 0.25


def has_peaks(device: Device) -> bool:
    """Whether a device's peaks are in the table or can be measured."""
    if device.platform == "cpu":
        return True
    try:
        _gpu_peaks(device)
    except InputError:
        return False
    return True


def run_peaks(device: Device, dtypes: Iterable[str], recorded: Path, record: bool) -> DevicePeaks:
    """The peaks of a device for the given data types.

    A CPU's are read from the file `recorded`, which lies beside the baselines of its device class: what was measured
    on the spot moves between runs by more than any metric, and two utilisations compare only at equal peaks. What the
    file lacks is measured now, in a few seconds, and written to it if `record` says so.

    Raises InputError for a GPU that is not in the table and for a broken file, RuntimeError when measuring fails.
    """
    if device.platform != "cpu":
        return _gpu_peaks(device)
    known = read_peaks(recorded)
    missing = set(dtypes) - (known.flops.keys() if known else set())
    if not missing:
        assert known is not None
        return known
    measured = _measure(missing)
    peaks = replace(known, flops={**known.flops, **measured.flops}) if known else measured
    if record:
        recorded.parent.mkdir(parents=True, exist_ok=True)
        write_json(recorded, asdict(peaks))
    return peaks


def _gpu_peaks(device: Device) -> DevicePeaks:
    """Those of the table, and of a MIG instance its part of its card's. Raises InputError."""
    if device.slice is None:
        return find_device(device.name)
    return slice_peaks(device.name.removesuffix(f" MIG {device.slice.profile}"), device.slice)


def known_memory(device: Device) -> int | None:
    """Bytes of a device's own memory, which all of its class have; None where the table does not tell."""
    try:
        memory = _gpu_peaks(device).memory
    except InputError:
        return None
    return None if memory is None else int(memory)


def peaks_from_json(document: dict[str, Any]) -> DevicePeaks:
    """The peaks as `asdict` and JSON have them. Raises TypeError for anything else."""
    return DevicePeaks(**document)


def read_peaks(path: Path) -> DevicePeaks | None:
    """The recorded peaks of a device class, or None without a file. Raises InputError."""
    if not path.exists():
        return None
    try:
        peaks = peaks_from_json(json.loads(path.read_text(encoding="utf-8")))
        if not all(rate > 0 for rate in (peaks.bandwidth, *peaks.flops.values())):
            raise ValueError("every rate must be above 0")
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: not the peaks of a device: {error}; remove it to measure them anew") from None
    return peaks


def _measure(dtypes: Iterable[str]) -> DevicePeaks:
    done = subprocess.run(
        [sys.executable, "-m", __name__, *sorted(dtypes)],
        env={**os.environ, "PYTHONPATH": str(Path(hybrid_ops.__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=MEASUREMENT_DEADLINE_SECONDS,
        check=False,
    )
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise RuntimeError(f"the processor's peaks could not be measured: {lines[-1]}")
    return peaks_from_json(json.loads(done.stdout))


def main() -> None:
    # Alternating, so that a pause of the machine does not fall on one of them alone.
    measured = [measure_cpu(dtype, seconds=ROUND_SECONDS) for _ in range(ROUNDS) for dtype in sys.argv[1:]]
    flops = {dtype: max(peaks.flops.get(dtype, 0.0) for peaks in measured) for dtype in sys.argv[1:]}
    fastest = max(peaks.bandwidth for peaks in measured)
    print(json.dumps(asdict(replace(measured[0], flops=flops, bandwidth=fastest))))


if __name__ == "__main__":
    main()
