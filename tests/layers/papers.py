"""The recurrences and attention written straight from the papers, one batch row, head and token at a time, in float64.

They share no code with `hybrid_ops.layers`, not even the head mapping or the normalisation: where an oracle and a layer
disagree, these decide.
"""

import functools
import math
from collections.abc import Callable

import torch
from torch import Tensor


def packed(recurrence: Callable[..., tuple[Tensor, Tensor]]) -> Callable[..., tuple[Tensor, Tensor]]:
    """A recurrence that also takes `cu_seqlens`: each sequence of the one row is computed alone, from its own state.

    What has the length of the first argument along dimension 1, and is no parameter, is a sequence.
    """

    @functools.wraps(recurrence)
    def each_alone(*sequences: Tensor, cu_seqlens: Tensor | None = None, **options) -> tuple[Tensor, Tensor]:
        if cu_seqlens is None:
            return recurrence(*sequences, **options)
        ends = cu_seqlens.tolist()
        outputs, states = [], []
        for n in range(len(ends) - 1):
            cut = slice(ends[n], ends[n + 1])
            own = {
                name: option[:, cut] if name in ("beta", "log_decay", "dt") and option is not None else option
                for name, option in options.items()
            }
            if own.get("initial_state") is not None:
                own["initial_state"] = own["initial_state"][n : n + 1]
            output, state = recurrence(*(sequence[:, cut] for sequence in sequences), **own)
            outputs.append(output)
            states.append(state)
        return torch.cat(outputs, dim=1), torch.cat(states)

    return each_alone


def start(initial_state: Tensor | None, *shape: int) -> Tensor:
    """The given state in float64, or zeros."""
    return torch.zeros(shape, dtype=torch.float64) if initial_state is None else initial_state.double()


