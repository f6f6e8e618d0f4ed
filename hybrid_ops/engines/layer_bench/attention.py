"""Attention with the masks and score changes of the attention benchmark: q, k, v [B, T, H, K]; output [B, T, H, K].

The seven of the attention benchmark (attention-gym, `examples/benchmark.py`). Its score changes have no mask: each
query sees every key. Its "sliding window 1024" is q − k <= 1024, which sees 1025 keys, the query's own included.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hybrid_ops.engines.layer_bench import packages
from hybrid_ops.engines.layer_bench.contender import CHECKED_TOKENS, Contender, Function, KnownFailure, Layer
from hybrid_ops.engines.layer_bench.shape import Shape

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from hybrid_ops.layers.masks import MaskMod, ScoreMod

SOFTCAP = 30.0
RECOMPILATIONS = 256
"""How many variants and lengths torch compiles FlexAttention for before it gives up and runs it uncompiled."""
Mask = Callable[[Shape, "torch.device"], "MaskMod"]
Score = Callable[[Shape, "torch.device"], "ScoreMod"]


def inputs(shape: Shape, device: torch.device) -> dict[str, Tensor]:
    """Query, key and value from the normal distribution, rounded to the shape's type."""
    import torch

    sizes = (shape.batch, shape.tokens, shape.heads, shape.head_size)
    kind = getattr(torch, shape.dtype)
    return {name: torch.randn(*sizes, device=device).to(kind) for name in ("query", "key", "value")}


def _causal(shape: Shape, device: torch.device) -> MaskMod:
    from hybrid_ops.layers import masks

    return masks.causal


def sliding_window(shape: Shape, device: torch.device) -> MaskMod:
    """The shape's window."""
    from hybrid_ops.layers import masks

    return masks.sliding_window(shape.window)


def _prefix_lm(shape: Shape, device: torch.device) -> MaskMod:
    from hybrid_ops.layers import masks

    return masks.prefix_lm(shape.prefix)


def _document(shape: Shape, device: torch.device) -> MaskMod:
    import torch

    from hybrid_ops.layers import masks

    lengths = torch.tensor(document_lengths(shape.tokens, shape.documents), device=device)
    return masks.document(torch.repeat_interleave(torch.arange(len(lengths), device=device), lengths))


def document_lengths(tokens: int, documents: int) -> list[int]:
    """Lengths of so many documents, none empty, that fill a sequence: every way to cut it is as likely."""
    draw = random.Random(f"{tokens} tokens of {documents} documents")  # noqa: S311 - a fixed draw, not a secret
    cuts = sorted(draw.sample(range(1, tokens), min(documents, tokens) - 1))
    return [end - start for start, end in zip([0, *cuts], [*cuts, tokens])]


def _alibi(shape: Shape, device: torch.device) -> ScoreMod:
    from hybrid_ops.layers import masks

    return masks.alibi(masks.alibi_slopes(shape.heads).float().to(device))


def _softcap(shape: Shape, device: torch.device) -> ScoreMod:
    from hybrid_ops.layers import masks

    return masks.tanh_softcap(SOFTCAP)


def _softcap_approximate(shape: Shape, device: torch.device) -> ScoreMod:
    from hybrid_ops.layers import masks

    return masks.tanh_softcap_approximate(SOFTCAP)


def _mods(mask: Mask | None, score: Score | None, shape: Shape, device: torch.device) -> dict[str, Any]:
    return {
        "mask_mod": None if mask is None else mask(shape, device),
        "score_mod": None if score is None else score(shape, device),
    }


