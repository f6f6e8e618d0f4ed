"""The recurrences and attention written straight from the papers, one batch row, head and token at a time, in float64.

They share no code with `hybrid_ops.layers`, not even the head mapping or the normalisation: where an oracle and a layer
disagree, these decide.
"""

import math

import torch
from torch import Tensor


def delta_rule(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    beta: Tensor,
    log_decay: Tensor,
    initial_state: Tensor,
) -> tuple[Tensor, Tensor]:
    """S_t = S_{t−1} α_t(I − β_t k_t k_tᵀ) + β_t v_t k_tᵀ, o_t = S_t q_t/√K; S is [V, K] (arXiv 2412.06464, Eq. 10)."""
    query, key, value, beta, log_decay = (x.double() for x in (query, key, value, beta, log_decay))
    batch, tokens, heads, size = key.shape
    value_heads = value.shape[2]
    output = torch.zeros_like(value)
    final = torch.zeros_like(initial_state, dtype=torch.float64)
    identity = torch.eye(size, dtype=torch.float64)
    for b in range(batch):
        for h in range(value_heads):
            key_head = h // (value_heads // heads)
            state = initial_state[b, h].double().T
            for t in range(tokens):
                q, k = query[b, t, key_head], key[b, t, key_head]
                q, k = q / torch.sqrt(q @ q + 1e-6), k / torch.sqrt(k @ k + 1e-6)
                alpha, strength, v = math.exp(log_decay[b, t, h]), beta[b, t, h], value[b, t, h]
                state = state @ (alpha * (identity - strength * torch.outer(k, k))) + strength * torch.outer(v, k)
                output[b, t, h] = state @ q / math.sqrt(size)
            final[b, h] = state.T
    return output, final


def ssd(
    x: Tensor, B: Tensor, C: Tensor, *, dt: Tensor, A: Tensor, D: Tensor, initial_state: Tensor
) -> tuple[Tensor, Tensor]:
    """h_t = e^{Δ_t A} h_{t−1} + Δ_t x_t B_tᵀ, y_t = h_t C_t + D x_t (arXiv 2405.21060, Eq. 1, discretised)."""
    x, B, C, dt, A, D = (tensor.double() for tensor in (x, B, C, dt, A, D))
    batch, tokens, heads, _ = x.shape
    groups = B.shape[2]
    y = torch.zeros_like(x)
    final = torch.zeros_like(initial_state, dtype=torch.float64)
    for b in range(batch):
        for h in range(heads):
            group = h // (heads // groups)
            state = initial_state[b, h].double()
            for t in range(tokens):
                decay = math.exp(dt[b, t, h] * A[h])
                state = decay * state + dt[b, t, h] * torch.outer(x[b, t, h], B[b, t, group])
                y[b, t, h] = state @ C[b, t, group] + D[h] * x[b, t, h]
            final[b, h] = state
    return y, final


def selective_scan(
    u: Tensor, B: Tensor, C: Tensor, *, dt: Tensor, A: Tensor, D: Tensor, initial_state: Tensor
) -> tuple[Tensor, Tensor]:
    """h_t = e^{Δ_t A} h_{t−1} + Δ_t B_t u_t, y_t = C_t h_t + D u_t, channel by channel (arXiv 2312.00752, Eq. 2)."""
    u, B, C, dt, A, D = (tensor.double() for tensor in (u, B, C, dt, A, D))
    batch, tokens, channels = u.shape
    y = torch.zeros_like(u)
    final = torch.zeros_like(initial_state, dtype=torch.float64)
    for b in range(batch):
        for d in range(channels):
            state = initial_state[b, d].double()
            for t in range(tokens):
                state = torch.exp(dt[b, t, d] * A[d]) * state + dt[b, t, d] * B[b, t] * u[b, t, d]
                y[b, t, d] = C[b, t] @ state + D[d] * u[b, t, d]
            final[b, d] = state
    return y, final


def causal_convolution(x: Tensor, *, weight: Tensor, bias: Tensor, initial_state: Tensor) -> tuple[Tensor, Tensor]:
    """y_t = bias + Σ_j weight_j x_{t−W+1+j}, channel by channel; the state is the last W − 1 inputs."""
    x, weight, bias = (tensor.double() for tensor in (x, weight, bias))
    batch, tokens, channels = x.shape
    taps = weight.shape[1]
    y = torch.zeros_like(x)
    final = torch.zeros_like(initial_state, dtype=torch.float64)
    for b in range(batch):
        for d in range(channels):
            history = [*initial_state[b, d].double().tolist(), *x[b, :, d].tolist()]
            for t in range(tokens):
                y[b, t, d] = bias[d] + sum(weight[d, j].item() * history[t + j] for j in range(taps))
            final[b, d] = torch.tensor(history[len(history) - (taps - 1) :], dtype=torch.float64)
    return y, final


def attention(
    query: Tensor, key: Tensor, value: Tensor, sees: Tensor, *, bias: Tensor | None = None, cap: float | None = None
) -> Tensor:
    """softmax(q kᵀ/√K) v, one query at a time over the keys that it sees (arXiv 1706.03762, Eq. 1).

    Args:
        query, key, value: [B, T, H, K], [B, S, HK, K], [B, S, HK, V].
        sees: [B, H, T, S] booleans.
        bias: [B, H, T, S], added to the scores.
        cap: bends the scores by cap · tanh(score / cap).
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
                scores = key[b, keys, h // group] @ query[b, t, h] / math.sqrt(size)
                if cap is not None:
                    scores = cap * torch.tanh(scores / cap)
                if bias is not None:
                    scores = scores + bias[b, h, t, keys].double()
                weights = torch.exp(scores - scores.max())
                output[b, t, h] = weights / weights.sum() @ value[b, keys, h // group]
    return output
