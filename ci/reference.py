"""Makes the pages of docs/reference/ from the code: `ci/reference` writes them. A test holds them against the code."""

from __future__ import annotations

import argparse
import ast
import dataclasses
import datetime
import inspect
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import Enum
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import annotated_types
import pytest
from pydantic import BaseModel

from hybrid_ops.cli import BAD_INPUT, build_parser
from hybrid_ops.measure.energy import ENERGY_METRICS
from hybrid_ops.measure.metrics import Direction, Metric, Scope
from hybrid_ops.measure.procedures import PROCEDURES
from hybrid_ops.models.zoo import ZooFile
from hybrid_ops.plugin.options import add_options
from hybrid_ops.regression.baselines import BaselineFile
from hybrid_ops.regression.results import RunResults
from hybrid_ops.regression.verdicts import Verdict
from hybrid_ops.run.status import MEANINGS
from hybrid_ops.workloads.suites import Configuration

FOLDER = Path(__file__).parents[1] / "docs" / "reference"
MADE = "*Made from the code by `ci/reference`. Change the code, then run it again.*"
USAGE_COLUMNS = "110"
SIMPLE = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "`true` or `false`",
    NoneType: "`null`",
    Any: "anything",
    datetime.date: "date",
}
BOUNDS = {
    annotated_types.Gt: ("gt", "above {}"),
    annotated_types.Ge: ("ge", "{} or more"),
    annotated_types.Lt: ("lt", "below {}"),
    annotated_types.Le: ("le", "{} or less"),
}
BETTER = {Direction.HIGHER: "higher", Direction.LOWER: "lower", Direction.NONE: "—"}
PLACES = {Scope.ANY: "`any/`", Scope.PLATFORM: "`cpu/`, `cuda/`", Scope.DEVICE_CLASS: "device class"}


def pages() -> dict[str, str]:
    """The text of every page, by its file's name."""
    made = {
        "commands": commands_page(),
        "files": files_page(),
        "metrics": metrics_page(),
        "options": options_page(),
        "results-fields": results_page(),
        "verdicts": verdicts_page(),
    }
    return {f"{name}.md": text for name, text in made.items()}


def page(title: str, introduction: str, *parts: str) -> str:
    return "\n\n".join([f"# {title}", MADE, introduction, *parts]) + "\n"


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table. Bars in a cell are escaped."""
    lines = [" | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) for row in rows]
    return "\n".join(f"| {line} |" for line in [" | ".join(headings), " | ".join("---" for _ in headings), *lines])


# --- options and commands ---


class OptionsOfPytest(argparse.ArgumentParser):
    """What pytest's own parser is to a plugin that adds options, on the class that pytest's is made of."""

    def getgroup(self, name: str, description: str = "") -> OptionsOfPytest:
        return self

    def addoption(self, *names: str, **attributes: Any) -> None:
        self.add_argument(*names, **attributes)


def options_page() -> str:
    """The options that the plugin adds to pytest."""
    parser = OptionsOfPytest(prog="pytest", add_help=False)
    add_options(parser)  # type: ignore[arg-type]
    return page(
        "Options of pytest",
        "`pytest --help` lists them, too. Performance tests run only with `--perf`. `-k` and `-m gpu` choose cases and "
        "metrics, as they choose any test.",
        option_table(parser),
    )


def option_table(parser: argparse.ArgumentParser) -> str:
    """The arguments and options of a parser: name, default, meaning."""
    shown = [action for action in parser._actions if not isinstance(action, argparse._HelpAction)]
    return table(("option", "default", "meaning"), (_option_row(action, parser.prog) for action in shown))


def _option_row(action: argparse.Action, program: str) -> tuple[str, str, str]:
    choices = "{" + ",".join(map(str, action.choices)) + "}" if action.choices else action.dest.upper()
    value = action.metavar or choices
    words = value if isinstance(value, str) else " ".join(value)
    if action.option_strings:
        name = ", ".join(action.option_strings) + ("" if action.nargs == 0 else f" {words}")
    else:
        name = words
    default = "" if action.default in (None, False, [], argparse.SUPPRESS) else f"`{action.default}`"
    meaning = (action.help or "") % {**vars(action), "prog": program}
    return f"`{name}`", default, meaning


def commands_page() -> str:
    """Every subcommand of `hybrid-perf`."""
    os.environ["COLUMNS"] = USAGE_COLUMNS  # which argparse breaks a usage by
    parts = []
    for parser in _leaves(build_parser()):
        usage = f"```text\n{parser.format_usage().strip()}\n```"
        parts.append("\n\n".join([f"## {parser.prog}", parser.description or "", usage, option_table(parser)]))
    return page(
        "Commands",
        f"`hybrid-perf`, a command and `--help` show the same. Bad input ends a command with {BAD_INPUT} and one line "
        "that names it, unless the command says otherwise.",
        *parts,
    )


def _leaves(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """The parsers of a parser's subcommands, and of theirs; itself where it has none."""
    found = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not found:
        yield parser
    for action in found:
        for child in action.choices.values():
            yield from _leaves(child)


