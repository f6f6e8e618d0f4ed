"""The training worker with one planted error, which the variable FAULT names. Run by path in place of the real one."""

from __future__ import annotations

import os
from typing import Any

import torch
import transformers

from hybrid_ops.engines import training_worker
from hybrid_ops.engines.training_bench import trainer


def detach_gradient() -> None:
    """The gate of every feed-forward block hands no gradient on."""
    for name in ("llama", "falcon_h1", "olmo_hybrid", "qwen3_next"):
        modeling = getattr(transformers.models, name)
        module = getattr(modeling, f"modeling_{name}")
        for kind in [one for one in vars(module).values() if isinstance(one, type) and one.__name__.endswith("MLP")]:
            _detach_output(kind)


def _detach_output(kind: Any) -> None:
    forward = kind.forward

    def detached(self: Any, x: torch.Tensor) -> torch.Tensor:
        return forward(self, x.detach())

    kind.forward = detached


def drop_mask() -> None:
    """Attention sees what comes after."""
    real = torch.nn.functional.scaled_dot_product_attention

    def unmasked(query: Any, key: Any, value: Any, attn_mask: Any = None, is_causal: bool = False, **rest: Any) -> Any:
        return real(query, key, value, attn_mask=None, is_causal=False, **rest)

    torch.nn.functional.scaled_dot_product_attention = unmasked


def halve_learning_rate() -> None:
    real = trainer.make_optimizer

    def halved(parameters: Any, plan: Any) -> Any:
        optimizer = real(parameters, plan)
        for group in optimizer.param_groups:
            group["lr"] /= 2
        return optimizer

    trainer.make_optimizer = halved


FAULTS = {"detached-gradient": detach_gradient, "dropped-mask": drop_mask, "halved-learning-rate": halve_learning_rate}

if __name__ == "__main__":
    if (fault := os.environ.get("FAULT")) is not None:
        FAULTS[fault]()
    training_worker.main()
