"""Published documents as data: one YAML file a document, each figure with the digits that were printed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from hybrid_ops.errors import InputError
from hybrid_ops.yaml_files import StrictModel, load_schema

PUBLISHED_SCHEMA_VERSION = 1
PUBLISHED_FOLDER = "published"
PACKAGED = Path(__file__).parent / "data"
"""The documents that ship with the suite: `perf_baselines/published` of its repository, by a link."""
NUMBER = re.compile(r"\d{1,3}(?:,\d{3})+(?!\d)(?:\.\d+)?|\d+(?:\.\d+)?")
PLACEHOLDER = re.compile(r"\{([^}]+)\}")


class Facts(StrictModel):
    """What is known of figures. Those of a document, table, column and row add up; the last one stated counts.

    `{Heading}` in a text stands for the cell of the figure's own row under that heading.
    """

    model: str | None = None
    """A model of the zoo."""
    workload: str | None = None
    """A workload of the suites that asks for the same."""
    metric: str | None = None
    unit: str | None = None
    hardware: str | None = None
    """As the document calls it, where that is not the document's one hardware."""
    device: str | None = None
    """A device of `models/devices.yaml`."""
    devices: int | None = None
    """How many of them together, or, of one engine's figure, how many that engine has."""
    engines: int | None = None
    sequences: int | None = None
    """Sequences at once, over all engines."""
    prompt_tokens: int | str | None = None
    generation_tokens: int | str | None = None
    power: str | None = None
    """The power limit of the device."""

    def filled(self, cells: Mapping[str, str]) -> Facts:
        """With every placeholder replaced by the cell under its heading."""
        told = self.model_dump(exclude_none=True)
        for name, value in told.items():
            if isinstance(value, str):
                told[name] = PLACEHOLDER.sub(lambda found: cells[found[1]], value)
        return Facts(**told)


class Column(StrictModel):
    """A column of a table."""

    heading: str
    text: bool = False
    """Whether its cells are names and not figures."""
    align: Literal["left", "right"] = "left"
    width: int | None = None
    """Least width in characters, where the layout has one."""
    facts: Facts = Facts()


class Failure(StrictModel):
    """What was tried and failed."""

    reason: str = Field(min_length=1)
    link: str | None = None


class PublishedTable(StrictModel):
    """One table of a document."""

    name: str
    heading: str = ""
    """The lines above it in the document that say what it is."""
    title: str = ""
    """The title within its layout."""
    note: str = ""
    """What the layout says of the whole table."""
    form: Literal["markdown", "llama-bench", "grid", "mask", "serving", "list", "columns", "lines"] = "markdown"
    """Its layout (`layouts.py`)."""
    rule: str = ""
    """Of a Markdown table whose cells are not padded: the line below its headings."""
    facts: Facts = Facts()
    accounting: list[str] = []
    """What can be recomputed of it (`accounting/`)."""
    columns: list[Column] = []
    rows: list[list[str]] = []
    """Cells as they were printed."""
    row_facts: dict[str, Facts] = {}
    """Facts of the rows with this first cell."""
    failures: list[Failure] = []
    below: str = ""
    """The lines below it in the document."""

    def row_name(self, row: list[str]) -> str:
        """The first cell of a row and, where others have the same, the first further cell that tells them apart."""
        name = row[0].removesuffix(":")
        alike = [other for other in self.rows if other[0] == row[0]]
        if len(alike) > 1:
            name += next(f", {cell}" for index, cell in enumerate(row) if len({o[index] for o in alike}) == len(alike))
        return name

    @model_validator(mode="after")
    def _is_rectangular(self) -> PublishedTable:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"{self.name}: the row {row} has {len(row)} cells for {len(self.columns)} columns")
        if len({tuple(row) for row in self.rows}) < len(self.rows):
            raise ValueError(f"{self.name}: a row is there twice")
        if unknown := self.row_facts.keys() - {row[0] for row in self.rows}:
            raise ValueError(f"{self.name}: row_facts of no row: {', '.join(sorted(unknown))}")
        return self


@dataclass(frozen=True)
class Figure:
    """One printed figure, with all that is known of it."""

    table: str
    name: str
    """Of its row: the first cell, and what tells it from other rows with that cell."""
    row: tuple[str, ...]
    column: str
    text: str
    facts: Facts

    @property
    def numbers(self) -> list[Decimal]:
        """The numbers in the cell with their digits: of `16634.04 ± 97.98` both."""
        return [Decimal(number.replace(",", "")) for number in NUMBER.findall(self.text)]

    @property
    def value(self) -> float:
        """The first number, in the printed unit."""
        return float(self.numbers[0])

    @property
    def decimals(self) -> int:
        """Digits that were printed after the point."""
        exponent = self.numbers[0].as_tuple().exponent
        return -exponent if isinstance(exponent, int) else 0

    @property
    def place(self) -> str:
        """Where it stands in its table: `short, Llama`."""
        return f"{self.name}, {self.column}"


class PublishedDocument(StrictModel):
    """One document."""

    schema_version: int
    title: str
    source: str
    date: str
    hardware: str
    software: dict[str, str]
    conditions: dict[str, str]
    facts: Facts = Facts()
    stated: dict[str, dict[str, int]] = {}
    """What its text says of models, by model: parameters, layers, heads."""
    assumed: dict[str, dict[str, int]] = {}
    """What it does not say and our accounting needs."""
    tables: list[PublishedTable]

    def table(self, name: str) -> PublishedTable:
        """The table of this name. Raises KeyError."""
        for table in self.tables:
            if table.name == name:
                return table
        raise KeyError(name)

    def figures(self, table: PublishedTable | None = None) -> Iterator[Figure]:
        """Every figure of one table or of all: the cells with a number, row by row."""
        for one in self.tables if table is None else [table]:
            for row in one.rows:
                cells = {column.heading: cell for column, cell in zip(one.columns, row)}
                for column, text in zip(one.columns, row):
                    if not column.text and NUMBER.search(text):
                        layers = (self.facts, one.facts, column.facts, one.row_facts.get(row[0], Facts()))
                        told: dict[str, Any] = {}
                        for layer in layers:
                            told |= layer.model_dump(exclude_none=True)
                        facts = Facts(**told).filled(cells)
                        yield Figure(one.name, one.row_name(row), tuple(row), column.heading, text, facts)

    def find(self, **wanted: object) -> Figure | None:
        """The first figure with all of these facts."""
        for figure in self.figures():
            if all(getattr(figure.facts, name) == value for name, value in wanted.items()):
                return figure
        return None


def read_documents(folder: Path = PACKAGED) -> dict[str, PublishedDocument]:
    """The documents of a folder by the name of their file. Raises InputError."""
    paths = sorted(folder.glob("*.yaml"))
    if not paths:
        raise InputError(f"{folder}: no published document is there; each is one YAML file")
    return {path.stem: load_schema(path, PublishedDocument, PUBLISHED_SCHEMA_VERSION) for path in paths}
