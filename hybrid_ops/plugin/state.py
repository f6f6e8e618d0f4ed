"""What the plugin keeps of one pytest session, in pytest's own stash."""

from __future__ import annotations

from pathlib import Path

import pytest

from hybrid_ops.errors import InputError
from hybrid_ops.plugin.progress import ProgressFile
from hybrid_ops.plugin.settings import suite_options
from hybrid_ops.regression.cells import Cell
from hybrid_ops.report import Told
from hybrid_ops.run.plan import SuitePlan
from hybrid_ops.run.run import PerfRun
from hybrid_ops.run.shard_file import ShardFile

RUN = pytest.StashKey[PerfRun]()
"""The run, in each process that measures."""
FOLDER = pytest.StashKey[Path]()
"""The run's folder."""
PROGRESS = pytest.StashKey[ProgressFile]()
DESELECTED = pytest.StashKey[str]()
"""Why testcases are not run, in a sentence."""
TOLD = pytest.StashKey[list[Told]]()
"""What the reports said at the end."""
PLAN = pytest.StashKey[SuitePlan]()
"""What the command line asks for, once a testcase needs it."""
SHARD = pytest.StashKey[ShardFile]()
"""What a shard says of the run that it is a part of."""
_CELLS = pytest.StashKey[list[Cell]]()


def cells_of(config: pytest.Config) -> list[Cell]:
    """Every cell of the suite that the command line names, made at first use. Raises pytest.UsageError."""
    if _CELLS not in config.stash:
        try:
            config.stash[PLAN] = SuitePlan(suite_options(config))
            config.stash[_CELLS] = config.stash[PLAN].cells()
        except InputError as error:
            raise pytest.UsageError(str(error)) from None
    return config.stash[_CELLS]


def is_worker(config: pytest.Config) -> bool:
    """Whether this is one of several processes that pytest-xdist started."""
    return hasattr(config, "workerinput")


def is_controller(config: pytest.Config) -> bool:
    """Whether this is xdist's controller, which collects and measures nothing itself."""
    return not is_worker(config) and bool(getattr(config.option, "dist", "no") != "no")
