"""vLLM's own cache planner, without weights and without an engine: what `plan_cache` is held against.

Run as a script in a process of its own, because vLLM keeps global state. Each line of standard input is one case as
JSON (see `plan`), and each line of the answer on standard output one plan; what vLLM prints goes to standard error.
"""

import json
import os
import sys
import tempfile
from pathlib import Path
from types import ModuleType, SimpleNamespace

os.environ.update(HF_HUB_OFFLINE="1", VLLM_LOGGING_LEVEL="ERROR", VLLM_PLUGINS="")


import torch
from vllm.config import get_layers_from_vllm_config, set_current_vllm_config
from vllm.distributed import parallel_state
from vllm.engine.arg_utils import EngineArgs
from vllm.model_executor.layers.attention_layer_base import AttentionLayerBase
from vllm.model_executor.model_loader.utils import initialize_model
from vllm.model_executor.models import registry
from vllm.platforms import current_platform
from vllm.triton_utils import allocation
from vllm.v1.attention.backend import MultipleOf
from vllm.v1.attention.backends.cpu_attn import CPUAttentionBackend
from vllm.v1.core import kv_cache_utils
from vllm.v1.kv_cache_interface import iter_layer_specs

from hybrid_ops.engines.vllm_plugins import hybrid_attention


class _AnyName(ModuleType):
    """A module in which every name exists."""

    __path__: list[str] = []

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return SimpleNamespace()


def _stand_in_modules():
    """Let layers be built that import what this build of vLLM has not; no kernel of it runs here."""
    # vLLM's Qwen3.5 imports torchvision, which no build of matches the CPU build of torch. Its class is inspected here
    # and not in another process, where there is no stand-in.
    for name in ("torchvision", "torchvision.transforms", "torchvision.transforms.v2"):
        sys.modules[name] = _AnyName(name)
    registry._run_in_subprocess = lambda inspect: inspect()
    # OLMo-Hybrid's layer sets an allocator for Triton's kernels.
    allocation.triton = SimpleNamespace(set_allocator=lambda allocator: None)


def _stand_in_group(size):
    """A process group's sizes without its processes."""
    group = SimpleNamespace(size=lambda: size, rank=lambda: 0)
    return SimpleNamespace(
        world_size=size,
        rank=0,
        local_rank=0,
        rank_in_group=0,
        ranks=list(range(size)),
        is_first_rank=True,
        is_last_rank=True,
        device_group=group,
        cpu_group=group,
    )


def _follow_platform(name):
    """Plan as on a GPU: blocks of multiples of 16 tokens, and states in the data type asked for."""
    cpu = name == "cpu"
    CPUAttentionBackend.get_supported_kernel_block_sizes = staticmethod(
        lambda kv_cache_spec=None: [MultipleOf(32 if cpu else 16)]
    )
    torch.cpu._is_avx512_bf16_supported = lambda: cpu


def _build(config, platform, tensor_parallel, state_dtype, prefix_caching, length, batched_tokens):
    """(vLLM's configuration, what each layer keeps) of a model on the meta device."""
    _follow_platform(platform)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(config))
        vllm_config = EngineArgs(
            model=folder,
            load_format="dummy",
            skip_tokenizer_init=True,
            enforce_eager=True,
            max_model_len=length,
            tensor_parallel_size=tensor_parallel,
            enable_prefix_caching=prefix_caching,
            mamba_ssm_cache_dtype=state_dtype,
            max_num_batched_tokens=batched_tokens,
            max_num_seqs=8,
            **({} if platform == "cpu" else {"block_size": 16}),
        ).create_engine_config()
    for name in ("_WORLD", "_TP", "_EP"):
        setattr(parallel_state, name, _stand_in_group(tensor_parallel))
    for name in ("_PP", "_DP", "_PCP", "_DCP"):
        setattr(parallel_state, name, _stand_in_group(1))
    with set_current_vllm_config(vllm_config), torch.device("meta"):
        initialize_model(vllm_config)
    current_platform.update_block_size_for_backend(vllm_config)
    layers = get_layers_from_vllm_config(vllm_config, AttentionLayerBase)
    specs = {name: layer.get_kv_cache_spec(vllm_config) for name, layer in layers.items()}
    vllm_config.cache_config.kv_cache_layout = "LBHNC"
    return vllm_config, {name: spec for name, spec in specs.items() if spec}


def plan(case):
    """The plan of one case: the arguments of `_build`, and cache_bytes."""
    cache_bytes = case.pop("cache_bytes")
    try:
        vllm_config, specs = _build(**case)
        cache = kv_cache_utils.get_kv_cache_configs(vllm_config, [specs], [cache_bytes])[0]
    except (ValueError, AssertionError) as error:
        return {"refused": f"{type(error).__name__}: {error}"}
    _, concurrency = kv_cache_utils.get_kv_cache_capacity(vllm_config, cache)
    pages = {spec.page_size_bytes for group in cache.kv_cache_groups for spec in iter_layer_specs(group.kv_cache_spec)}
    return {
        "block_size": vllm_config.cache_config.block_size,
        "page_bytes": max(pages),
        "num_blocks": cache.num_blocks,
        "groups": sorted(
            [type(group.kv_cache_spec).__name__, len(group.layer_names)] for group in cache.kv_cache_groups
        ),
        "in_flight_tokens": vllm_config.max_in_flight_tokens,
        "max_concurrency": concurrency,
    }


def main():
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # vLLM prints to standard output too
    _stand_in_modules()
    hybrid_attention.register()  # the plugin's other parts, such as the fallbacks, would change the plans
    for line in sys.stdin:
        print(json.dumps(plan(json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()
