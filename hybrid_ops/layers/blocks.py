"""Blocks: how hybrid models put mixers, feed-forward layers and norms together around the residual stream.

Like a mixer, a block is called as `x, state = block(x, state, position)`, x [B, T, D].

| block                       | form                                                     | used by                    |
|-----------------------------|----------------------------------------------------------|----------------------------|
| `PreNormBlock`              | x + mixer(norm(x)), then x + mlp(norm(x))                | Llama, Qwen3-Next, OLMo    |
| `PostNormBlock`             | x + norm(mixer(x)), then x + norm(mlp(x))                | OLMo's attention           |
| `SandwichNormBlock`         | x + norm(mixer(norm(x))), then the same with mlp         | Gemma 3                    |
| `SingleBlock`               | x + layer(norm(x)), a mixer or a feed-forward layer      | Mamba, Mamba-2, Nemotron-H |
| `ParallelBlock`             | x + attention(norm(x)) + mamba(norm(x)), then x + mlp(…) | Falcon-H1                  |
| `SlidingWindowHistoryBlock` | as parallel, the attention windowed                      | the hybrid of this suite   |
"""

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from hybrid_ops.layers.mixers import Attention, GatedRMSNorm, Mamba2, RMSNorm, State
from hybrid_ops.layers.precision import widen


def relu_squared(x: Tensor) -> Tensor:
    """max(x, 0)² (Primer, arXiv 2109.08668, §2), Nemotron's activation."""
    return functional.relu(x).square()


def gelu_tanh(x: Tensor) -> Tensor:
    """GELU in its tanh approximation (arXiv 1606.08415, §2), Gemma's activation."""
    return functional.gelu(x, approximate="tanh")


class GatedMLP(nn.Module):
    """down(activation(gate(x) · m₁) · up(x)) · m₂ (SwiGLU, arXiv 2002.05202, Eq. 6; m: Falcon-H1)."""

    def __init__(
        self,
        width: int,
        inner: int,
        *,
        activation: Callable[[Tensor], Tensor] = functional.silu,
        bias: bool = False,
        multipliers: tuple[float, float] = (1.0, 1.0),
    ) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(width, inner, bias=bias)
        self.up_proj = nn.Linear(width, inner, bias=bias)
        self.down_proj = nn.Linear(inner, width, bias=bias)
        self.activation, self.multipliers = activation, multipliers

    def forward(self, x: Tensor) -> Tensor:
        opening = self.activation(self.gate_proj(x) * self.multipliers[0])
        return self.down_proj(opening * self.up_proj(x)) * self.multipliers[1]