def _reference(shape: Shape, mask: Mask | None, score: Score | None) -> Function:
    from hybrid_ops.layers.attention import attention

    def dense(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return attention(q, k, v, **_mods(mask, score, shape, q.device))

    return dense


def ours(shape: Shape, device: torch.device, mask: Mask | None, score: Score | None) -> Function:
    """Our banded form for a window, our form by blocks for everything else."""
    from hybrid_ops.layers.attention import block_sparse_attention, sliding_window_attention

    if mask is sliding_window:
        return functools.partial(sliding_window_attention, window=shape.window)
    return functools.partial(block_sparse_attention, **_mods(mask, score, shape, device))


def compiled_flex(shape: Shape, device: torch.device, mask: Mask | None, score: Score | None) -> Function:
    """FlexAttention, compiled for one length. The mask's blocks are prepared."""
    import torch
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    mods = _mods(mask, score, shape, device)
    block_mask = None
    if mods["mask_mod"] is not None:
        block_mask = create_block_mask(mods["mask_mod"], None, None, shape.tokens, shape.tokens, device=str(device))
    torch._dynamo.config.recompile_limit = RECOMPILATIONS
    kernel: Function = torch.compile(flex_attention, dynamic=False)

    def flex(q: Tensor, k: Tensor, v: Tensor) -> Any:
        return kernel(*(x.transpose(1, 2) for x in (q, k, v)), score_mod=mods["score_mod"], block_mask=block_mask)

    return flex


def dense_sdpa(shape: Shape, device: torch.device, mask: Mask | None, score: Score | None) -> Function:
    """SDPA with what the mask lets through, or what the score change adds to scores of zero, as a prepared matrix."""
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    mods = _mods(mask, score, shape, device)
    head = torch.arange(shape.heads, device=device)[:, None, None]
    position = torch.arange(shape.tokens, device=device)
    places = (torch.zeros_like(head), head, position[:, None], position)
    if mods["mask_mod"] is not None:
        matrix = mods["mask_mod"](*places)
    else:
        matrix = mods["score_mod"](torch.zeros((), device=device), *places).to(getattr(torch, shape.dtype))
    matrix = matrix.expand(1, shape.heads if matrix.dim() == 3 else 1, shape.tokens, shape.tokens)

    def dense(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        return scaled_dot_product_attention(q, k, v, attn_mask=matrix)

    return dense


def causal_sdpa(shape: Shape, device: torch.device) -> Function:
    """Full causal attention by the flash backend, which a GPU has for half precision alone."""
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.nn.functional import scaled_dot_product_attention

    def causal(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        if shape.dtype == "float32" and device.type != "cpu":
            return scaled_dot_product_attention(q, k, v, is_causal=True)
        with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
            return scaled_dot_product_attention(q, k, v, is_causal=True)

    return causal


def _flash_attn(shape: Shape, device: torch.device, mask: Mask | None, score: Score | None) -> Function:
    from flash_attn import flash_attn_func

    options: dict[str, Any] = {"causal": mask is not None}
    if mask is sliding_window:
        options["window_size"] = (shape.window - 1, 0)
    if score is _softcap:
        options["softcap"] = SOFTCAP

    def flash(q: Tensor, k: Tensor, v: Tensor) -> Any:
        return flash_attn_func(q, k, v, **options)

    return flash


def time_major(result: Tensor) -> Tensor:
    """[B, H, T, K] → [B, T, H, K]."""
    return result.transpose(1, 2)


NO_BACKWARD_ON_CPU = KnownFailure(
    platform="cpu",
    direction="backward",
    reason="FlexAttention has no backward pass on a processor",
    matches="does not support backward on CPU",
)


def _dense_flops(shape: Shape) -> int:
    """Two matmuls: of queries and keys, of weights and values."""
    return 4 * shape.batch * shape.heads * shape.head_size * shape.tokens**2


def _layer(
    name: str, title: str, mask: Mask | None, score: Score | None, checked: Callable[[Shape], int] | None = None
) -> Layer:
    mods: dict[str, Any] = {"mask": mask, "score": score}
    contenders = [
        Contender("ours", functools.partial(ours, **mods)),
        Contender(
            "causal FA2",
            causal_sdpa,
            output=time_major,
            is_yardstick=mask is not _causal,
            flops=lambda shape: 0.5 * _dense_flops(shape),
        ),
        Contender(
            "F.sdpa + mask",
            functools.partial(dense_sdpa, **mods),
            output=time_major,
            is_yardstick=score in (_softcap, _softcap_approximate),  # which is no term that a mask could add
        ),
        Contender(
            "flexattention",
            functools.partial(compiled_flex, **mods),
            output=time_major,
            is_installed=packages.can_compile,
            known_failures=(NO_BACKWARD_ON_CPU,),
        ),
    ]
    if mask in (_causal, sliding_window) or score is _softcap:
        flash = functools.partial(_flash_attn, **mods)
        is_installed = functools.partial(packages.has_package, "flash_attn")
        contenders.append(Contender("flash-attn", flash, platforms=("cuda",), is_installed=is_installed))
    return Layer(
        name=name,
        title=title,
        inputs=inputs,
        reference=functools.partial(_reference, **mods),
        checked_tokens=checked or (lambda shape: CHECKED_TOKENS),
        contenders=tuple(contenders),
        flops=_dense_flops,
        backward_flops=2.5,
        mask=mask,
    )


ATTENTION = (
    _layer("causal", "Causal Mask", _causal, None),
    _layer("alibi", "Alibi Mod", None, _alibi),
    _layer(
        "sliding_window",
        "Sliding Window {window}",
        sliding_window,
        None,
        lambda shape: shape.window + CHECKED_TOKENS,  # within the window it would be plain causal attention
    ),
    _layer(
        "prefix_lm",
        "Prefix Lm Causal Mask {prefix}",
        _prefix_lm,
        None,
        lambda shape: shape.prefix + CHECKED_TOKENS,  # within the prefix it would be full attention
    ),
    _layer("document", "Doc Mask Mod", _document, None),
    _layer("tanh_softcap", "Tanh Softcap 30", None, _softcap),
    _layer("tanh_softcap_approximate", "Tanh Softcap Approx 30", None, _softcap_approximate),
)
