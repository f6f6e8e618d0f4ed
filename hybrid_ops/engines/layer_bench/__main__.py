"""The benchmark as a program; see the package."""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

if __name__ == "__main__":
    os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", OMP_WAIT_POLICY="passive")  # before torch is imported
    if not __package__:  # run by path: another interpreter finds this package where it lies
        sys.path[0] = str(Path(__file__).resolve().parents[3])

from hybrid_ops.engines.layer_bench.agreement import Check, agree
from hybrid_ops.engines.layer_bench.cases import CASES, LAYERS
from hybrid_ops.engines.layer_bench.contender import PLATFORM_DTYPES
from hybrid_ops.engines.layer_bench.memory import MEMORY_LENGTHS, peak_memory
from hybrid_ops.engines.layer_bench.shape import Shape
from hybrid_ops.engines.layer_bench.tables import TABLE_HEADER, memory_table, table
from hybrid_ops.engines.layer_bench.timing import measure, summarise


def main(arguments: list[str] | None = None) -> int:
    """Agree, measure, print the tables, and write all samples with `--json PATH`."""
    parser = argparse.ArgumentParser(description="Compare the reference layers with their peers.")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--repeats", type=int, default=20, help="rounds that count")
    parser.add_argument("--tokens", type=int, default=Shape.tokens, help="length of the sequences that are timed")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--compile", action="store_true", help="also measure our forms under torch.compile")
    parser.add_argument("--no-memory", action="store_true", help="leave out the peak memory up to 65,536 tokens")
    parser.add_argument("--json", type=Path, help="write samples (seconds), errors and peaks (bytes) here")
    options = parser.parse_args(arguments)

    import torch

    torch.set_num_threads(1)
    print(TABLE_HEADER)
    samples: dict[str, dict[str, list[float]]] = {}
    checks: dict[str, dict[str, Check]] = {}
    refused: dict[str, dict[str, str]] = {}
    for case in options.cases:
        shape = Shape(tokens=options.tokens, dtype=PLATFORM_DTYPES[options.device])
        agreed = agree(case, shape, options.device, compiled=options.compile)
        samples[case] = measure(agreed.calls, repeats=options.repeats, device=options.device)
        checks[case], refused[case] = agreed.checks, agreed.refused
        print(table(case, summarise(samples[case]), agreed, options.device), flush=True)
    peaks: dict[str, dict[int, int]] = {}
    if not options.no_memory:
        peaks = {layer: {tokens: peak_memory(layer, tokens=tokens) for tokens in MEMORY_LENGTHS} for layer in LAYERS}
        print("\nPeak memory a token, forward\n" + memory_table(peaks))
    if options.json:
        record = {
            "torch": torch.__version__,
            "device": options.device,
            "samples_s": samples,
            "checks": {case: {name: asdict(check) for name, check in found.items()} for case, found in checks.items()},
            "refused": refused,
            "peak_bytes": peaks,
        }
        options.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
