"""`--perf-shard`: which testcases this shard has, and what it says of the whole run."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from hybrid_ops.plugin.fixtures import cell_parameters
from hybrid_ops.plugin.settings import run_options, suite_options
from hybrid_ops.plugin.state import FOLDER, SHARD
from hybrid_ops.regression.cells import Cell
from hybrid_ops.run.division import divide
from hybrid_ops.run.launch_seconds import LAUNCH_SECONDS_FILE, read_launch_seconds
from hybrid_ops.run.shard_file import SHARD_FILE, ShardFile, noisy_count, read_shard_file, relative_to


def own_testcases(config: pytest.Config, items: Sequence[pytest.Item], measured: Sequence[Cell]) -> list[pytest.Item]:
    """Those of the chosen testcases that this shard has; all of them without `--perf-shard`. Raises InputError.

    The cells of one launch, and those that are compared with each other, stay together. What needs no launch is the
    first shard's. `measured` are the cells that are launched for in the whole run.
    """
    options = run_options(config)
    if options.shard is None:
        return list(items)
    cells = [cell for item in items for cell in cell_parameters(item) if isinstance(cell, Cell)]
    recorded = read_launch_seconds(options.class_folder / LAUNCH_SECONDS_FILE)
    launches = divide(cells, measured, recorded, options.shard.count)
    config.stash[SHARD] = ShardFile(
        shard=options.shard,
        cells=[cell.id for cell in measured],
        noisy_cells=noisy_count(measured),
        launches=launches,
        suite=relative_to(config.rootpath, suite_options(config)),
        run=options,
    )
    own = launches[options.shard.number - 1]
    return [item for item in items if _is_of(item, own, is_first=options.shard.number == 1)]


def _is_of(item: pytest.Item, launches: Sequence[str], is_first: bool) -> bool:
    cells = [cell for cell in cell_parameters(item) if isinstance(cell, Cell)]
    return cells[0].case.spec.launch_name in launches if cells else is_first


def shard_line(shard: ShardFile) -> str:
    """What of the run this shard has."""
    own, whole = shard.launches[shard.shard.number - 1], sum(map(len, shard.launches))
    return f"perf: shard {shard.shard}: {len(own)} of {whole} engines ({', '.join(own) or 'none'})"


def has_nothing_to_do(config: pytest.Config) -> bool:
    """Whether this is a shard without a testcase of a run that has some, because there are more shards than engines."""
    folder = config.stash.get(FOLDER, None)
    return folder is not None and (folder / SHARD_FILE).exists() and bool(read_shard_file(folder).cells)
