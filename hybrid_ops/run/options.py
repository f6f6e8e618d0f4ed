"""What is asked of a run, whoever asks: pytest's command line or another program."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from hybrid_ops.engines.devices import Device
from hybrid_ops.measure.conditions import Limits
from hybrid_ops.measure.pair import Arm
from hybrid_ops.run.shards import Shard


@dataclass(frozen=True)
class SuiteOptions:
    """Which suite is put to which models."""

    suite: str = "quick"
    workloads_file: Path | None = None
    """A suites file in place of the shipped one."""
    models_files: tuple[Path, ...] = ()
    """Zoo files beside the shipped one."""
    platform: str = "cpu"
    """Where engines run (`cpu` or `cuda`), for models that can run there."""
    settings: tuple[str, ...] = ()
    """`--perf-set`: fields, arguments and configurations set anew."""
    weights: str = "seeded"
    """`seeded`, or `hub` for the real weights of models that have them."""
    data_folder: Path = Path("perf_data")
    prompts: str | None = None
    """Prompts for rollouts: a file or a Hugging Face dataset."""
    server_url: str | None = None
    """A running server that loads are put on."""
    server_names: tuple[str, ...] = ()
    """`MODEL=NAME`: what the running server calls a model of the zoo."""
    power_limits: tuple[int, ...] = ()
    """Power limits in watts: every case that makes tokens is measured at each of them."""
    in_arms: bool = False
    """Whether two arms are compared with each other, so that ratios to other models and to peaks are left out."""
    is_elsewhere: bool = False
    """Whether other machines measure it, so that what this one cannot give is no reason to leave a metric out."""


@dataclass(frozen=True)
class RunOptions:
    """How a run measures and judges."""

    device: Device
    """What baselines are looked up for: a device of this machine, or a running server."""
    baselines: Path
    history: Path | None
    """The history of this machine, which tells how far each cell moves between nights."""
    update: bool
    update_adds: bool
    """Whether an update adds a session to the baselines, in place of recording them anew."""
    most_launches: int
    budget_seconds: float
    deadline_seconds: float
    stage_seconds: Mapping[str, float]
    """What each stage of a load may take."""
    download_seconds: float
    """What the download of one model's real weights may take; it is no part of any launch."""
    environment: dict[str, str | None]
    command: str
    limits: Limits = field(default_factory=Limits)
    processes: int = 1
    """How many processes share the run."""
    arms: tuple[Arm, Arm] | None = None
    """The two sides of an A/B comparison; None: a comparison with the baselines."""
    arm_tolerance: float = 0.0
    """The largest relative change between arms that still passes."""
    shard: Shard | None = None
    """Which part of the run is made here; None: all of it."""

    @property
    def class_folder(self) -> Path:
        """Where the baselines of the device's class lie, and what else is recorded of it."""
        return self.baselines / self.device.device_class

    @property
    def arms_differ(self) -> bool:
        """False for an A/A comparison."""
        return self.arms is not None and replace(self.arms[0], name="") != replace(self.arms[1], name="")
