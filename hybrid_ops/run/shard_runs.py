"""The shards of a run as they were measured: read from their folders, and checked that they are parts of one run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from hybrid_ops.errors import InputError, describe_validation
from hybrid_ops.measure.gpu import COMPARED_SETTINGS
from hybrid_ops.regression.results import RunResults, read_results
from hybrid_ops.run.rounds import Round
from hybrid_ops.run.run import ROUND
from hybrid_ops.run.shard_file import ShardFile, read_shard_file

OF_ONE_MACHINE = frozenset({"device", "baselines", "history", "command", "processes", "shard"})
"""Options of a run in which its shards may differ; the class of the device is asked for by itself."""


@dataclass(frozen=True)
class ShardRun:
    """One shard: what it says of the whole run, and what it measured."""

    folder: Path
    told: ShardFile
    results: RunResults
    rounds: list[Round]

    @property
    def number(self) -> int:
        return self.told.shard.number


def read_shards(folders: Sequence[Path]) -> list[ShardRun]:
    """The shards in these folders by their numbers, all of one run. Raises InputError."""
    shards = [_read(folder) for folder in folders]
    for other in shards[1:]:
        _check_alike(shards[0], other)
    by_number: dict[int, ShardRun] = {}
    for shard in shards:
        if (twin := by_number.setdefault(shard.number, shard)) is not shard:
            raise InputError(f"{shard.folder}: is shard {shard.told.shard}, as {twin.folder} is: name each shard once")
    count = shards[0].told.shard.count
    if missing := [f"{number}/{count}" for number in range(1, count + 1) if number not in by_number]:
        raise InputError(f"shard {', '.join(missing)} is missing: name the folders of all {count} shards")
    found = [by_number[number] for number in sorted(by_number)]
    _check_cells(found)
    return found


def _read(folder: Path) -> ShardRun:
    told = read_shard_file(folder)
    return ShardRun(folder, told, read_results(folder), list(_rounds(folder)))


def _rounds(folder: Path) -> Iterator[Round]:
    """Every round of a run, the last of which has no launches."""
    number, is_last = 1, False
    while not is_last:
        path = folder / "rounds" / f"{number}.json"
        try:
            found = ROUND.validate_json(path.read_bytes())
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror}); a shard needs its whole folder") from None
        except ValidationError as error:
            raise describe_validation(path, error) from None
        yield found
        number, is_last = number + 1, not found.launches


def _check_alike(first: ShardRun, other: ShardRun) -> None:
    """Raise InputError where two shards cannot be of one run."""
    ours, theirs = _facts(first), _facts(other)
    for what in ours:
        if what in theirs and ours[what] != theirs[what]:
            raise InputError(
                f"{other.folder}: {what}: {_shown(theirs[what])}, and {_shown(ours[what])} in {first.folder}; "
                "the shards of one run are alike in this"
            )
    if first.told.launches != other.told.launches or sorted(first.told.cells) != sorted(other.told.cells):
        raise InputError(
            f"{other.folder}: divides the run otherwise than {first.folder}: give all shards the same testcases, "
            "in checkouts with the same baselines"
        )


def _facts(shard: ShardRun) -> dict[str, Any]:
    """What the shards of one run have in common. Versions are compared where both have the program."""
    told, results = shard.told, shard.results
    found: dict[str, Any] = {
        "number of shards": told.shard.count,
        "device class": results.device.device_class,
        **{f"option {one.name}": getattr(told.suite, one.name) for one in fields(told.suite)},
        **{
            f"option {one.name}": getattr(told.run, one.name)
            for one in fields(told.run)
            if one.name not in OF_ONE_MACHINE
        },
        **{f"version of {name}": version for name, version in results.versions.items()},
    }
    if told.run.update:  # without one each cell is judged by how its own GPU was set
        found |= {f"setting {name}": results.device.settings.get(name) for name in COMPARED_SETTINGS}
    return found


def _shown(value: Any) -> str:
    """A value as a person would write it."""
    if isinstance(value, tuple | list):
        return " ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)


def _check_cells(shards: Sequence[ShardRun]) -> None:
    """Raise InputError for a shard that did not measure its part."""
    for shard in shards:
        own = set(shard.told.launches[shard.number - 1])
        for cell in shard.results.cells:
            if cell.engine not in own:
                raise InputError(f"{shard.folder}: has the cell {cell.cell}, which is of another shard")
    measured = {cell.cell for shard in shards for cell in shard.results.cells}
    if missing := [name for name in shards[0].told.cells if name not in measured]:
        raise InputError(f"no shard has the cell {missing[0]}: measure all shards with the same testcases")