@packed
def delta_rule(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    beta: Tensor,
    log_decay: Tensor | None = None,
    scale: float | None = None,
    normalise: bool = True,
    initial_state: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """S_t = S_{t−1} α_t(I − β_t k_t k_tᵀ) + β_t v_t k_tᵀ, o_t = S_t q_t/√K; S is [V, K] (arXiv 2412.06464, Eq. 10)."""
    query, key, value, beta = (x.double() for x in (query, key, value, beta))
    batch, tokens, heads, size = key.shape
    value_heads = value.shape[2]
    first = start(initial_state, batch, value_heads, size, value.shape[3])
    output, final = torch.zeros_like(value), torch.zeros_like(first)
    identity = torch.eye(size, dtype=torch.float64)
    for b in range(batch):
        for h in range(value_heads):
            key_head = h // (value_heads // heads)
            state = first[b, h].T
            for t in range(tokens):
                q, k = query[b, t, key_head], key[b, t, key_head]
                if normalise:
                    q, k = q / torch.sqrt(q @ q + 1e-6), k / torch.sqrt(k @ k + 1e-6)
                alpha = 1.0 if log_decay is None else math.exp(log_decay[b, t, h])
                strength, v = beta[b, t, h], value[b, t, h]
                state = state @ (alpha * (identity - strength * torch.outer(k, k))) + strength * torch.outer(v, k)
                output[b, t, h] = state @ q * (1 / math.sqrt(size) if scale is None else scale)
            final[b, h] = state.T
    return output, final


@packed
def ssd(
    x: Tensor,
    B: Tensor,
    C: Tensor,
    *,
    dt: Tensor,
    A: Tensor,
    D: Tensor | None = None,
    initial_state: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """h_t = e^{Δ_t A} h_{t−1} + Δ_t x_t B_tᵀ, y_t = h_t C_t + D x_t (arXiv 2405.21060, Eq. 1, discretised)."""
    x, B, C, dt, A = (tensor.double() for tensor in (x, B, C, dt, A))
    batch, tokens, heads, size = x.shape
    groups = B.shape[2]
    skip = torch.zeros(heads, dtype=torch.float64) if D is None else D.double()
    first = start(initial_state, batch, heads, size, B.shape[3])
    y, final = torch.zeros_like(x), torch.zeros_like(first)
    for b in range(batch):
        for h in range(heads):
            group = h // (heads // groups)
            state = first[b, h]
            for t in range(tokens):
                decay = 1.0 if dt[b, t, h] == 0 else math.exp(dt[b, t, h] * A[h])
                state = decay * state + dt[b, t, h] * torch.outer(x[b, t, h], B[b, t, group])
                y[b, t, h] = state @ C[b, t, group] + skip[h] * x[b, t, h]
            final[b, h] = state
    return y, final


@packed
def selective_scan(
    u: Tensor,
    B: Tensor,
    C: Tensor,
    *,
    dt: Tensor,
    A: Tensor,
    D: Tensor | None = None,
    initial_state: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """h_t = e^{Δ_t A} h_{t−1} + Δ_t B_t u_t, y_t = C_t h_t + D u_t, channel by channel (arXiv 2312.00752, Eq. 2)."""
    u, B, C, dt, A = (tensor.double() for tensor in (u, B, C, dt, A))
    batch, tokens, channels = u.shape
    skip = torch.zeros(channels, dtype=torch.float64) if D is None else D.double()
    first = start(initial_state, batch, channels, B.shape[2])
    y, final = torch.zeros_like(u), torch.zeros_like(first)
    for b in range(batch):
        for d in range(channels):
            state = first[b, d]
            for t in range(tokens):
                if dt[b, t, d] > 0:  # in no time nothing decays, even at an infinite rate
                    state = torch.exp(dt[b, t, d] * A[d]) * state + dt[b, t, d] * B[b, t] * u[b, t, d]
                y[b, t, d] = C[b, t] @ state + skip[d] * u[b, t, d]
            final[b, d] = state
    return y, final


@packed
def causal_convolution(
    x: Tensor,
    *,
    weight: Tensor,
    bias: Tensor | None = None,
    activation: str | None = None,
    initial_state: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """y_t = bias + Σ_j weight_j x_{t−W+1+j}, channel by channel; the state is the last W − 1 inputs."""
    x, weight = x.double(), weight.double()
    batch, tokens, channels = x.shape
    taps = weight.shape[1]
    first = start(initial_state, batch, channels, taps - 1)
    y, final = torch.zeros_like(x), torch.zeros_like(first)
    for b in range(batch):
        for d in range(channels):
            history = [*first[b, d].tolist(), *x[b, :, d].tolist()]
            for t in range(tokens):
                y[b, t, d] = sum(weight[d, j].item() * history[t + j] for j in range(taps))
                if bias is not None:
                    y[b, t, d] += bias[d].double()
                if activation == "silu":
                    y[b, t, d] /= 1 + torch.exp(-y[b, t, d])
            final[b, d] = torch.tensor(history[len(history) - (taps - 1) :], dtype=torch.float64)
    return y, final


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    sees: Tensor,
    *,
    bias: Tensor | None = None,
    cap: float | None = None,
    scale: float | None = None,
) -> Tensor:
    """softmax(q kᵀ/√K) v, one query at a time over the keys that it sees (arXiv 1706.03762, Eq. 1).

    Args:
        query, key, value: [B, T, H, K], [B, S, HK, K], [B, S, HK, V].
        sees: [B, H, T, S] booleans.
        bias: [B, H, T, S], added to the scores.
        cap: bends the scores by cap · tanh(score / cap).
        scale: of the scores; None means 1/√K.
    """
    query, key, value = (tensor.double() for tensor in (query, key, value))
    batch, queries, heads, size = query.shape
    group = heads // key.shape[2]
    output = torch.zeros(batch, queries, heads, value.shape[3], dtype=torch.float64)
    for b in range(batch):
        for h in range(heads):
            for t in range(queries):
                keys = sees[b, h, t].nonzero()[:, 0]
                if len(keys) == 0:
                    continue
                scores = key[b, keys, h // group] @ query[b, t, h] * (1 / math.sqrt(size) if scale is None else scale)
                if cap is not None:
                    scores = cap * torch.tanh(scores / cap)
                if bias is not None:
                    scores = scores + bias[b, h, t, keys].double()
                weights = torch.exp(scores - scores.max())
                output[b, t, h] = weights / weights.sum() @ value[b, keys, h // group]
    return output


def rms_norm(x: Tensor, weight: Tensor | None, *, epsilon: float, offset: float = 0.0) -> Tensor:
    """x / √(mean(x²) + ε) · (offset + weight), number by number (arXiv 1910.07467, Eq. 4)."""
    rows = []
    for row in x.double().reshape(-1, x.shape[-1]).tolist():
        root = math.sqrt(sum(number * number for number in row) / len(row) + epsilon)
        factors = [1.0] * len(row) if weight is None else [offset + w for w in weight.double().tolist()]
        rows.append([number / root * factor for number, factor in zip(row, factors, strict=True)])
    return torch.tensor(rows, dtype=torch.float64).reshape(x.shape)


def gated_rms_norm(
    x: Tensor, gate: Tensor, weight: Tensor | None, *, epsilon: float, order: str, group_size: int | None = None
) -> Tensor:
    """The norm within each group, of x or of x · silu(gate) (arXiv 2405.21060, §7.2; arXiv 2412.06464, Fig. 1)."""
    width = x.shape[-1]
    size = group_size or width
    opening = gate.double() / (1 + torch.exp(-gate.double()))
    inner = x.double() * opening if order == "gate_before_norm" else x.double()
    groups = [inner[..., at : at + size] for at in range(0, width, size)]
    normed = torch.cat([rms_norm(group, None, epsilon=epsilon) for group in groups], dim=-1)
    if weight is not None:
        normed = normed * weight.double()
    return normed if order == "gate_before_norm" else normed * opening


def slopes(heads: int) -> Tensor:
    """2^(−8/n), 2^(−16/n), … (arXiv 2108.12409, §3)."""
    return torch.tensor([2 ** (-8 * h / heads) for h in range(1, heads + 1)], dtype=torch.float64)


def l2_normalise(x: Tensor, *, epsilon: float = 1e-6) -> Tensor:
    rows = [row / math.sqrt(float(row @ row) + epsilon) for row in x.double().reshape(-1, x.shape[-1])]
    return torch.stack(rows).reshape(x.shape)


def rotary_frequencies(rotary_size: int, *, theta: float, scaling: dict | None = None) -> Tensor:
    """θ^(−2i/R), slowed as a long context asks (arXiv 2104.09864, §3.2.2; Llama 3's rule by wavelengths)."""
    frequencies = []
    for i in range(rotary_size // 2):
        frequency = theta ** (-2 * i / rotary_size)
        kind = (scaling or {}).get("rope_type", "default")
        if kind == "linear":
            frequency /= scaling["factor"]
        if kind == "llama3":
            wavelength = 2 * math.pi / frequency
            context, low, high = (
                scaling[name] for name in ("original_max_position_embeddings", "low_freq_factor", "high_freq_factor")
            )
            if wavelength > context / low:
                frequency /= scaling["factor"]
            elif wavelength > context / high:
                smooth = (context / wavelength - low) / (high - low)
                frequency = (1 - smooth) * frequency / scaling["factor"] + smooth * frequency
        frequencies.append(frequency)
    return torch.tensor(frequencies, dtype=torch.float64)


def apply_rotary(x: Tensor, positions: Tensor, frequencies: Tensor) -> Tensor:
    """The pairs (i, i + R/2) turned one by one, with Python's own sine and cosine (arXiv 2104.09864, Eq. 34)."""
    y = x.double().clone()
    batch, tokens = x.shape[:2]
    half = len(frequencies)
    for b in range(batch):
        for t in range(tokens):
            position = int(positions[t] if positions.dim() == 1 else positions[b, t])
            for i, frequency in enumerate(frequencies.double().tolist()):
                angle = position * frequency
                first, second = x[b, t, :, i].double(), x[b, t, :, i + half].double()
                y[b, t, :, i] = first * math.cos(angle) - second * math.sin(angle)
                y[b, t, :, i + half] = second * math.cos(angle) + first * math.sin(angle)
    return y
