"""The vLLM worker: one engine in one process, driven step by step.

Speaks the protocol of `hybrid_ops.engines.protocol`; `vllm_offline.py` says what the suite knows of it. The same
code drives the CPU and the CUDA build: the installed vLLM decides. The engine core runs in this process
(`VLLM_ENABLE_V1_MULTIPROCESSING=0`), so that each step's time and tokens can be read around it.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib
import importlib.metadata
import json
import os
import resource
import sys
import time
from dataclasses import dataclass, field
from typing import Any

from hybrid_ops.engines import vllm_probes, vllm_scoring
from hybrid_ops.engines.protocol import (
    CAPTURE_STAGE,
    COMPILE_STAGE,
    LOAD_STAGE,
    CacheFacts,
    CacheGroup,
    CacheLayout,
    DeviceFacts,
    DrawnParameter,
    DrawnWeights,
    GeneratedRequest,
    GenerationSample,
    LoadFacts,
    PrefixSample,
    RankMemory,
    ScoreSample,
    begin_stage,
    serve,
)

LEADING_TOKENS, LEADING_GENERATIONS = 16, 4
"""How many tokens of how many generations are told one by one."""


@dataclass
class _Generation:
    """What has come of one request so far."""

    tokens: list[int] = field(default_factory=list)
    arrivals: list[float] = field(default_factory=list)
    cached: int = 0

    def take(self, output: Any, seconds: float) -> int:
        """Add what a step that ended at `seconds` put out for it, and return the number of tokens."""
        new = output.outputs[0].token_ids
        self.tokens.extend(new)
        self.arrivals.extend([seconds] * len(new))
        self.cached = output.num_cached_tokens or 0
        return len(new)


class VllmWorker:
    """One vLLM engine and what has been learnt of it."""

    def __init__(self) -> None:
        self.engine: Any = None
        self.requests_made = 0
        self.model_steps = 0

    def load(self, model: str, arguments: dict[str, Any]) -> LoadFacts:
        """Start the engine on `model` (a folder or a hub name) with `EngineArgs`; return what it is made of."""
        from vllm import EngineArgs, LLMEngine

        unknown = _unknown_variables()  # before the engine sets variables of its own
        started = time.perf_counter()
        _announce_stages()
        self.engine = LLMEngine.from_engine_args(EngineArgs(model=model, **arguments))
        self._count_model_steps()
        load_seconds = time.perf_counter() - started
        found = self._in_each_rank("start_facts")
        captures = [rank["capture_seconds"] for rank in found if rank["capture_seconds"] is not None]
        model_bytes = [rank["model_bytes"] for rank in found if rank["model_bytes"] is not None]
        return LoadFacts(
            load_seconds=load_seconds,
            model_bytes=sum(model_bytes) or None,
            cache=self._cache_facts(),
            device=_device_facts(found[0]["gpu"]),
            reference_kernels=sorted({kernel for rank in found for kernel in rank["reference_kernels"]}),
            versions={name: importlib.metadata.version(name) for name in ("vllm", "torch", "transformers")},
            server=None,
            compile_seconds=self.engine.vllm_config.compilation_config.compilation_time or None,
            capture_seconds=max(captures, default=None),
            unknown_variables=unknown,
        )

    def generate(
        self,
        prompts: list[list[int]],
        generation_tokens: int,
        sampling: dict[str, Any],
        prefix_caching_reset: bool,
        samples: int = 1,
    ) -> GenerationSample:
        """Generate `samples` times for each of `prompts`, all together (closed batch), and return one sample.

        Times are seconds from the moment before the first request is added. `steps` lists, for each engine step, its
        duration and the tokens it put out; `requests` lists, for each generation, when each of its tokens arrived. The
        first generation of a prompt has the seed of `sampling`, the others those that follow.
        """
        if prefix_caching_reset:
            self.engine.reset_prefix_cache()
        parameters = _sampling_parameters(generation_tokens, sampling, samples)
        pool = self._scheduler().kv_cache_manager.block_pool
        free_before = fewest_free = pool.get_num_free_blocks()
        generations: dict[str, _Generation] = {}
        steps: list[tuple[float, int]] = []
        self._in_each_rank("begin_batch")
        self.model_steps = 0

        start = time.perf_counter()
        for prompt in prompts:
            for own_parameters in parameters:
                request = str(self.requests_made)
                self.requests_made += 1
                generations[request] = _Generation()
                self.engine.add_request(request, {"prompt_token_ids": prompt}, own_parameters)
        while self.engine.has_unfinished_requests():
            before = time.perf_counter()
            outputs = self.engine.step()
            now = time.perf_counter()
            fewest_free = min(fewest_free, pool.get_num_free_blocks())
            put_out = sum(generations[output.request_id].take(output, now - start) for output in outputs)
            steps.append((now - before, put_out))
        elapsed = time.perf_counter() - start

        tokens = [generation.tokens for generation in generations.values()]
        found = self._in_each_rank("batch_facts")
        on_device = [rank for rank in found if rank["memory"] is not None]
        return GenerationSample(
            elapsed_seconds=elapsed,
            prompt_tokens=sum(map(len, prompts)),
            cached_tokens=sum(generation.cached for generation in generations.values()),
            requests=[GeneratedRequest(generation.arrivals) for generation in generations.values()],
            steps=steps,
            model_steps=self.model_steps,
            output_hash=hashlib.sha256(json.dumps(tokens).encode()).hexdigest()[:16],
            leading_tokens=[own[:LEADING_TOKENS] for own in tokens[:LEADING_GENERATIONS]],
            peak_blocks=free_before - fewest_free,
            peak_memory_bytes=max((rank["beside_cache"] for rank in on_device), default=_resident_bytes()),
            ranks=[RankMemory(**rank["memory"]) for rank in on_device],
            kernel_choices={kernel: choice for rank in found for kernel, choice in rank["kernel_choices"].items()},
        )

    def probe_cache(self, lengths: list[int]) -> CacheLayout:
        """How the engine divides its cache; see `vllm_probes.cache_layout`."""
        return vllm_probes.cache_layout(self.engine, lengths)

    def probe_prefix(self, first: list[int], second: list[int]) -> PrefixSample:
        """What the prefix cache finds of `second` after `first`; see `vllm_probes.prefix_hit`."""
        return vllm_probes.prefix_hit(self.engine, first, second)

    def score(self, texts: list[list[int]], generation_tokens: int, chunk_tokens: int) -> ScoreSample:
        """What the engine thinks of each of `texts`, and whether all its paths agree; see `vllm_scoring`."""
        scoring = vllm_scoring.Scoring(self.engine, generation_tokens, chunk_tokens)
        found = self._in_each_rank("drawn_weights")[0]
        weights = None
        if found is not None:
            parameters = [DrawnParameter(**parameter) for parameter in found["parameters"]]
            weights = DrawnWeights(found["seed"], found["device"], parameters)
        return scoring.sample(texts, weights)

    def _in_each_rank(self, function: str) -> list[Any]:
        """What a function of `vllm_plugins.ranks` returns in each rank."""
        # Imported late: vLLM prepares the environment before it imports torch.
        from hybrid_ops.engines.vllm_plugins import ranks

        return self.engine.collective_rpc(getattr(ranks, function))

    def _core(self) -> Any:
        return self.engine.engine_core.engine_core

    def _scheduler(self) -> Any:
        return self._core().scheduler

    def _count_model_steps(self) -> None:
        """Count the engine's steps in which the model computes: only the core tells them from the others."""
        core = self._core()
        step = core.step_fn

        @functools.wraps(step)
        def counted() -> Any:
            outputs, is_computed = step()
            self.model_steps += is_computed
            return outputs, is_computed

        core.step_fn = counted

    def _cache_facts(self) -> CacheFacts:
        """The cache as the scheduler has it."""
        scheduler, config = self._scheduler(), self.engine.vllm_config.cache_config
        layout = scheduler.kv_cache_config
        specs = [(group.kv_cache_spec, len(group.layer_names)) for group in layout.kv_cache_groups]
        return CacheFacts(
            groups=[
                CacheGroup(type(spec).__name__, layers, spec.block_size, spec.page_size_bytes) for spec, layers in specs
            ],
            num_blocks=layout.num_blocks,
            block_size=config.block_size,
            bytes_per_block=vllm_probes.bytes_per_block(layout),
            in_flight_tokens=self.engine.vllm_config.max_in_flight_tokens,
            prefix_caching=config.enable_prefix_caching,
            max_concurrency=config.kv_cache_max_concurrency,
            max_model_len=self.engine.vllm_config.model_config.max_model_len,
        )


