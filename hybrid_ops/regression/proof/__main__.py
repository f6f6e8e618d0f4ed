"""The proof: our judge beside the rules of others, on the same simulated runs.

`python -m hybrid_ops.regression.proof` prints the tables of `docs/judging.md` (about two minutes; `--quick` a tenth).
"""

from __future__ import annotations

import argparse
import sys
import time

from hybrid_ops.regression.proof.ours import SEED, characteristics
from hybrid_ops.regression.proof.scores import Score, table
from hybrid_ops.regression.proof.simulation import simulate
from hybrid_ops.regression.proof.traces import MODELS


def main() -> int:
    """Print the tables. Returns the exit status, 0."""
    parser = argparse.ArgumentParser(prog="python -m hybrid_ops.regression.proof", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the runs, for tests")
    parser.add_argument("--runs", type=int, help="A/A runs (of 48 cells) and runs with a change, for each noise model")
    options = parser.parse_args()
    runs = options.runs or (4 if options.quick else 80)
    start = time.perf_counter()
    one_percent: dict[str, Score] = {}
    for model in MODELS:
        scores = simulate(model, runs)
        print(table(model.name, scores), flush=True)
        if model in MODELS[:5]:
            one_percent = {name: one_percent.get(name, Score()).plus(score) for name, score in scores.items()}
    print(table("all models with 1 % launch noise", one_percent))
    print(characteristics(runs))
    print(f"{runs} runs of 48 cells a model and condition, seed {SEED}, {time.perf_counter() - start:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
