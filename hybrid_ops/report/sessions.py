"""Many A/B sessions in one table: how many cells were flagged, missed or left open, and what a session cost.

python -m hybrid_ops.report.sessions FOLDER     every results.json below FOLDER, A/A and injected ones told apart
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hybrid_ops.report.render import aligned

PACE_METRICS = ("output_throughput", "decode_throughput", "median_itl_ms", "median_tpot_ms", "median_step_ms")
"""The throughput and inter-token metrics that a slow-down of each engine step must show in."""


@dataclass
class Sessions:
    """The sessions of one model with one share injected."""

    seconds: list[float] = field(default_factory=list)
    pairs: list[int] = field(default_factory=list)
    verdicts: Counter[str] = field(default_factory=Counter)
    pace_verdicts: Counter[str] = field(default_factory=Counter)


def tally(documents: list[dict[str, Any]]) -> dict[tuple[str, str], Sessions]:
    """Sessions by model and injected share (`0` for A/A), from the `results.json` of A/B runs; others are left out."""
    found: dict[tuple[str, str], Sessions] = {}
    for document in documents:
        if document["arms"] is None:
            continue
        injected = document["arms"][1]["environment"].get("HYBRID_OPS_INJECT", "0")
        models = {cell["case"].partition("/")[0] for cell in document["cells"]}
        for model in sorted(models):
            sessions = found.setdefault((model, injected), Sessions())
            pairs = [launch for launch in document["launches"] if launch["engine"] == model]
            sessions.seconds.append(sum(pair["seconds"] for pair in pairs))
            sessions.pairs.append(len(pairs))
            for cell in document["cells"]:
                if cell["case"].partition("/")[0] == model:
                    sessions.verdicts[cell["verdict"]] += 1
                    if cell["metric"] in PACE_METRICS:
                        sessions.pace_verdicts[cell["verdict"]] += 1
    return found


def table(found: dict[tuple[str, str], Sessions]) -> str:
    """One line a model and share: shares of all cells, and of the throughput and inter-token cells."""
    rows = [
        ("model", "injected", "sessions", "pairs each", "s each", "flagged", "pace cells slower", "pace inconclusive")
    ]
    for (model, injected), sessions in sorted(found.items()):
        count, cells, pace = len(sessions.seconds), sessions.verdicts.total(), sessions.pace_verdicts.total()
        flagged = sum(sessions.verdicts[verdict] for verdict in ("slower", "faster", "changed"))
        rows.append(
            (
                model,
                f"{float(injected):.1%}",
                str(count),
                f"{sum(sessions.pairs) / count:.1f}",
                f"{sum(sessions.seconds) / count:.0f}",
                f"{flagged}/{cells}",
                f"{sessions.pace_verdicts['slower']}/{pace}",
                f"{sessions.pace_verdicts['inconclusive']}/{pace}",
            )
        )
    return "\n".join(aligned(rows))


def main() -> int:
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_dir():
        print("usage: python -m hybrid_ops.report.sessions FOLDER", file=sys.stderr)
        return 2
    paths = sorted(Path(sys.argv[1]).rglob("results.json"))
    found = tally([json.loads(path.read_text(encoding="utf-8")) for path in paths])
    if not found:
        print(f"{sys.argv[1]}: no results.json of an A/B run below it", file=sys.stderr)
        return 2
    print(table(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