def _device_facts(gpu: dict[str, Any] | None) -> DeviceFacts:
    """The device of the first rank, as that rank sees it."""
    if gpu is not None:
        return DeviceFacts("cuda", gpu["name"], gpu["uuid"], gpu["memory_bytes"], threads=None)
    import torch
    from vllm.platforms import current_platform

    return DeviceFacts(current_platform.device_type, None, None, None, threads=torch.get_num_threads())


def _announce_stages() -> None:
    """Have the engine tell the parent which stage of its start it is in: its executor is in this process."""
    from vllm.v1.executor.abstract import Executor

    begin_stage(LOAD_STAGE)
    for name, stage in {"determine_available_memory": COMPILE_STAGE, "initialize_from_config": CAPTURE_STAGE}.items():
        setattr(Executor, name, _beginning(stage, getattr(Executor, name)))


def _beginning(stage: str, method: Any) -> Any:
    @functools.wraps(method)
    def wrapper(*arguments: Any, **keywords: Any) -> Any:
        begin_stage(stage)
        return method(*arguments, **keywords)

    return wrapper


def _unknown_variables() -> list[str]:
    """Variables that are named as vLLM's are and that this release does not read."""
    from vllm import envs

    return sorted(name for name in os.environ if name.startswith("VLLM_") and name not in envs.environment_variables)


def _resident_bytes() -> int:
    """The most bytes that were resident in this process since its start."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts in KiB


def _sampling_parameters(generation_tokens: int, sampling: dict[str, Any], samples: int) -> list[Any]:
    """vLLM's parameters of each sample of a prompt."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    return [
        SamplingParams(
            max_tokens=generation_tokens,
            ignore_eos=True,
            detokenize=False,
            output_kind=RequestOutputKind.DELTA,
            **{**sampling, "seed": sampling["seed"] + number},
        )
        for number in range(samples)
    ]


def main() -> None:
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    # Now, so that the two arms of a comparison import at the same time. A failure is told by `load`, which tries again.
    with contextlib.suppress(Exception):
        importlib.import_module("vllm").LLMEngine  # noqa: B018 - vLLM imports lazily
    worker = VllmWorker()
    serve(
        {
            "load": worker.load,
            "generate": worker.generate,
            "probe_cache": worker.probe_cache,
            "probe_prefix": worker.probe_prefix,
            "score": worker.score,
        }
    )
    # Python would take two more seconds to take the engine apart, for memory that the kernel frees at once.
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