# --- metrics and verdicts ---


def metrics_page() -> str:
    """The metrics of each kind of work."""
    parts = [
        "\n\n".join(
            [
                f"## {one.name}",
                f"{summary(type(one))} Its entries are in the section `{one.section}` of a suites file.",
                metric_table(one.metrics),
            ]
        )
        for one in PROCEDURES
    ]
    energy = "## energy\n\nBeside the others, wherever the energy of the device can be read.\n\n"
    return page(
        "Metrics",
        "An *exact* metric is compared for equality. A *ratio* and an *absolute* metric are compared with a tolerance. "
        "*Baseline in* is the folder of `perf_baselines/` that holds it: for every machine, for one platform, or for "
        "one device class. A metric that has a length carries it behind `@`: `max_concurrency@4096`.",
        *parts,
        energy + metric_table(ENERGY_METRICS),
    )


def metric_table(metrics: Sequence[Metric]) -> str:
    rows = [
        (f"`{one.name}`", one.unit or "—", one.kind.value, BETTER[one.direction], PLACES[one.scope], _meaning(one))
        for one in metrics
    ]
    return table(("metric", "unit", "kind", "better", "baseline in", "meaning"), rows)


def _meaning(metric: Metric) -> str:
    words = [metric.description]
    if metric.platforms is not None:
        words.append(f"only on {' and '.join(metric.platforms)}")
    if metric.needs_peaks:
        words.append("needs the device's peaks")
    return "; ".join(words)


def verdicts_page() -> str:
    """The verdicts, and the exit statuses."""
    docs = field_docs(Verdict)
    rows = [(f"`{one.value}`", docs.get(one.name, ""), one.outcome) for one in Verdict]
    night = [(str(status.value), meaning) for status, meaning in MEANINGS.items()]
    codes = [(str(code.value), code.name.lower().replace("_", " ")) for code in pytest.ExitCode]
    return page(
        "Verdicts and exit statuses",
        "A cell is a case and a metric. Each cell is one testcase and has one verdict. [How a cell is judged]"
        "(../judging.md) gives the rule.",
        "## Verdicts\n\n" + table(("verdict", "means", "testcase"), rows),
        "## `hybrid-perf night` and `ci/nightly`\n\n[The night](../nightly.md#exit-statuses) says who should look.\n\n"
        + table(("status", "means"), night),
        "## `pytest --perf`\n\nThese are pytest's own.\n\n" + table(("status", "means"), codes),
    )


# --- fields of files ---


def files_page() -> str:
    """The fields of the YAML files that people write."""
    definitions = {one.definition_type: one.section for one in PROCEDURES}
    sections = [
        f"`{section}`: {' or '.join(reference(kind) for kind in definitions if definitions[kind] == section)}"
        for section in dict.fromkeys(definitions.values())
    ]
    return page(
        "Fields of YAML files",
        "A field that is not listed is refused, and so is a value of another type. The message names the file and the "
        "field.",
        "## Zoo files\n\n`--perf-models FILE`. [Add a model](../how-to/add-a-model.md) shows one.",
        *described([ZooFile]),
        "## Suites files\n\n`--perf-workloads FILE`. [Extending the suite](../extending.md#a-workload) shows one. Its "
        "fields are `schema_version` (1), `configurations` (a map of text to "
        f"{reference(Configuration)}), `suites` (a map of text to a list of entries), and a section for each kind of "
        "work, which is a map of text to\n\n" + "\n".join(f"- {line}" for line in sections),
        *described([Configuration, *definitions]),
        "## Baselines\n\n`perf_baselines/<device class>/<model>.yaml`, written by `--update-baselines`.",
        *described([BaselineFile]),
    )


def results_page() -> str:
    """The fields of `results.json`."""
    return page(
        "Fields of results.json",
        "[What a run leaves behind](../results.md) explains them. [results.schema.json](../results.schema.json) is the "
        "JSON Schema.",
        *described([RunResults], level="##"),
    )


