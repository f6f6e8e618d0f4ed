#!/usr/bin/env -S python3 -I -S
"""A fake of llama-bench, for tests of the suite: it runs no model, and its times are made up.

It reads llama-bench's options, and prints what `--output json --progress` prints. Its build is called `fake`. By
environment:

    FAKE_LLAMA_BENCH_BACKEND      the backend that it says it has (CPU)
    FAKE_LLAMA_BENCH_BUILD        the commit of its build (fake)
    FAKE_LLAMA_BENCH_RATE         tokens per second (10000)
    FAKE_LLAMA_BENCH_REAL_TIME    take as long as it says
    FAKE_LLAMA_BENCH_FAULT        `exit`: end with 1; `short`: give one sample less; `other`: say it ran another test

Where a stub of NVML shows a card whose power limit is below 450 W, the rate falls with it.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

SHORT = {"-p": "n_prompt", "-n": "n_gen", "-d": "n_depth", "-r": "repetitions", "-pg": "pg"}
FULL_SPEED_MILLIWATTS = 450_000


def main() -> int:
    words = sys.argv[1:]
    options: dict[str, str] = {}
    while words:
        word = words.pop(0)
        name = SHORT.get(word, word.lstrip("-").replace("-", "_"))
        options[name] = "1" if word in ("--progress", "--no-warmup") else words.pop(0)
    if not Path(options["model"]).is_file():
        print(f"llama_bench: error: failed to load model '{options['model']}'", file=sys.stderr)
        return 1
    prompt, generation = int(options["n_prompt"]), int(options["n_gen"])
    if "pg" in options:
        prompt, generation = map(int, options["pg"].split(","))
    repetitions, rate = int(options["repetitions"]), float(os.environ.get("FAKE_LLAMA_BENCH_RATE", "10000")) * slowed()
    fault = os.environ.get("FAKE_LLAMA_BENCH_FAULT", "")
    if fault == "exit" and "no_warmup" not in options:
        print("llama_bench: error: failed to run prompt", file=sys.stderr)
        return 1
    samples = []
    for number in range(repetitions):
        part = "prompt" if prompt else "generation"
        print(f"llama-bench: benchmark 1/1: {part} run {number + 1}/{repetitions}", file=sys.stderr, flush=True)
        seconds = (prompt + generation) / rate * (1 + 0.01 * number)
        if "FAKE_LLAMA_BENCH_REAL_TIME" in os.environ:
            time.sleep(seconds)
        samples.append(int(1e9 * seconds))
    backend = os.environ.get("FAKE_LLAMA_BENCH_BACKEND", "CPU")
    test = {
        "build_commit": os.environ.get("FAKE_LLAMA_BENCH_BUILD", "fake"),
        "build_number": 1,
        "cpu_info": "a fake processor",
        "gpu_info": "" if backend == "CPU" else "a fake GPU",
        "backends": backend,
        "model_filename": options["model"],
        "model_type": "fake 1B F16",
        "model_size": 2_000_000,
        "model_n_params": 1_000_000,
        "n_batch": 2048,
        "n_ubatch": 512,
        "n_threads": int(options.get("threads", "1")),
        "n_gpu_layers": 99,
        "flash_attn": int(options["flash_attn"]),
        "n_prompt": prompt + (fault == "other"),
        "n_gen": generation,
        "n_depth": int(options.get("n_depth", "0")),
        "samples_ns": samples[1:] if fault == "short" and repetitions > 1 else samples,
    }
    print(json.dumps([test], indent=2))
    return 0


def slowed() -> float:
    """The share of its rate that a power limit leaves."""
    state = os.environ.get("NVML_STUB_STATE")
    if state is None:
        return 1.0
    line = next(line for line in Path(state).read_text().splitlines() if line.startswith("0 enforced_power_limit "))
    return min(1.0, (int(line.split()[2]) / FULL_SPEED_MILLIWATTS) ** 0.7)


if __name__ == "__main__":
    sys.exit(main())
