"""The device, the versions and the files of a run, as tables of a name and a value."""

from __future__ import annotations

from pathlib import Path

from hybrid_ops.regression.results import RunResults
from hybrid_ops.report.numbers import show, show_time
from hybrid_ops.report.page.launches import link
from hybrid_ops.report.summary import SUMMARY_FILE

NamedValues = list[tuple[str, str]]
FOLDER_OF_PLOTS = "plots"
SUFFIXES = (".csv", ".json", ".log", ".md", ".txt", ".xml")
UNKNOWN = "not known"


def run_facts(run: RunResults) -> NamedValues:
    """When and how it was run, and what it cost."""
    facts = [("command", run.command), ("started", run.started or "no launch"), ("took", show_time(run.seconds))]
    if run.cost is not None and run.cost.gpu_seconds:
        facts.append(("GPU time", show_time(run.cost.gpu_seconds)))
    for arm in run.arms or ():
        differs = [f"{name}={value}" for name, value in {**arm.environment, **arm.arguments}.items()]
        facts.append((f"arm {arm.name}", " ".join([arm.interpreter, *differs])))
    return facts


def device_facts(run: RunResults) -> NamedValues:
    """The device and machine; what is not known says so."""
    device = run.device
    facts: list[tuple[str, object]] = [
        ("device", device.name),
        ("device class", device.device_class),
        ("UUID", device.uuid),
        ("cores", device.cores),
        ("memory", None if device.memory_bytes is None else show(device.memory_bytes, "B")),
        ("kernel", device.kernel),
    ]
    if device.peaks is not None:
        facts += [(f"peak {dtype}", f"{peak / 1e12:.4g} TFLOP/s") for dtype, peak in device.peaks.flops.items()]
        facts.append(("peak bandwidth", f"{device.peaks.bandwidth / 1e9:.4g} GB/s ({device.peaks.source})"))
    facts += device.settings.items()
    return [(name, UNKNOWN if value is None else str(value)) for name, value in facts]


def versions(run: RunResults) -> NamedValues:
    """Versions of the suite, its source, and the engines."""
    return list(run.versions.items())


def files(folder: Path, page: Path) -> NamedValues:
    """The other files of the run and links to them. `summary.md` is there, or is written right after the page."""
    own = {path for path in folder.glob("*") if path.is_file() and path.suffix in SUFFIXES} | {folder / SUMMARY_FILE}
    names = [*sorted(own), *sorted((folder / FOLDER_OF_PLOTS).glob("*.*"))]
    return [(path.relative_to(folder).as_posix(), link(path, page)) for path in names]
