"""Load format `seeded`: dummy weights drawn from a generator seeded by each parameter's name.

vLLM's own `dummy` draws every tensor from one seed and a width of 1e-3, which makes the embedding equal to the output
head, so that every model echoes its last token and a wrong kernel would not show.
"""

from __future__ import annotations

import functools
import hashlib
import math
from typing import Any

import torch

from hybrid_ops.engines.vllm_plugins.seeded_shards import whole_of

SEEDED_LOAD_FORMAT = "seeded"

loaded_parameter_bytes: int | None = None
"""Bytes of the weights that were last loaded in this process, counted before any kernel repacks them."""

drawn: dict[str, Any] | None = None
"""What the weights that were last drawn in this process are drawn from, as `protocol.DrawnWeights` has it; None where
they were not drawn, or a part of the whole that is divided in an unknown way."""


def register() -> None:
    """Make the load format known to vLLM, and count the bytes of real weights too."""
    from vllm.model_executor.model_loader import register_model_loader
    from vllm.model_executor.model_loader.base_loader import BaseModelLoader
    from vllm.model_executor.model_loader.default_loader import DefaultModelLoader

    class SeededModelLoader(BaseModelLoader):
        """Fills a model's weights from seeds: a model name and a seed give the same weights in every process."""

        def download_model(self, model_config: Any) -> None:
            """Nothing to download."""

        def load_weights(self, model: torch.nn.Module, model_config: Any) -> None:
            from vllm.distributed import get_tensor_model_parallel_rank, get_tensor_model_parallel_world_size

            global drawn
            rank, ranks = get_tensor_model_parallel_rank(), get_tensor_model_parallel_world_size()
            parameters = []
            for name, parameter in model.named_parameters():
                parent, _, own = name.rpartition(".")
                module = model.get_submodule(parent)
                parameters.append(fill_part(name, own, module, parameter, model_config.seed, rank, ranks))
            device = next(model.parameters()).device.type
            is_whole = None not in parameters
            drawn = {"seed": model_config.seed, "device": device, "parameters": parameters} if is_whole else None

    SeededModelLoader.load_weights = _counted(SeededModelLoader.load_weights)  # type: ignore[method-assign]
    DefaultModelLoader.load_weights = _counted(DefaultModelLoader.load_weights)
    register_model_loader(SEEDED_LOAD_FORMAT)(SeededModelLoader)


def _counted(load_weights: Any) -> Any:
    """A loader's `load_weights`, which also counts the bytes of the model's parameters."""

    @functools.wraps(load_weights)
    def wrapper(loader: Any, model: torch.nn.Module, model_config: Any) -> Any:
        global loaded_parameter_bytes
        loaded = load_weights(loader, model, model_config)
        loaded_parameter_bytes = sum(one.numel() * one.element_size() for one in model.parameters())
        return loaded

    return wrapper


@torch.no_grad()
def fill_part(
    name: str, own_name: str, module: torch.nn.Module, parameter: torch.Tensor, seed: int, rank: int, ranks: int
) -> dict[str, Any] | None:
    """Fill a rank's part of one parameter, so that the model is the same however many ranks share it.

    Returns what the whole was drawn from, as `protocol.DrawnParameter` has it. Returns None for a parameter that is
    divided in an unknown way: each rank then draws its part for itself, which makes another model of the same size.
    """
    kind = type(module).__name__
    found = whole_of(own_name, module, parameter, rank, ranks)
    if found is None:
        fill_parameter(name, kind, parameter, parameter_seed(seed, name, rank))
        return None
    shape, take = found
    whole = parameter if ranks == 1 else torch.empty(shape, dtype=parameter.dtype, device=parameter.device)
    fill_parameter(name, kind, whole, parameter_seed(seed, name))
    if ranks > 1:
        take(whole)
    dtype = str(parameter.dtype).removeprefix("torch.")
    return {"name": name, "shape": list(shape), "dtype": dtype, "module": kind}


def parameter_seed(seed: int, name: str, rank: int = 0) -> str:
    """What a parameter of a rank is drawn from."""
    return f"{seed}:{rank}:{name}"


@torch.no_grad()
def fill_parameter(name: str, module: str, parameter: torch.Tensor, seed: str) -> None:
    """Fill one parameter in place with values of the size that training leaves, so that every layer has a say.

    `module` is the name of the class that the parameter belongs to.
    Matrices get a fan-in scale, norms stay near their identity, decay rates and time steps get the ranges that
    Mamba (arXiv 2312.00752, section 3.6) and Gated DeltaNet initialise them with.
    """
    generator = torch.Generator(device=parameter.device)
    generator.manual_seed(int.from_bytes(hashlib.sha256(seed.encode()).digest()[:7], "big"))
    shape, device = parameter.shape, parameter.device
    leaf = name.rpartition(".")[2]
    if leaf in ("A", "A_log"):
        rate = 1 + 15 * torch.rand(shape, generator=generator, device=device)
        parameter.copy_(-rate if leaf == "A" else rate.log())
    elif leaf == "dt_bias" or name.endswith("dt_proj.bias"):
        low, high = math.log(1e-3), math.log(1e-1)
        step = torch.exp(low + (high - low) * torch.rand(shape, generator=generator, device=device))
        parameter.copy_(step + torch.log(-torch.expm1(-step)))  # the inverse of softplus
    else:
        noise = torch.randn(shape, generator=generator, device=device)
        if parameter.dim() >= 2:
            parameter.copy_(noise / math.sqrt(parameter.shape[-1]))
        elif leaf == "bias":
            parameter.copy_(0.02 * noise)
        else:
            identity = 0.0 if "Gemma" in module else 1.0  # Gemma's norms scale by 1 + weight
            parameter.copy_(identity + 0.1 * noise)
