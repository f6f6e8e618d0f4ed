"""What each rank of an engine knows of itself.

Under tensor parallelism the ranks are processes of their own, which hold the parameters and the device's memory. vLLM's
`collective_rpc` runs these functions in each of them, with the rank's worker, and gathers what they return: plain
values, because they may cross a process.
"""

from __future__ import annotations

from typing import Any

from hybrid_ops.engines.vllm_plugins import autotuner, capture, fallbacks, seeded_weights


def start_facts(worker: Any) -> dict[str, Any]:
    """What the start of the engine has made in this rank: bytes of its parameters, reference kernels, captured graphs.

    `gpu` is the device as the rank sees it, and None on a CPU.
    """
    return {
        "gpu": _gpu(),
        "model_bytes": seeded_weights.loaded_parameter_bytes,
        "reference_kernels": sorted(fallbacks.replaced),
        "capture_seconds": capture.captured.seconds,
    }


def _gpu() -> dict[str, Any] | None:
    import torch

    if not torch.cuda.is_available():
        return None
    properties = torch.cuda.get_device_properties(torch.cuda.current_device())
    return {"name": properties.name, "uuid": str(properties.uuid), "memory_bytes": properties.total_memory}


def drawn_weights(worker: Any) -> dict[str, Any] | None:
    """What this rank's weights were drawn from; see `seeded_weights.drawn`."""
    return seeded_weights.drawn


def begin_batch(worker: Any) -> None:
    """Forget the peak so far of what is allocated on the device."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def batch_facts(worker: Any) -> dict[str, Any]:
    """What a batch, which has ended, has shown of this rank: its memory in bytes, and the kernels that were chosen.

    `memory` is None on a CPU. `beside_cache` is the most that was allocated at once, less the preallocated cache.
    """
    import torch

    if not torch.cuda.is_available():
        return {"memory": None, "kernel_choices": {}}
    runner = worker.model_runner
    cache, peak = bytes_of(runner.kv_caches), torch.cuda.max_memory_allocated()
    graphs = capture.captured.bytes
    return {
        "memory": {
            "weights": int(runner.model_memory_usage),
            "cache": cache,
            "graphs": graphs,
            "activations": peak - torch.cuda.memory_allocated(),
        },
        "beside_cache": peak - cache + graphs,
        "kernel_choices": autotuner.choices(),
    }


def bytes_of(tensors: Any) -> int:
    """Bytes of all storages that tensors, in lists or alone, lie in; a storage that several share counts once."""
    sizes: dict[int, int] = {}
    waiting = [tensors]
    while waiting:
        one = waiting.pop()
        if isinstance(one, list | tuple):
            waiting += one
        elif one is not None:
            storage = one.untyped_storage()
            sizes[storage.data_ptr()] = storage.nbytes()
    return sum(sizes.values())