def described(roots: Sequence[type], level: str = "###") -> list[str]:
    """A table of fields for each class and for every class that its fields hold, each once."""
    waiting, seen, parts = list(roots), set(), []
    while waiting:
        kind = waiting.pop(0)
        if kind in seen:
            continue
        seen.add(kind)
        docs = field_docs(kind)
        rows = []
        for name, annotation, default in fields_of(kind):
            rows.append((f"`{name[0]}`", type_text(annotation), default, docs.get(name[1], "")))
            waiting += [one for one in held_by(annotation) if one not in seen]
        parts.append("\n\n".join([f"{level} {kind.__name__}", summary(kind), table(FIELD_HEADINGS, rows)]))
    return parts


FIELD_HEADINGS = ("field", "type", "default", "meaning")


def fields_of(kind: type) -> Iterator[tuple[tuple[str, str], Any, str]]:
    """((name in the file, name in the code), annotation, default in words) of each field."""
    if issubclass(kind, BaseModel):
        for name, field in kind.model_fields.items():
            if not field.exclude:
                default = "needed" if field.is_required() else shown(field.get_default(call_default_factory=True))
                bounds = [phrase.format(getattr(one, at)) for one in field.metadata
                          for at, phrase in [BOUNDS.get(type(one), ("", ""))] if at]  # fmt: skip
                yield (field.alias or name, name), field.annotation, ", ".join([default, *bounds])
        return
    hints = get_type_hints(kind, include_extras=True)
    for one in dataclasses.fields(kind):
        alias = next((extra.serialization_alias for extra in get_args(hints[one.name])[1:]
                      if getattr(extra, "serialization_alias", None)), None)  # fmt: skip
        if one.default_factory is not dataclasses.MISSING:
            default = shown(one.default_factory())
        else:
            default = "needed" if one.default is dataclasses.MISSING else shown(one.default)
        yield (alias or one.name, one.name), hints[one.name], default


def shown(value: Any) -> str:
    """A default in words."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, BaseModel):
        return "its own defaults"
    if isinstance(value, (dict, list, tuple)):
        return "`" + ", ".join(map(str, value)) + "`" if value else "empty"
    return f"`{value}`"


def type_text(kind: Any) -> str:
    """A type in words."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return type_text(parts[0])
    if origin in (Union, UnionType):
        texts = dict.fromkeys(type_text(part) for part in parts if part is not NoneType)
        return " or ".join(texts) + (", or `null`" if NoneType in parts else "")
    if origin is Literal:
        return " or ".join(f"`{part}`" for part in parts)
    if origin is dict:
        return f"map of {type_text(parts[0])} to {type_text(parts[1])}"
    if origin in (list, tuple):
        return "list of " + " and ".join(type_text(part) for part in parts if part is not Ellipsis)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return " or ".join(f"`{one.value}`" for one in kind)
    return SIMPLE[kind] if kind in SIMPLE else reference(kind)


def reference(kind: type) -> str:
    """A link to the table of a class, on the same page."""
    return f"[{kind.__name__}](#{kind.__name__.lower()})"


def held_by(kind: Any) -> list[type]:
    """The classes with fields that a type is made of."""
    if isinstance(kind, type) and (issubclass(kind, BaseModel) or dataclasses.is_dataclass(kind)):
        return [kind]
    return [one for part in get_args(kind) for one in held_by(part)]


# --- docstrings ---


def summary(kind: type) -> str:
    """The first paragraph of a class's docstring, in one line."""
    return " ".join((kind.__doc__ or "").partition("\n\n")[0].split())


def field_docs(kind: type) -> Mapping[str, str]:
    """What the docstrings below the fields of a class say, those of its bases included."""
    docs: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if base.__module__.startswith("hybrid_ops."):
            docs |= _own_docs(base.__module__, base.__name__)
    return docs


@cache
def _own_docs(module: str, name: str) -> Mapping[str, str]:
    tree = ast.parse(inspect.getsource(sys.modules[module]))
    bodies = [node.body for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name == name]
    docs = {}
    for field, below in (pair for body in bodies for pair in pairwise(body)):
        is_text = isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
        if is_text and isinstance(field, (ast.Assign, ast.AnnAssign)):
            target = field.targets[0] if isinstance(field, ast.Assign) else field.target
            docs[ast.unparse(target)] = " ".join(str(below.value.value).split())
    return docs


def main() -> None:
    """Write every page."""
    FOLDER.mkdir(exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
        print(FOLDER / name)


if __name__ == "__main__":
    main()