class MLP(nn.Module):
    """down(relu(up(x))²), Nemotron-H's feed-forward layer."""

    def __init__(self, width: int, inner: int, *, bias: bool = False) -> None:
        super().__init__()
        self.up_proj = nn.Linear(width, inner, bias=bias)
        self.down_proj = nn.Linear(inner, width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(relu_squared(self.up_proj(x)))


class Experts(nn.Module):
    """The weights of E gated MLPs, stacked."""

    def __init__(self, count: int, width: int, inner: int) -> None:
        super().__init__()
        self.gate_up_proj = nn.Parameter(torch.randn(count, 2 * inner, width) * width**-0.5)
        self.down_proj = nn.Parameter(torch.randn(count, width, inner) * inner**-0.5)

    def forward(self, x: Tensor, expert: int) -> Tensor:
        gate, up = functional.linear(x, self.gate_up_proj[expert]).chunk(2, dim=-1)
        return functional.linear(functional.silu(gate) * up, self.down_proj[expert])


class SparseMLP(nn.Module):
    """Mixture of experts with one shared, gated expert (Qwen3-Next; arXiv 2401.06066, Eq. 9).

    Args:
        width, inner, shared_inner: D and the inner sizes of the routed and the shared experts.
        experts, active: how many there are, and how many each token uses.
        normalise: the weights of the used experts sum to 1.
    """

    def __init__(
        self, width: int, *, inner: int, shared_inner: int, experts: int, active: int, normalise: bool
    ) -> None:
        super().__init__()
        self.active, self.normalise = active, normalise
        self.gate = nn.Linear(width, experts, bias=False)
        self.experts = Experts(experts, width, inner)
        self.shared_expert = GatedMLP(width, shared_inner)
        self.shared_expert_gate = nn.Linear(width, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        probabilities = widen(self.gate(x)).softmax(dim=-1)  # [B, T, E]
        weights, chosen = probabilities.topk(self.active, dim=-1)  # [B, T, active]
        if self.normalise:
            weights = weights / weights.sum(dim=-1, keepdim=True)
        y = torch.sigmoid(self.shared_expert_gate(x)) * self.shared_expert(x)
        for expert in chosen.unique().tolist():
            share = (weights * (chosen == expert)).sum(dim=-1)  # [B, T], 0 where the expert is not used
            used = share.nonzero(as_tuple=True)
            chosen_output = self.experts(x[used], expert)  # its dtype, and y's, is not x's under autocast
            y = y.index_put(used, chosen_output * share[used][:, None].to(y.dtype), accumulate=True)
        return y


class PreNormBlock(nn.Module):
    """x + mixer(norm(x)), then x + mlp(norm(x))."""

    transformers_names: ClassVar[dict[str, str]] = {"self_attn": "mixer", "linear_attn": "mixer"}

    def __init__(self, width: int, mixer: nn.Module, mlp: nn.Module, *, epsilon: float, offset: float = 0.0) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(width, epsilon, offset)
        self.mixer = mixer
        self.post_attention_layernorm = RMSNorm(width, epsilon, offset)
        self.mlp = mlp

    def forward(self, x: Tensor, state: State, position: int) -> tuple[Tensor, State]:
        y, state = self.mixer(self.input_layernorm(x), state, position)
        x = x + y
        return x + self.mlp(self.post_attention_layernorm(x)), state


class PostNormBlock(nn.Module):
    """x + norm(mixer(x)), then x + norm(mlp(x))."""

    transformers_names: ClassVar[dict[str, str]] = {"self_attn": "mixer"}

    def __init__(self, width: int, mixer: nn.Module, mlp: nn.Module, *, epsilon: float) -> None:
        super().__init__()
        self.mixer = mixer
        self.post_attention_layernorm = RMSNorm(width, epsilon)
        self.mlp = mlp
        self.post_feedforward_layernorm = RMSNorm(width, epsilon)

    def forward(self, x: Tensor, state: State, position: int) -> tuple[Tensor, State]:
        y, state = self.mixer(x, state, position)
        x = x + self.post_attention_layernorm(y)
        return x + self.post_feedforward_layernorm(self.mlp(x)), state


class SandwichNormBlock(nn.Module):
    """x + norm(mixer(norm(x))), then x + norm(mlp(norm(x)))."""

    transformers_names: ClassVar[dict[str, str]] = {"self_attn": "mixer"}

    def __init__(self, width: int, mixer: nn.Module, mlp: nn.Module, *, epsilon: float, offset: float) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(width, epsilon, offset)
        self.mixer = mixer
        self.post_attention_layernorm = RMSNorm(width, epsilon, offset)
        self.pre_feedforward_layernorm = RMSNorm(width, epsilon, offset)
        self.mlp = mlp
        self.post_feedforward_layernorm = RMSNorm(width, epsilon, offset)

    def forward(self, x: Tensor, state: State, position: int) -> tuple[Tensor, State]:
        y, state = self.mixer(self.input_layernorm(x), state, position)
        x = x + self.post_attention_layernorm(y)
        return x + self.post_feedforward_layernorm(self.mlp(self.pre_feedforward_layernorm(x))), state


class SingleBlock(nn.Module):
    """x + layer(norm(x)), where the layer is a mixer or a feed-forward layer."""

    transformers_names: ClassVar[dict[str, str]] = {}

    def __init__(self, width: int, layer: nn.Module, *, epsilon: float) -> None:
        super().__init__()
        self.norm = RMSNorm(width, epsilon)
        self.mixer = layer

    def forward(self, x: Tensor, state: State, position: int) -> tuple[Tensor, State]:
        y = self.norm(x)
        if isinstance(self.mixer, MLP):
            return x + self.mixer(y), None
        y, state = self.mixer(y, state, position)
        return x + y, state


class ParallelBlock(nn.Module):
    """Attention and Mamba-2 side by side on one normed input (Falcon-H1, arXiv 2507.22448, §2 and Fig. 1).

    Args:
        width: D.
        attention, mamba, mlp: the three layers.
        epsilon: of the norms.
        attention_multipliers: on the attention's input and output.
        mamba_multiplier: on the Mamba branch's output (its input multiplier is inside the mixer).
    """

    transformers_names: ClassVar[dict[str, str]] = {"self_attn": "attention"}

    def __init__(
        self,
        width: int,
        attention: Attention,
        mamba: Mamba2,
        mlp: nn.Module,
        *,
        epsilon: float,
        attention_multipliers: tuple[float, float] = (1.0, 1.0),
        mamba_multiplier: float = 1.0,
    ) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(width, epsilon)
        self.attention, self.mamba = attention, mamba
        self.pre_ff_layernorm = RMSNorm(width, epsilon)
        self.feed_forward = mlp
        self.attention_multipliers, self.mamba_multiplier = attention_multipliers, mamba_multiplier

    def forward(self, x: Tensor, state: State, position: int) -> tuple[Tensor, State]:
        attention_state, mamba_state = (None, None) if state is None else state
        normed = self.input_layernorm(x)
        seen, attention_state = self.attention(normed * self.attention_multipliers[0], attention_state, position)
        remembered, mamba_state = self.mamba(normed, mamba_state, position)
        x = x + seen * self.attention_multipliers[1] + remembered * self.mamba_multiplier
        return x + self.feed_forward(self.pre_ff_layernorm(x)), (attention_state, mamba_state)


class SlidingWindowHistoryBlock(ParallelBlock):
    """Sliding-window attention for what is near, and an SSM branch for the history that has left the window.

    Both branches read the same normed input and their outputs add, so that the block is Falcon-H1's with a window:
    the state is at most window − 1 keys and values and one SSM state, whatever the length of the sequence.

    Args:
        width: D.
        heads, key_heads, head_size: of the attention.
        window: keys that a query sees, including itself.
        frequencies: [R/2] rotary frequencies, or None.
        state_size: N of the SSM branch, which has `heads` heads of `head_size` channels and one group.
        inner: of the gated MLP.
        epsilon: of the norms.
    """

    transformers_names: ClassVar[dict[str, str]] = {
        "self_attn": "attention",
        "post_attention_layernorm": "pre_ff_layernorm",
        "mlp": "feed_forward",
    }

    def __init__(
        self,
        width: int,
        *,
        heads: int,
        key_heads: int,
        head_size: int,
        window: int,
        frequencies: Tensor | None,
        state_size: int,
        inner: int,
        epsilon: float = 1e-5,
    ) -> None:
        attention = Attention(
            width, heads=heads, key_heads=key_heads, head_size=head_size, window=window, frequencies=frequencies
        )
        history = Mamba2(
            width,
            heads=heads,
            head_size=head_size,
            groups=1,
            state_size=state_size,
            taps=4,
            convolution_bias=True,
            bias=False,
            step_limits=(0.0, float("inf")),
            norm=GatedRMSNorm(heads * head_size, epsilon, "gate_before_norm"),
        )
        super().__init__(width, attention, history, GatedMLP(width, inner), epsilon=epsilon)
