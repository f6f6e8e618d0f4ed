"""The llama-bench worker: runs llama.cpp's own benchmark program, one process a test, and reads its JSON.

Speaks the protocol of `hybrid_ops.engines.protocol`; `llama_bench.py` says what the suite knows of it. It needs the
standard library and the program, which is the one that `HYBRID_OPS_LLAMA_BENCH` names, else the first `llama-bench` on
PATH, else the one that `ci/build-llama-bench` made.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from hybrid_ops.engines.protocol import DeviceFacts, LlamaBenchSample, LoadFacts, end_group_with_parent, serve

PROGRAM_VARIABLE = "HYBRID_OPS_LLAMA_BENCH"
"""Names the program. An arm of a comparison may have one of its own."""
OWN_OPTIONS = ("model", "hf_repo", "hf_file", "n_prompt", "n_gen", "n_depth", "repetitions", "output", "progress")
"""Long options of llama-bench that say what is measured, which workloads and models do here."""
REPETITION = re.compile(r"benchmark \d+/\d+: (?P<part>prompt|generation) run (?P<number>\d+)/")
"""What `--progress` says as a repetition begins, or its generation after its prompt."""
SHOWN_LINES = 3
"""How many of its last lines are told where it fails."""


def built_program() -> Path:
    """Where `ci/build-llama-bench` leaves the program."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "hybrid-ops" / "llama.cpp" / "llama-bench"


def find_program() -> str:
    """The path of llama-bench. Raises FileNotFoundError with the ways to mend that."""
    given = os.environ.get(PROGRAM_VARIABLE)
    if given:
        if shutil.which(given) is None:
            raise FileNotFoundError(f"{PROGRAM_VARIABLE}: no such program: {given}")
        return given
    found = shutil.which("llama-bench") or shutil.which(str(built_program()))
    if found is None:
        raise FileNotFoundError(
            "no llama-bench on PATH: build it with ci/build-llama-bench (about five minutes), "
            f"or name one with {PROGRAM_VARIABLE}=PATH"
        )
    return found


def option_words(arguments: dict[str, Any]) -> list[str]:
    """Arguments as options: `{"flash_attn": true, "n_gpu_layers": 99}` becomes `--flash-attn 1 --n-gpu-layers 99`."""
    words = []
    for name, value in arguments.items():
        if name in OWN_OPTIONS:
            raise ValueError(f"arguments: {name}: the workload and the model say this; remove it")
        words += [f"--{name.replace('_', '-')}", str(int(value) if isinstance(value, bool) else value)]
    return words


class LlamaBenchWorker:
    """One model file and the options that llama-bench is run with."""

    def __init__(self) -> None:
        self.command: list[str] = []

    def load(self, model: str, arguments: dict[str, Any]) -> LoadFacts:
        """Run the shortest test there is, which loads the model `model` (a GGUF file), and say what it showed."""
        if os.environ.get("HYBRID_OPS_INJECT"):
            raise ValueError("llama-bench has no step that --perf-inject could slow; compare arms that differ")
        started = time.perf_counter()
        options = option_words(arguments)
        if (threads := os.environ.get("OMP_NUM_THREADS")) and "threads" not in arguments:
            options += ["--threads", threads]
        self.command = [find_program(), "--model", model, *options]
        test, _ = self._run(["-p", "1", "-n", "0", "-r", "1", "--no-warmup"])
        sample = _sample(test, [])
        return LoadFacts(
            load_seconds=time.perf_counter() - started,
            model_bytes=sample.model_size,
            cache=None,
            device=_device_facts(test, sample.n_threads),
            reference_kernels=[],
            versions={"llama.cpp": f"{sample.build_commit} ({sample.build_number})"},
            server=None,
        )

    def llama_bench(self, prompt_tokens: int, generation_tokens: int, depth: int, repetitions: int) -> LlamaBenchSample:
        """Run one test. With both lengths they are timed together, as `-pg` does."""
        if prompt_tokens and generation_tokens:
            lengths = ["-p", "0", "-n", "0", "-pg", f"{prompt_tokens},{generation_tokens}"]
        else:
            lengths = ["-p", str(prompt_tokens), "-n", str(generation_tokens)]
        return _sample(*self._run([*lengths, "-d", str(depth), "-r", str(repetitions)]))

    def _run(self, words: list[str]) -> tuple[dict[str, Any], list[float]]:
        """The one test that llama-bench was asked for, and when each of its repetitions began."""
        command = [*self.command, *words, "--output", "json", "--progress"]
        print(*command, flush=True)
        starts: dict[int, float] = {}
        lines: list[str] = []
        with tempfile.TemporaryFile("w+") as output:
            with subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.PIPE, text=True, errors="replace"
            ) as process:
                assert process.stderr is not None
                for line in process.stderr:
                    now = time.monotonic()
                    sys.stdout.write(line)
                    lines.append(line.strip())
                    if match := REPETITION.search(line):
                        starts.setdefault(int(match["number"]), now)
            output.seek(0)
            text = output.read()
        print(text)
        told = " ".join(lines[-SHOWN_LINES:])
        if process.returncode != 0:
            raise RuntimeError(f"llama-bench ended with {process.returncode}: {told}")
        try:
            [test] = json.loads(text)
        except ValueError:
            raise RuntimeError(f"llama-bench gave no JSON with one test: {told or text[:200]!r}") from None
        return test, [starts[number] for number in sorted(starts)]


def _sample(test: dict[str, Any], starts: list[float]) -> LlamaBenchSample:
    """llama-bench's JSON of one test as the answer of this worker. Its older releases had no `n_depth`."""
    fields = {name: test.get(name) for name in LlamaBenchSample.__dataclass_fields__}
    flash_attn = test.get("flash_attn")
    return LlamaBenchSample(
        **{
            **fields,
            "n_depth": test.get("n_depth", 0),
            "starts": starts,
            "flash_attn": str(int(flash_attn) if isinstance(flash_attn, bool) else flash_attn),
        }
    )


def _device_facts(test: dict[str, Any], threads: int) -> DeviceFacts:
    """Where it computes. A build for CUDA that sees no GPU computes on the processor."""
    on_gpu = bool(test.get("gpu_info")) and test["backends"] not in ("CPU", "BLAS")
    if not on_gpu:
        return DeviceFacts("cpu", test.get("cpu_info"), None, None, threads=threads)
    platform = "cuda" if "CUDA" in test["backends"] else test["backends"].lower()
    return DeviceFacts(platform, test["gpu_info"], None, None, threads=None)


def main() -> None:
    end_group_with_parent()
    worker = LlamaBenchWorker()
    serve({"load": worker.load, "llama_bench": worker.llama_bench})


if __name__ == "__main__":
    main()
