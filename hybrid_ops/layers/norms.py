"""Root-mean-square norms, plain and gated, in the variants that hybrid models use.

| model                        | norm                          | gated norm                                          |
|------------------------------|-------------------------------|-----------------------------------------------------|
| Llama, OLMo-Hybrid, Falcon-H1 | `weight`                     | OLMo-Hybrid: norm, then gate; Falcon-H1: by a flag   |
| Gemma 3, Qwen3-Next          | `1 + weight` (`offset=1`)     | Qwen3-Next: norm, then gate, plain weight            |
| Mamba-2                      | `weight`                      | gate, then norm over the full width                  |
| Nemotron-H, Zamba2           | `weight`                      | gate, then norm within each group                    |
"""

import torch
from torch import Tensor
from torch.nn import functional

from hybrid_ops.layers.precision import compute_dtype, without_autocast
from hybrid_ops.layers.validation import check_choice, check_positive_integer, check_shapes


@without_autocast
def rms_norm(x: Tensor, weight: Tensor | None, *, epsilon: float, offset: float = 0.0) -> Tensor:
    """Root-mean-square norm: y = x / sqrt(mean(x²) + ε) · (offset + weight).

    Zhang & Sennrich, "Root Mean Square Layer Normalization", arXiv 1910.07467, Eq. 4, with ε inside the root as all
    current models have it.

    Args:
        x: [..., D], any floating dtype.
        weight: [D], or None for no scale.
        epsilon: added to the mean square, at least 0.
        offset: added to the weight: 0, or 1 for Gemma and Qwen3-Next, whose weights are stored around zero.

    Returns:
        [..., D] in the dtype of x.

    Precision: x and weight may differ in dtype; the mean square and the product with (offset + weight) are in
    promote(both, float32), and the output is rounded once. (Llama's own code rounds before the weight, Gemma's after.)

    Raises:
        TypeError, ValueError: naming the argument that has a wrong shape, dtype, device or range.
    """
    check_shapes(x=(x, "... D"), weight=(weight, "D"))
    _check_epsilon(epsilon)
    return _normalise(x.to(compute_dtype(x, weight)), weight, epsilon, offset).to(x.dtype)


@without_autocast
def gated_rms_norm(
    x: Tensor,
    gate: Tensor,
    weight: Tensor | None,
    *,
    epsilon: float,
    order: str,
    group_size: int | None = None,
) -> Tensor:
    """Root-mean-square norm of a mixer's output, gated by silu(gate) = gate · sigmoid(gate).

    `norm_before_gate`: y = norm(x) · silu(gate), as in Gated DeltaNet (arXiv 2412.06464, Fig. 1).
    `gate_before_norm`: y = norm(x · silu(gate)), as in Mamba-2 (arXiv 2405.21060, §7.2 and Fig. 6).

    Args:
        x: [..., D], any floating dtype.
        gate: [..., D], the shape of x.
        weight: [D], or None.
        epsilon: added to the mean square, at least 0.
        order: "norm_before_gate" or "gate_before_norm".
        group_size: the mean square is taken within groups of this many neighbouring channels (Nemotron-H: D divided
            by the SSM's groups); None means all D. The weight stays [D].

    Returns:
        [..., D] in the dtype of x.

    Precision: x, gate and weight may differ in dtype; the gate's silu, the norm and all products are in
    promote(all, float32), and the output is rounded once.

    Raises:
        TypeError, ValueError: naming the argument that has a wrong shape, dtype, device or range.
    """
    check_shapes(x=(x, "... D"), gate=(gate, "... D"), weight=(weight, "D"))
    if gate.shape != x.shape:
        raise ValueError(f"gate: expected the shape of x, {tuple(x.shape)}, got {tuple(gate.shape)}")
    _check_epsilon(epsilon)
    check_choice("order", order, ("norm_before_gate", "gate_before_norm"))
    width = x.shape[-1]
    group_size = width if group_size is None else group_size
    check_positive_integer("group_size", group_size)
    if width % group_size:
        raise ValueError(f"group_size: {group_size} does not divide the width {width} of x")

    dtype = compute_dtype(x, gate, weight)
    opening = functional.silu(gate.to(dtype))
    y = x.to(dtype)
    if order == "gate_before_norm":
        y = y * opening
    y = _normalise(y.unflatten(-1, (-1, group_size)), None, epsilon, 0.0).flatten(-2)  # [..., D/g, g] → [..., D]
    if weight is not None:
        y = y * weight.to(dtype)
    if order == "norm_before_gate":
        y = y * opening
    return y.to(x.dtype)


@without_autocast
def l2_normalise(x: Tensor, *, epsilon: float = 1e-6) -> Tensor:
    """Divide by the Euclidean length: y = x · rsqrt(Σx² + ε).

    With ε under the root a zero vector stays zero and its gradient stays finite: 1/√ε = 1e3, where `x / x.norm()`
    gives NaN and `functional.normalize(eps=1e-6)` gives 1e6.

    Args:
        x: [..., K], any floating dtype.
        epsilon: added to the squared length, greater than 0.

    Returns:
        [..., K] in the compute dtype promote(x, float32): rounding a unit vector back would undo the normalisation.

    Precision: the sum of squares and the product are in promote(x, float32), and nothing is rounded.

    Raises:
        TypeError, ValueError: naming the argument.
    """
    if not x.is_floating_point():
        raise TypeError(f"x: expected a floating dtype, got {x.dtype}")
    if epsilon <= 0:
        raise ValueError(f"epsilon: must be greater than 0, got {epsilon}")
    x = x.to(compute_dtype(x))
    return x * torch.rsqrt(x.square().sum(dim=-1, keepdim=True) + epsilon)


def _normalise(x: Tensor, weight: Tensor | None, epsilon: float, offset: float) -> Tensor:
    y = x * torch.rsqrt(x.square().mean(dim=-1, keepdim=True) + epsilon)
    return y if weight is None else y * (offset + weight.to(x.dtype))


def _check_epsilon(epsilon: float) -> None:
    if epsilon < 0:
        raise ValueError(f"epsilon: must be at least 0, as it is added under a square root, got {epsilon}")
