"""The goals, and the results as text."""

from __future__ import annotations

from collections.abc import Mapping

from hybrid_ops.engines.layer_bench.agreement import Agreed

GOALS: dict[str, dict[tuple[str, str], float]] = {
    "cpu": {
        ("delta_rule/forward", "transformers"): 1.6,
        ("delta_rule/forward", "matmul floor"): 1 / 2.2,
        ("ssd/forward", "transformers"): 2.0,
        ("ssd/forward", "vLLM"): 1 / 2.5,
        ("window/forward", "SDPA, dense mask"): 2.5,
        ("window/forward", "SDPA, full causal"): 1.0,
    },
    "cuda": {},  # none is set before the first run on a GPU has shown what is there to aim for
}
"""The least ratio (their time over ours) that is aimed for on each platform in its own type, by case and peer."""

TABLE_HEADER = (
    f"{'case':<24} {'contender':<28} {'error':>8} {'allowed':>8} {'min ms':>9} {'median ms':>10} {'theirs/ours':>12}"
    "  goal"
)


def table(case: str, summary: Mapping[str, Mapping[str, float]], agreed: Agreed, platform: str = "cpu") -> str:
    """The summary of a case as text: a row a contender, the fastest first, with the platform's goal if there is one.

    The refused follow, with the reason in the place of times.
    """
    lines = []
    for name, row in sorted(summary.items(), key=lambda item: item[1]["median"]):
        goal = GOALS[platform].get((case, name))
        verdict = "" if goal is None else f"{goal:.2f} {'met' if row['ratio'] >= goal else 'missed'}"
        times = f"{row['min'] * 1e3:>9.2f} {row['median'] * 1e3:>10.2f} {row['ratio']:>12.2f}"
        lines.append(f"{case:<24} {name:<28} {_errors(agreed, name)} {times}  {verdict}".rstrip())
    lines += [
        f"{case:<24} {name:<28} {_errors(agreed, name)} refused: {reason}" for name, reason in agreed.refused.items()
    ]
    return "\n".join(lines)


def _errors(agreed: Agreed, name: str) -> str:
    """The relative error and what is allowed; blank for a yardstick and for who gave no numbers."""
    if (check := agreed.checks.get(name)) is None:
        return f"{'':>8} {'':>8}"
    return f"{check.error:>8.1e} {check.bound:>8.1e}"


def memory_table(results: Mapping[str, Mapping[int, int]]) -> str:
    """Peak bytes a token by layer and length: constant where memory is linear in T."""
    lengths = next(iter(results.values()))
    lines = [f"{'layer':<24} " + " ".join(f"{'T = ' + str(tokens):>12}" for tokens in lengths)]
    lines += [
        f"{layer:<24} " + " ".join(f"{peak / tokens:>10.0f} B" for tokens, peak in peaks.items())
        for layer, peaks in results.items()
    ]
    return "\n".join(lines)
