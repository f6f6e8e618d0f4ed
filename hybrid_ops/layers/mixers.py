"""Token mixers as modules: projections around the pure functions, with the parameter names of transformers.

Every mixer maps x [B, T, D] to y [B, T, D] and carries what it remembers explicitly:

    y, state = mixer(x, state, position)

`state` is None before the first token; `position` is the number of tokens that came before. With a state and a single
token the step form runs, otherwise the chunked form, which continues from the state: prefill, chunked prefill and
decoding are the same call.

Shapes: B batch, T tokens, D model width; the functions' files name the rest.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from hybrid_ops.layers.attention import attention, sliding_window_attention
from hybrid_ops.layers.convolution import causal_convolution
from hybrid_ops.layers.delta_rule import chunked_delta_rule, step_delta_rule
from hybrid_ops.layers.masks import causal, tanh_softcap
from hybrid_ops.layers.norms import gated_rms_norm, rms_norm
from hybrid_ops.layers.precision import widen
from hybrid_ops.layers.rotary import apply_rotary
from hybrid_ops.layers.selective_scan import chunked_selective_scan, step_selective_scan
from hybrid_ops.layers.ssd import chunked_ssd, step_ssd


class AttentionState(NamedTuple):
    """Keys and values seen so far; of a sliding window, only those that a later query can still see."""

    key: Tensor  # [B, S, HK, K], rotated
    value: Tensor  # [B, S, HK, V]


class RecurrentState(NamedTuple):
    """What a recurrent mixer remembers, of a size that does not depend on the number of tokens."""

    convolution: Tensor  # [B, channels, W − 1], the last inputs of the convolution
    memory: Tensor  # [B, HV, K, V], [B, H, P, N] or [B, D, N]: the state of the recurrence


State = AttentionState | RecurrentState | tuple["State", ...] | None


class RMSNorm(nn.Module):
    """`norms.rms_norm` with its weight; `offset=1` for Gemma 3 and Qwen3-Next."""

    def __init__(self, size: int, epsilon: float, offset: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((size,), 1.0 - offset))
        self.epsilon, self.offset = epsilon, offset

    def forward(self, x: Tensor) -> Tensor:
        return rms_norm(x, self.weight, epsilon=self.epsilon, offset=self.offset)


class GatedRMSNorm(nn.Module):
    """`norms.gated_rms_norm` with its weight."""

    def __init__(self, size: int, epsilon: float, order: str, group_size: int | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.epsilon, self.order, self.group_size = epsilon, order, group_size

    def forward(self, x: Tensor, gate: Tensor) -> Tensor:
        return gated_rms_norm(x, gate, self.weight, epsilon=self.epsilon, order=self.order, group_size=self.group_size)


class Convolution(nn.Module):
    """`convolution.causal_convolution` followed by silu; the weight is stored as torch's Conv1d stores it."""

    def __init__(self, channels: int, taps: int, bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(channels, 1, taps) * taps**-0.5)
        self.bias = nn.Parameter(torch.zeros(channels)) if bias else None

    def forward(self, x: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        return causal_convolution(x, self.weight.squeeze(1), self.bias, activation="silu", initial_state=state)


class Attention(nn.Module):
    """Softmax attention with the choices that hybrid models make.

    Args:
        width: D.
        heads, key_heads, head_size: H, HK and K (= V).
        frequencies: [R/2] rotary frequencies, or None for no position embedding.
        scale: multiplies the scores; None means 1/√K.
        window: keys that a query sees, including itself; None for all.
        softcap: bends the scores by tanh; None for not at all.
        norm: None, "head" (queries and keys normed a head: Gemma 3, Qwen3-Next) or "full" (over all heads at once:
            OLMo).
        norm_epsilon, norm_offset: of those norms.
        output_gate: the query projection also makes a gate, whose sigmoid multiplies the output (Qwen3-Next).
        key_multiplier: multiplies the keys (Falcon-H1).
        bias: whether the projections have one.
    """

    def __init__(
        self,
        width: int,
        *,
        heads: int,
        key_heads: int,
        head_size: int,
        frequencies: Tensor | None = None,
        scale: float | None = None,
        window: int | None = None,
        softcap: float | None = None,
        norm: str | None = None,
        norm_epsilon: float = 1e-6,
        norm_offset: float = 0.0,
        output_gate: bool = False,
        key_multiplier: float = 1.0,
        bias: bool = False,
    ) -> None:
        super().__init__()
        self.heads, self.key_heads, self.head_size = heads, key_heads, head_size
        self.scale, self.window, self.output_gate, self.key_multiplier = scale, window, output_gate, key_multiplier
        self.norm = norm
        self.score_mod = None if softcap is None else tanh_softcap(softcap)
        self.frequencies = frequencies  # no buffer: `.to(bfloat16)` would round it, and angles with it
        self.q_proj = nn.Linear(width, heads * head_size * (2 if output_gate else 1), bias=bias)
        self.k_proj = nn.Linear(width, key_heads * head_size, bias=bias)
        self.v_proj = nn.Linear(width, key_heads * head_size, bias=bias)
        self.o_proj = nn.Linear(heads * head_size, width, bias=bias)
        if norm is not None:
            per_head = norm == "head"
            self.q_norm = RMSNorm(head_size if per_head else heads * head_size, norm_epsilon, norm_offset)
            self.k_norm = RMSNorm(head_size if per_head else key_heads * head_size, norm_epsilon, norm_offset)

    def forward(self, x: Tensor, state: AttentionState | None, position: int) -> tuple[Tensor, AttentionState]:
        query, key = self.q_proj(x), self.k_proj(x) * self.key_multiplier
        value = self.v_proj(x).unflatten(-1, (self.key_heads, self.head_size))
        gate = None
        if self.output_gate:  # each head's projection is its query followed by its gate
            query, gate = (half.flatten(-2) for half in query.unflatten(-1, (self.heads, -1)).chunk(2, dim=-1))
        if self.norm == "full":
            query, key = self.q_norm(query), self.k_norm(key)
        query = query.unflatten(-1, (self.heads, self.head_size))
        key = key.unflatten(-1, (self.key_heads, self.head_size))
        if self.norm == "head":
            query, key = self.q_norm(query), self.k_norm(key)
        if self.frequencies is not None:
            positions = torch.arange(position, position + x.shape[1], device=x.device)
            frequencies = self.frequencies.to(x.device)
            query = apply_rotary(query, positions, frequencies)
            key = apply_rotary(key, positions, frequencies)
        if state is not None:
            key, value = torch.cat([state.key, key], dim=1), torch.cat([state.value, value], dim=1)

        if self.window is None:
            y = attention(query, key, value, mask_mod=causal, score_mod=self.score_mod, scale=self.scale)
        else:
            y = sliding_window_attention(
                query, key, value, window=self.window, score_mod=self.score_mod, scale=self.scale
            )
            seen = max(key.shape[1] - (self.window - 1), 0)  # a later query sees itself and window − 1 before it
            key, value = key[:, seen:], value[:, seen:]
        y = y.flatten(-2)
        if gate is not None:
            y = y * torch.sigmoid(gate)
        return self.o_proj(y), AttentionState(key, value)


class DeltaNetSizes(NamedTuple):
    """The sizes of a Gated DeltaNet mixer."""

    width: int  # D
    key_heads: int  # H
    value_heads: int  # HV, a multiple of H
    key_size: int  # K
    value_size: int  # V
    taps: int  # of the convolution

    @property
    def keys(self) -> int:
        return self.key_heads * self.key_size

    @property
    def values(self) -> int:
        return self.value_heads * self.value_size


class GatedDeltaNet(nn.Module):
    """Gated DeltaNet (arXiv 2412.06464, Fig. 1): convolved queries, keys and values, the delta rule, a gated norm.

    β = sigmoid(b), doubled where negative eigenvalues are allowed; log α = −exp(A_log) · softplus(a + dt_bias).
    The subclasses differ in how they project x to q, k, v, the gate z, b and a, and in the names of parameters.

    Args:
        sizes: of the mixer.
        double_beta: β in [0, 2] instead of [0, 1].
    """

    def __init__(self, sizes: DeltaNetSizes, *, double_beta: bool) -> None:
        super().__init__()
        self.sizes, self.double_beta = sizes, double_beta
        self.conv1d = Convolution(2 * sizes.keys + sizes.values, sizes.taps, bias=False)
        self.A_log = nn.Parameter(torch.empty(sizes.value_heads).uniform_(0.01, 16).log())
        self.dt_bias = nn.Parameter(torch.ones(sizes.value_heads))

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """x [B, T, D] → queries, keys and values joined [B, T, 2·H·K + HV·V], z [B, T, HV, V], b and a [B, T, HV]."""
        raise NotImplementedError

    def finish(self, y: Tensor, z: Tensor) -> Tensor:
        """The delta rule's output and the gate, both [B, T, HV, V] → [B, T, D]."""
        raise NotImplementedError

    def forward(self, x: Tensor, state: RecurrentState | None, position: int) -> tuple[Tensor, RecurrentState]:
        joined, z, b, a = self.project(x)
        joined, convolution = self.conv1d(joined, None if state is None else state.convolution)
        q, k, v = joined.split([self.sizes.keys, self.sizes.keys, self.sizes.values], dim=-1)
        q, k = (tensor.unflatten(-1, (self.sizes.key_heads, self.sizes.key_size)) for tensor in (q, k))
        v = v.unflatten(-1, (self.sizes.value_heads, self.sizes.value_size))
        beta = torch.sigmoid(b) * (2.0 if self.double_beta else 1.0)
        log_decay = -widen(self.A_log).exp() * functional.softplus(widen(a) + widen(self.dt_bias))
        if state is not None and x.shape[1] == 1:
            y, memory = step_delta_rule(
                q[:, 0], k[:, 0], v[:, 0], beta=beta[:, 0], log_decay=log_decay[:, 0], state=state.memory
            )
            y = y[:, None]
        else:
            y, memory = chunked_delta_rule(
                q, k, v, beta=beta, log_decay=log_decay, initial_state=None if state is None else state.memory
            )
        return self.finish(y, z), RecurrentState(convolution, memory)


class OlmoGatedDeltaNet(GatedDeltaNet):
    """OLMo-Hybrid's: a projection for each of q, k, v, z (`g_proj`), a and b; the norm's ε is fixed at 1e-5."""

    def __init__(self, sizes: DeltaNetSizes, *, double_beta: bool) -> None:
        super().__init__(sizes, double_beta=double_beta)
        self.q_proj = nn.Linear(sizes.width, sizes.keys, bias=False)
        self.k_proj = nn.Linear(sizes.width, sizes.keys, bias=False)
        self.v_proj = nn.Linear(sizes.width, sizes.values, bias=False)
        self.a_proj = nn.Linear(sizes.width, sizes.value_heads, bias=False)
        self.b_proj = nn.Linear(sizes.width, sizes.value_heads, bias=False)
        self.g_proj = nn.Linear(sizes.width, sizes.values, bias=False)
        self.o_norm = GatedRMSNorm(sizes.value_size, 1e-5, "norm_before_gate")
        self.o_proj = nn.Linear(sizes.values, sizes.width, bias=False)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        joined = torch.cat([self.q_proj(x), self.k_proj(x), self.v_proj(x)], dim=-1)
        z = self.g_proj(x).unflatten(-1, (self.sizes.value_heads, self.sizes.value_size))
        return joined, z, self.b_proj(x), self.a_proj(x)

    def finish(self, y: Tensor, z: Tensor) -> Tensor:
        return self.o_proj(self.o_norm(y, z).flatten(-2))


class QwenGatedDeltaNet(GatedDeltaNet):
    """Qwen3-Next's: q, k, v, z in one projection and b, a in another, both laid out by key head."""

    def __init__(self, sizes: DeltaNetSizes, *, epsilon: float) -> None:
        super().__init__(sizes, double_beta=False)
        self.in_proj_qkvz = nn.Linear(sizes.width, 2 * sizes.keys + 2 * sizes.values, bias=False)
        self.in_proj_ba = nn.Linear(sizes.width, 2 * sizes.value_heads, bias=False)
        self.norm = GatedRMSNorm(sizes.value_size, epsilon, "norm_before_gate")
        self.out_proj = nn.Linear(sizes.values, sizes.width, bias=False)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        group = self.sizes.value_heads // self.sizes.key_heads
        by_key_head = self.in_proj_qkvz(x).unflatten(-1, (self.sizes.key_heads, -1))
        q, k, v, z = by_key_head.split([self.sizes.key_size] * 2 + [group * self.sizes.value_size] * 2, dim=-1)
        b, a = self.in_proj_ba(x).unflatten(-1, (self.sizes.key_heads, -1)).split([group, group], dim=-1)
        joined = torch.cat([tensor.flatten(-2) for tensor in (q, k, v)], dim=-1)
        z = z.flatten(-2).unflatten(-1, (self.sizes.value_heads, self.sizes.value_size))
        return joined, z, b.flatten(-2), a.flatten(-2)

    def finish(self, y: Tensor, z: Tensor) -> Tensor:
        return self.out_proj(self.norm(y, z).flatten(-2))


class Qwen35GatedDeltaNet(GatedDeltaNet):
    """Qwen3.5's: q, k and v in one projection, and one each for z, b and a."""

    def __init__(self, sizes: DeltaNetSizes, *, epsilon: float) -> None:
        super().__init__(sizes, double_beta=False)
        self.in_proj_qkv = nn.Linear(sizes.width, 2 * sizes.keys + sizes.values, bias=False)
        self.in_proj_z = nn.Linear(sizes.width, sizes.values, bias=False)
        self.in_proj_b = nn.Linear(sizes.width, sizes.value_heads, bias=False)
        self.in_proj_a = nn.Linear(sizes.width, sizes.value_heads, bias=False)
        self.norm = GatedRMSNorm(sizes.value_size, epsilon, "norm_before_gate")
        self.out_proj = nn.Linear(sizes.values, sizes.width, bias=False)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        z = self.in_proj_z(x).unflatten(-1, (self.sizes.value_heads, self.sizes.value_size))
        return self.in_proj_qkv(x), z, self.in_proj_b(x), self.in_proj_a(x)

    def finish(self, y: Tensor, z: Tensor) -> Tensor:
        return self.out_proj(self.norm(y, z).flatten(-2))


class Mamba2(nn.Module):
    """Mamba-2's mixer (arXiv 2405.21060, Fig. 6): convolved x, B and C, the SSD, a gated norm.

    Args:
        width: D.
        heads, head_size, groups, state_size: H, P, G and N.
        taps, convolution_bias, bias: of the convolution and of the projections.
        step_limits: Δ is clamped to this range after its softplus.
        norm: the gated norm, or None for a bare gate y · silu(z) (Falcon-H1 by default).
        input_multiplier: multiplies x (Falcon-H1).
        multipliers: multiply the projected z, x, B, C and Δ (Falcon-H1).
        output_bias: of the output projection; None means as `bias`.
    """

    def __init__(
        self,
        width: int,
        *,
        heads: int,
        head_size: int,
        groups: int,
        state_size: int,
        taps: int,
        convolution_bias: bool,
        bias: bool,
        step_limits: tuple[float, float],
        norm: GatedRMSNorm | None,
        input_multiplier: float = 1.0,
        multipliers: Sequence[float] = (1.0, 1.0, 1.0, 1.0, 1.0),
        output_bias: bool | None = None,
    ) -> None:
        super().__init__()
        self.heads, self.head_size, self.groups, self.state_size = heads, head_size, groups, state_size
        self.step_limits, self.input_multiplier, self.multipliers = step_limits, input_multiplier, multipliers
        self.inner, self.grouped = heads * head_size, groups * state_size
        self.in_proj = nn.Linear(width, 2 * self.inner + 2 * self.grouped + heads, bias=bias)
        self.conv1d = Convolution(self.inner + 2 * self.grouped, taps, convolution_bias)
        self.dt_bias = nn.Parameter(torch.ones(heads))
        self.A_log = nn.Parameter(torch.arange(1, heads + 1).float().log())
        self.D = nn.Parameter(torch.ones(heads))
        self.norm = norm
        self.out_proj = nn.Linear(self.inner, width, bias=bias if output_bias is None else output_bias)

    def forward(self, x: Tensor, state: RecurrentState | None, position: int) -> tuple[Tensor, RecurrentState]:
        projected = self.in_proj(x * self.input_multiplier)
        parts = projected.split([self.inner, self.inner, self.grouped, self.grouped, self.heads], dim=-1)
        z, u, b, c, dt = (part * multiplier for part, multiplier in zip(parts, self.multipliers, strict=True))
        joined, convolution = self.conv1d(torch.cat([u, b, c], dim=-1), None if state is None else state.convolution)
        u, b, c = joined.split([self.inner, self.grouped, self.grouped], dim=-1)
        u = u.unflatten(-1, (self.heads, self.head_size))
        b, c = (tensor.unflatten(-1, (self.groups, self.state_size)) for tensor in (b, c))
        dt = functional.softplus(widen(dt) + widen(self.dt_bias)).clamp(*self.step_limits)
        A = -widen(self.A_log).exp()
        if state is not None and x.shape[1] == 1:
            y, memory = step_ssd(u[:, 0], b[:, 0], c[:, 0], dt=dt[:, 0], A=A, D=self.D, state=state.memory)
            y = y[:, None]
        else:
            y, memory = chunked_ssd(
                u, b, c, dt=dt, A=A, D=self.D, initial_state=None if state is None else state.memory
            )
        y = y.flatten(-2)
        y = y * functional.silu(z) if self.norm is None else self.norm(y, z)
        return self.out_proj(y), RecurrentState(convolution, memory)


class Mamba1(nn.Module):
    """Mamba's mixer (arXiv 2312.00752, §3.4 and Fig. 3): convolved u, the selective scan, a gate.

    Args:
        width, inner: D of the model and of the scan.
        state_size, step_rank: N and the rank of Δ's projection.
        taps, convolution_bias, bias: of the convolution and of the projections.
        norm_epsilon: Δ's low-rank input, B and C are normed without weights (Falcon-Mamba, arXiv 2410.05355, §2.1);
            None for Mamba, which does not.
    """

    def __init__(
        self,
        width: int,
        *,
        inner: int,
        state_size: int,
        step_rank: int,
        taps: int,
        convolution_bias: bool,
        bias: bool,
        norm_epsilon: float | None,
    ) -> None:
        super().__init__()
        self.inner, self.state_size, self.step_rank, self.norm_epsilon = inner, state_size, step_rank, norm_epsilon
        self.in_proj = nn.Linear(width, 2 * inner, bias=bias)
        self.conv1d = Convolution(inner, taps, convolution_bias)
        self.x_proj = nn.Linear(inner, step_rank + 2 * state_size, bias=False)
        self.dt_proj = nn.Linear(step_rank, inner)
        self.A_log = nn.Parameter(torch.arange(1, state_size + 1).float().log().repeat(inner, 1))
        self.D = nn.Parameter(torch.ones(inner))
        self.out_proj = nn.Linear(inner, width, bias=bias)

    def forward(self, x: Tensor, state: RecurrentState | None, position: int) -> tuple[Tensor, RecurrentState]:
        u, z = self.in_proj(x).chunk(2, dim=-1)
        u, convolution = self.conv1d(u, None if state is None else state.convolution)
        low, b, c = self.x_proj(u).split([self.step_rank, self.state_size, self.state_size], dim=-1)
        if self.norm_epsilon is not None:
            low, b, c = (rms_norm(tensor, None, epsilon=self.norm_epsilon) for tensor in (low, b, c))
        # The bias is added in float32, as for Mamba-2: the sum may be far larger than the bias.
        dt = functional.softplus(widen(functional.linear(low, self.dt_proj.weight)) + widen(self.dt_proj.bias))
        A = -widen(self.A_log).exp()
        if state is not None and x.shape[1] == 1:
            y, memory = step_selective_scan(u[:, 0], b[:, 0], c[:, 0], dt=dt[:, 0], A=A, D=self.D, state=state.memory)
            y = y[:, None]
        else:
            y, memory = chunked_selective_scan(
                u, b, c, dt=dt, A=A, D=self.D, initial_state=None if state is None else state.memory
            )
        return self.out_proj(y * functional.silu(z)), RecurrentState(convolution, memory)
