"""Rotary position embedding (RoPE): queries and keys turn by an angle proportional to their position.

Su et al., "RoFormer", arXiv 2104.09864, Eq. 34, in the "rotate half" pairing of the released models: channel i turns
together with channel i + R/2, not with its neighbour.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from hybrid_ops.layers.precision import compute_dtype, without_autocast
from hybrid_ops.layers.validation import check_choice, check_shapes


def rotary_frequencies(
    rotary_size: int, *, theta: float, scaling: Mapping[str, Any] | None = None, device: torch.device | None = None
) -> Tensor:
    """The angular frequencies θ^(−2i/R) for i = 0 … R/2 − 1, in radians a token (arXiv 2104.09864, §3.2.2).

    Args:
        rotary_size: R, the number of channels that turn; even and at least 2.
        theta: the base, greater than 1.
        scaling: how a long context changes the frequencies, by Hugging Face's keys. `rope_type` is "default",
            "linear" (all frequencies divided by `factor`) or "llama3" (frequencies whose wavelength is longer than the
            original context / `low_freq_factor` are divided by `factor`, shorter than / `high_freq_factor` are kept,
            and those between are blended).
        device: where to put them.

    Returns:
        [R/2] float64: at position 2^20 a frequency in float32 gives an angle that is off by 0.06 radians.

    Raises:
        ValueError: naming the argument.
    """
    if rotary_size < 2 or rotary_size % 2:
        raise ValueError(f"rotary_size: must be even and at least 2, got {rotary_size}")
    if not theta > 1:
        raise ValueError(f"theta: must be greater than 1, got {theta}")
    exponents = torch.arange(0, rotary_size, 2, dtype=torch.float64, device=device) / rotary_size
    frequencies = theta**-exponents
    kind = "default" if scaling is None else scaling.get("rope_type", "default")
    check_choice("scaling", kind, ("default", "linear", "llama3"))
    if scaling is None or kind == "default":
        return frequencies
    slowed = frequencies / scaling["factor"]
    if kind == "linear":
        return slowed
    turns = scaling["original_max_position_embeddings"] * frequencies / (2 * math.pi)  # turns in the original context
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    kept = ((turns - low) / (high - low)).clamp(0, 1)
    return kept * frequencies + (1 - kept) * slowed


@without_autocast
def apply_rotary(x: Tensor, positions: Tensor, frequencies: Tensor) -> Tensor:
    """Turn the first R channels of each head by position · frequency (arXiv 2104.09864, Eq. 34).

    (x_i, x_{i+R/2}) → (x_i cos φ_i − x_{i+R/2} sin φ_i, x_{i+R/2} cos φ_i + x_i sin φ_i), φ_i = position · frequency_i.

    Args:
        x: [B, T, H, K], any floating dtype; channels R and above pass unchanged (partial rotary).
        positions: [T] or [B, T] integers, counted from 0 at the sequence's start.
        frequencies: [R/2] radians a token, any floating dtype, from `rotary_frequencies`; R at most K.

    Returns:
        [B, T, H, K] in the dtype of x.

    Precision: angles, sines and cosines in float64 whatever the dtype of the frequencies (bfloat16 cannot count beyond
    256, float32 not beyond 2^24); the turn in promote(x, float32); rounded once, at the output. `frequencies` does not
    raise the compute dtype, because it is a table and not data.

    Raises:
        TypeError, ValueError: naming the argument.
    """
    sizes = check_shapes(x=(x, "B T H K"), frequencies=(frequencies, "R/2"))
    half = sizes["R/2"]
    if 2 * half > sizes["K"]:
        raise ValueError(f"frequencies: {half} pairs turn {2 * half} channels, but x has {sizes['K']}")
    if positions.is_floating_point():
        raise TypeError(f"positions: expected integers, got {positions.dtype}")
    if tuple(positions.shape) not in ((sizes["T"],), (sizes["B"], sizes["T"])):
        raise ValueError(
            f"positions: expected shape [T] or [B, T] with B = {sizes['B']}, T = {sizes['T']}, "
            f"got {tuple(positions.shape)}"
        )
    dtype = compute_dtype(x)
    angles = positions.double()[..., None, None] * frequencies.double()  # [(B,) T, 1, R/2]
    cosine, sine = angles.cos().to(dtype), angles.sin().to(dtype)
    first, second, passed = x.to(dtype).split([half, half, sizes["K"] - 2 * half], dim=-1)
    turned = (first * cosine - second * sine, second * cosine + first * sine, passed)
    return torch.cat(turned, dim=-1).to(x.dtype)
