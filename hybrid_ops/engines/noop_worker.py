"""The no-op engine: answers at once with made-up times. For tests of the suite itself, never for a verdict on a model.

It is a real worker process that speaks the real protocol, so a test can make one that is slow, noisy, broken, hung or
dead by its arguments:

    step_ms           time of each step, in milliseconds (2.0)
    noise             standard deviation of a launch's log step time (0)
    slow_launch       which launch of the run takes three times as long a step (none)
    real_time         take as long as it says (false)
    window            most tokens of a request that its cache keeps (all of them)
    reference_kernels names of operations that it says to run on reference kernels (none)
    meets             {"folder": PATH, "engines": N}: loading lasts until so many engines load with the same folder
    crowded           {"folder": PATH, "factor": F}: a step takes F times as long while another with the folder works
    fail              {"on": "load" | "generate" | "score", "how": "raise" | "hang" | "die", "message": str}
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import math
import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hybrid_ops.engines.protocol import (
    CacheFacts,
    CacheGroup,
    CacheLayout,
    DeviceFacts,
    GeneratedRequest,
    GenerationSample,
    LengthFigures,
    LoadFacts,
    PathSample,
    PrefixSample,
    RankMemory,
    ScoredText,
    ScoreSample,
    serve,
)

BYTES_PER_BLOCK = 4096
BLOCK_SIZE = 16
NUM_BLOCKS = 1000
MODEL_BYTES = 1_000_000
LEADING_TOKENS = 4
RANK = RankMemory(weights=MODEL_BYTES, cache=NUM_BLOCKS * BYTES_PER_BLOCK, graphs=0, activations=1000)
FAULT_VARIABLE = "HYBRID_OPS_FAULT"
"""Set to anything, its scores are wrong; vLLM's engines get the fault of that name."""
OWN_VARIABLES = "NOOP_"
"""How variables of its environment begin that are meant for it. It reads none."""


