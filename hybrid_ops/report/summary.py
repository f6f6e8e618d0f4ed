"""`summary.md`: a run in Markdown, for a pull request or a CI job's summary page."""

from __future__ import annotations

from typing import Any

from hybrid_ops.regression.cells import CellResult
from hybrid_ops.report.comparison import comparison_markdown, comparison_results
from hybrid_ops.report.table import ARM_COLUMNS, COLUMNS, counts, reason_lines, result_rows


def markdown(document: dict[str, Any]) -> str:
    """The summary of `results.json`: what ran where, the counts, the table, the reasons and the notes."""
    results = [CellResult.from_json(cell) for cell in document["cells"]]
    versions = ", ".join(f"{name} {version}" for name, version in document["versions"].items())
    lines = [
        f"# Performance: {counts(results)}",
        "",
        f"Run `{document['run_id']}` on {document['device']['name']} (`{document['device']['class']}`), "
        f"{document['seconds']:.0f} s. {versions}.",
        "",
        _row(ARM_COLUMNS if document["arms"] is not None else COLUMNS),
        _row(["---"] * len(COLUMNS)),
        *(_row(row) for row, _ in result_rows(results, every_cell=False)),
        "",
        *(f"- {line}" for line in reason_lines(results, every_cell=False)),
        *(f"- note: {finding}" for finding in document["findings"]),
    ]
    text = "\n".join(lines).rstrip() + "\n"
    return "\n".join([text, *map(comparison_markdown, comparison_results(document))])


def _row(cells: Any) -> str:
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"
