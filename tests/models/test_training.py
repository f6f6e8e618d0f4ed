"""FLOPs and bytes of a training step, against `torch.utils.flop_counter` and against what autograd keeps."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from torch.utils.flop_counter import FlopCounterMode

from hybrid_ops.models.configs import load_config
from hybrid_ops.models.families import load_model, read_model
from hybrid_ops.models.training import training_bytes, training_flops
from tests.models.test_flops import SCANS, square_attention
from tests.models.twins import transformers_config

BATCH, TOKENS = 2, 24
MODELS = ("llama-tiny", "nemotron-h-tiny", "falcon-h1-tiny", "olmo-hybrid-tiny", "qwen3-next-tiny", "gemma3-tiny")


def in_training(config: dict[str, Any]) -> torch.nn.Module:
    """transformers' module in float32, with plain attention and experts, whose matrix products are counted."""
    torch.manual_seed(0)
    return transformers.AutoModelForCausalLM.from_config(
        transformers_config(config, dtype="float32"), attn_implementation="eager", experts_implementation="eager"
    ).train()


def without_scans(module: torch.nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace every scan by something of its shape without a product, so that the rest alone is counted."""
    modeling = sys.modules[type(module).__module__]
    for name in SCANS:
        if hasattr(modeling, name):
            monkeypatch.setattr(modeling, name, _stand_in(name))


def _stand_in(name: str) -> Callable[..., Any]:
    def scan(first: torch.Tensor, *rest: torch.Tensor, **options: Any) -> Any:
        operands = [one for one in (*rest, *options.values()) if isinstance(one, torch.Tensor)]
        nothing = 0 * sum(one.sum() for one in operands)  # each operand has a gradient, as it has in the scan
        value = rest[1] if "delta" in name else first
        return (value + nothing + 0 * first.sum(), None) if "delta" in name else value + nothing

    return scan


@pytest.mark.parametrize("name", MODELS)
def test_forward_and_backward_equal_the_counter(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_config(name)
    model, module = read_model(config), in_training(config)
    without_scans(module, monkeypatch)
    tokens = torch.zeros(BATCH, TOKENS, dtype=torch.long)
    with FlopCounterMode(display=False) as counter:
        module(input_ids=tokens, use_cache=False).logits.sum().backward()
    ours = training_flops(model, BATCH, TOKENS)
    # What the two count otherwise is what `test_flops.py` says of the forward pass: the square, and the padding.
    convolutions = [BATCH * (TOKENS + part.kernel - 1) * part.convolution_flops for part in model.recurrent]
    forward = (
        ours.forward.projections
        + sum(convolutions)
        + BATCH * square_attention(model, TOKENS, TOKENS)
        + ours.forward.head
    )
    # The counter takes the gradient of a depthwise convolution's weight for that of a dense one.
    dense = sum(flops * (part.channels - 1) for flops, part in zip(convolutions, model.recurrent, strict=True))
    assert counter.get_total_flops() == 3 * forward + dense


def test_packed_documents_attend_to_themselves_alone() -> None:
    model = load_model("llama-tiny")
    whole, packed = (training_flops(model, 1, 24, documents=lengths) for lengths in ((), (10, 14)))
    pairs = 10 * 11 // 2 + 14 * 15 // 2
    assert packed.forward.attention == whole.forward.attention * pairs // (24 * 25 // 2)
    assert packed.forward.projections == whole.forward.projections
    assert packed.total == 3 * packed.forward.total


def kept_by_autograd(module: torch.nn.Module) -> int:
    """Bytes of what a forward pass keeps for the backward pass, weights aside."""
    weights = {one.untyped_storage().data_ptr() for one in (*module.parameters(), *module.buffers())}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        logits = module(input_ids=torch.zeros(BATCH, 64, dtype=torch.long), use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), torch.zeros(BATCH * 64).long())
    assert loss.requires_grad  # nothing kept was freed before it was counted
    return sum(kept.values())


@pytest.mark.parametrize("name", MODELS)
def test_autograd_keeps_at_least_what_is_accounted(name: str) -> None:
    config = load_config(name)
    module = transformers.AutoModelForCausalLM.from_config(
        transformers_config(config, dtype="float32"), attn_implementation="sdpa", experts_implementation="eager"
    ).train()
    logits = 4 * BATCH * 64 * config["vocab_size"]  # only the logarithms of probabilities are kept
    least = training_bytes(read_model(config), BATCH, 64, "float32")
    kept = kept_by_autograd(module)
    assert least.activations - logits <= kept
    most = 3 if name in ("llama-tiny", "gemma3-tiny") else 8  # the torch code of scans keeps every intermediate
    assert kept <= most * least.activations


def test_bytes_follow_precision_optimizer_and_checkpointing() -> None:
    model = load_model("llama-3.2-1b")
    parameters = 1_235_814_400
    mixed = training_bytes(model, 32, 1024, "bfloat16-mixed")
    assert (mixed.weights, mixed.gradients, mixed.optimizer) == (4 * parameters, 4 * parameters, 8 * parameters)
    pure = training_bytes(model, 32, 1024, "bfloat16", "sgd")
    assert (pure.weights, pure.gradients, pure.optimizer) == (2 * parameters, 2 * parameters, 0)
    a_layer = 4 * 2048 + 2 * 2048 + 2 * 512 + 3 * 8192
    a_token = 2 * (16 * a_layer + 2 * 2048 + 128256) + 8 * 128256
    assert mixed.activations == pure.activations == 32 * 1024 * a_token
    assert mixed.total == 12 * parameters + mixed.activations
    parts = training_bytes(model, 8, 1024, "bfloat16-mixed", accumulated=True)
    assert parts.total == 16 * parameters + mixed.activations // 4
    assert training_bytes(model, 1, 1, "bfloat16").total == 8 * parameters, "of little data the gradients are more"
    spared = training_bytes(model, 32, 1024, "bfloat16-mixed", checkpointing=True)
    assert mixed.activations - spared.activations == 32 * 1024 * 2 * (15 * a_layer - 16 * 2048)
    assert training_flops(model, 32, 1024, checkpointing=True).recomputed > 0
