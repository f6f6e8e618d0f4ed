"""The rollouts of a run as the published table: time, MFU, MBU and tokens a second over the generation length."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median
from typing import Any

from hybrid_ops.models.sizes import format_table

HEADINGS = ["Gen Length", "Time per Batch (s)", "MFU (%)", "MBU (%)", "Tokens/s"]


def rollout_text(document: Mapping[str, Any]) -> str:
    """A table for each model, from `results.json`; empty without rollouts. A figure is the median over the launches.

    What was not measured is a dash.
    """
    tables = []
    for engine in dict.fromkeys(rollout["engine"] for rollout in document["rollouts"].values()):
        rows = [HEADINGS]
        notes = set()
        for case, rollout in document["rollouts"].items():
            if rollout["engine"] != engine:
                continue
            seen = [
                launch["cases"][case]["values"]
                for launch in document["launches"]
                if launch.get("cases", {}).get(case, {}).get("values")
            ]
            length, of = rollout["generation_tokens"], rollout["published_length"]
            name = str(length) if length == of else f"{length} (of {of})"
            rows.append([name, *_figures(seen)])
            notes.add(
                f"{rollout['num_prompts']} prompts of at most {rollout['prompt_tokens']} tokens × "
                f"{rollout['samples']} samples, {rollout['prompts']}"
            )
        tables.append(f"### {engine}: {'; '.join(sorted(notes))}\n\n{format_table(rows)}")
    return "\n\n".join(tables)


def _figures(launches: list[Mapping[str, float]]) -> list[str]:
    if not launches:
        return ["—"] * 4

    def figure(name: str) -> str:
        known = [values[name] for values in launches if name in values]
        return f"{median(known):.2f}" if known else "—"

    seconds = median(values["output_tokens"] / values["output_throughput"] for values in launches)
    return [f"{seconds:.2f}", figure("mfu"), figure("mbu"), figure("output_throughput")]
