"""Several no-op engines that answer a batch together: how it is divided, and how their answers are put together."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import psutil
import pytest

from hybrid_ops.engines.devices import Device, divided
from hybrid_ops.engines.noop import Noop
from hybrid_ops.engines.protocol import GENERATE, LOAD, PROBE_CACHE, GenerationSample
from hybrid_ops.engines.replicas import Replicas
from hybrid_ops.engines.worker import WorkerError
from hybrid_ops.measure.procedures.generation import generation_values

SECONDS = 60
CORES = sorted(os.sched_getaffinity(0))
PROMPTS = [[1, 2, 3], [4, 5], [6]]


def loaded(folder: Path, **arguments: Any) -> Replicas:
    cores = [(CORES[0],), (CORES[-1],)]
    replicas = Replicas(Noop.worker, folder, environments=[{"CUDA_VISIBLE_DEVICES": ""}] * 2, cores=cores)
    replicas.stage_seconds = {"load": SECONDS}
    facts = replicas.ask(LOAD, SECONDS, model=str(folder), arguments=arguments)
    assert facts.model_bytes == 2_000_000 and facts.cache is not None and facts.cache.num_blocks == 2000
    return replicas


def generated(replicas: Replicas, prompts: list[list[int]]) -> GenerationSample:
    return replicas.ask(
        GENERATE, SECONDS, prompts=prompts, generation_tokens=4, sampling={}, prefix_caching_reset=True, samples=2
    )


def test_a_batch_is_divided_and_put_together(tmp_path: Path) -> None:
    """They load only if both are there, each is bound to its own core, and the last to end ends the batch."""
    meets = {"folder": str(tmp_path / "meeting"), "engines": 2}
    with loaded(tmp_path / "engines", meets=meets, step_ms=10.0) as replicas:
        bound = [
            psutil.Process(pid).cpu_affinity() for pid in [int(path.name) for path in (tmp_path / "meeting").iterdir()]
        ]
        assert sorted(bound) == sorted([[CORES[0]], [CORES[-1]]])
        sample = generated(replicas, PROMPTS)
    assert [part.prompt_tokens for part in sample.parts] == [4, 2]
    assert (sample.prompt_tokens, len(sample.requests), len(sample.steps)) == (6, 6, 8)
    values = generation_values(sample, 4)
    assert values["output_tokens"] == 24
    assert values["output_throughput"] == pytest.approx(24 / 0.04)
    assert values["median_step_ms"] == pytest.approx(10.0)
    assert (tmp_path / "engines" / "replica-2" / "engine.log").exists()


def living_children() -> set[psutil.Process]:
    return {child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE}


def test_what_one_cannot_do_fails_the_launch_and_ends_all(tmp_path: Path) -> None:
    before = living_children()
    with loaded(tmp_path, fail={"on": "generate", "how": "die"}) as replicas:
        with pytest.raises(WorkerError, match="the engine process died during 'generate'"):
            generated(replicas, PROMPTS)
        assert replicas.process.poll() is not None
    with loaded(tmp_path) as replicas:
        with pytest.raises(WorkerError, match="1 prompts for 2 replicas: each needs one"):
            generated(replicas, PROMPTS[:1])
        with pytest.raises(WorkerError, match="replicas do not answer 'probe_cache'"):
            replicas.ask(PROBE_CACHE, SECONDS, lengths=[16])
    assert living_children() == before


def test_a_lease_is_divided_over_the_replicas() -> None:
    cards = tuple(Device("cuda", number, "a GPU", "gpu", f"GPU-{number}") for number in range(4))
    eight = Device("cuda", 0, "4 × a GPU", "gpux4", members=cards)
    assert [part.environment["CUDA_VISIBLE_DEVICES"] for part in divided(eight, 2)] == ["GPU-0,GPU-1", "GPU-2,GPU-3"]
    cores = Device("cpu", 0, "a CPU", "cpu-4of8c", cores=(0, 1, 4, 5))
    assert [part.cores for part in divided(cores, 2)] == [(0, 1), (4, 5)]
    assert divided(cores, 1) == [cores]