class NoopWorker:
    def __init__(self) -> None:
        self.arguments: dict[str, Any] = {}
        self.step_seconds = 0.0
        self.platform = "cuda" if os.environ.get("CUDA_VISIBLE_DEVICES") else "cpu"
        """Where it is told to run."""

    def load(self, model: str, arguments: dict[str, Any]) -> LoadFacts:
        self.arguments = arguments
        speed = math.exp(random.gauss(0, arguments.get("noise", 0.0)))
        slowdown = 1 + float(os.environ.get("HYBRID_OPS_INJECT", "0"))
        if str(arguments.get("slow_launch")) == Path(model).parent.name:  # the launch's folder is its number
            slowdown *= 3
        self.step_seconds = arguments.get("step_ms", 2.0) / 1e3 * speed * slowdown
        self._fail_if_told("load")
        self._meet()
        return LoadFacts(
            load_seconds=0.0,
            model_bytes=MODEL_BYTES,
            cache=CacheFacts(
                groups=[CacheGroup("FullAttentionSpec", 1, BLOCK_SIZE, BYTES_PER_BLOCK)],
                num_blocks=NUM_BLOCKS,
                block_size=BLOCK_SIZE,
                bytes_per_block=BYTES_PER_BLOCK,
                in_flight_tokens=0,
                prefix_caching=bool(arguments.get("enable_prefix_caching")),
                max_concurrency=0.0,
                max_model_len=arguments.get("max_model_len", 0),
            ),
            device=DeviceFacts(self.platform, name=None, uuid=None, memory_bytes=None, threads=None),
            reference_kernels=arguments.get("reference_kernels", []),
            versions={"noop": "1"},
            server=None,
            unknown_variables=[name for name in os.environ if name.startswith(OWN_VARIABLES)],
        )

    def generate(
        self,
        prompts: list[list[int]],
        generation_tokens: int,
        sampling: dict[str, Any],
        prefix_caching_reset: bool,
        samples: int = 1,
    ) -> GenerationSample:
        self._fail_if_told("generate")
        with self._beside() as factor:
            return self._generated(prompts, generation_tokens, samples, self.step_seconds * factor)

    def _generated(
        self, prompts: list[list[int]], generation_tokens: int, samples: int, step_seconds: float
    ) -> GenerationSample:
        arrivals = [step_seconds * (step + 1) for step in range(generation_tokens)]
        tokens = min(generation_tokens + len(prompts[0]), self.arguments.get("window", math.inf))
        if self.arguments.get("real_time"):
            time.sleep(arrivals[-1])
        generations = len(prompts) * samples
        return GenerationSample(
            elapsed_seconds=arrivals[-1],
            prompt_tokens=sum(map(len, prompts)),
            cached_tokens=0,
            requests=[GeneratedRequest(arrivals) for _ in range(generations)],
            steps=[(step_seconds, generations) for _ in arrivals],
            model_steps=generation_tokens,
            output_hash=hashlib.sha256(json.dumps(prompts).encode()).hexdigest()[:16],
            leading_tokens=[prompt[:LEADING_TOKENS] for prompt in prompts],
            peak_blocks=math.ceil(tokens / BLOCK_SIZE) * generations,
            peak_memory_bytes=MODEL_BYTES,
            ranks=[] if self.platform == "cpu" else [RANK],
            kernel_choices={},
        )

    def probe_cache(self, lengths: list[int]) -> CacheLayout:
        blocks = {length: math.ceil(length / BLOCK_SIZE) for length in lengths}
        return CacheLayout(
            block_size=BLOCK_SIZE,
            page_bytes=BYTES_PER_BLOCK,
            num_blocks=NUM_BLOCKS,
            groups=[("FullAttentionSpec", 1)],
            bytes_per_token=BYTES_PER_BLOCK // BLOCK_SIZE,
            lengths={
                str(length): LengthFigures(count * BYTES_PER_BLOCK, NUM_BLOCKS / count)
                for length, count in blocks.items()
            },
        )

    def probe_prefix(self, first: list[int], second: list[int]) -> PrefixSample:
        shared = next((place for place, (a, b) in enumerate(zip(first, second)) if a != b), len(first))
        return PrefixSample(
            found=shared // BLOCK_SIZE * BLOCK_SIZE,
            found_when_empty=0,
            with_cache=[1.0 + self.arguments.get("logit_error", 0.0), 0.5],
            without_cache=[1.0, 0.5],
        )

    def score(self, texts: list[list[int]], generation_tokens: int, chunk_tokens: int) -> ScoreSample:
        self._fail_if_told("score")
        wrong_by = 3.0 if os.environ.get(FAULT_VARIABLE) else 0.0
        paths = {
            path: PathSample(wrong_by, 0, 1, len(texts[0])) for path in ("decode", "chunked", "batched", "preempted")
        }
        scored = [ScoredText([-1.0] * (len(text) - 1), text[1:]) for text in texts]
        return ScoreSample(scored, paths, cached_tokens=None, are_logits=False, weights=None)

    def _meet(self) -> None:
        """Wait until the other engines are there: they must live at once, or none of them loads."""
        if (meets := self.arguments.get("meets")) is None:
            return
        folder = Path(meets["folder"])
        folder.mkdir(parents=True, exist_ok=True)
        (folder / str(os.getpid())).touch()
        while len(list(folder.iterdir())) < meets["engines"]:
            time.sleep(0.01)

    @contextlib.contextmanager
    def _beside(self) -> Iterator[float]:
        """How many times as long a step takes, by whether another engine works."""
        if (crowded := self.arguments.get("crowded")) is None:
            yield 1.0
            return
        own = Path(crowded["folder"], str(os.getpid()))
        own.parent.mkdir(parents=True, exist_ok=True)
        with own.open("a") as mark:
            fcntl.flock(mark, fcntl.LOCK_EX)
            others = (path for path in own.parent.iterdir() if path != own)
            yield crowded["factor"] if any(map(_is_marked, others)) else 1.0

    def _fail_if_told(self, operation: str) -> None:
        fail = self.arguments.get("fail", {})
        if fail.get("on") != operation:
            return
        message = fail.get("message", "told to fail")
        if fail["how"] == "raise":
            raise RuntimeError(message)
        if fail["how"] == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        while True:
            time.sleep(3600)


def _is_marked(path: Path) -> bool:
    """Whether another engine, whose file it is, works now."""
    with path.open("a") as mark:
        try:
            fcntl.flock(mark, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def main() -> None:
    worker = NoopWorker()
    serve(
        {
            "load": worker.load,
            "generate": worker.generate,
            "probe_cache": worker.probe_cache,
            "probe_prefix": worker.probe_prefix,
            "score": worker.score,
        }
    )


if __name__ == "__main__":
    main()
