"""Accounting of key and value caches: bytes from shapes, blocks and concurrency from the planner."""

from __future__ import annotations

from hybrid_ops.models.capacity import CachePlan, plan_cache
from hybrid_ops.models.capacity import cache_memory as device_cache
from hybrid_ops.models.cost import attended_keys
from hybrid_ops.models.devices import find_device
from hybrid_ops.models.families import load_model
from hybrid_ops.models.stack import BYTES_OF_DTYPE
from hybrid_ops.report.published.accounting.account import Account
from hybrid_ops.report.published.accounting.generation import lengths
from hybrid_ops.report.published.document import Figure, PublishedDocument, PublishedTable

STATE_DTYPE = "bfloat16"
"""The data type of states that gives the published blocks; the document does not state it."""


def cache_bytes(document: PublishedDocument, table: PublishedTable) -> Account:
    """Cache of a sequence from the model's shape; what the notes say of that shape; and what windows would save."""
    account = Account("2 × heads × head size × bytes × (prompt + generated tokens), summed over the layers, all kept")
    for figure in document.figures(table):
        if figure.facts.metric != "kv_cache_bytes":
            continue
        model = load_model(figure.facts.model or "")
        tokens = sum(lengths(document, figure))
        width = BYTES_OF_DTYPE[model.dtype]
        account.compare(figure, sum(model.kv_numbers.values()) * width * tokens / 1e6)
        windowed = sum(count * attended_keys(tokens, window) for window, count in model.kv_numbers.items()) * width
        if windowed / 1e6 < 0.98 * figure.value:
            account.add(figure, "with windows kept alone", f"{windowed / 1e6:.{figure.decimals}f} MB")
        _refuse_shape(account, document, figure, tokens, width)
    return account


def _refuse_shape(account: Account, document: PublishedDocument, figure: Figure, tokens: int, width: int) -> None:
    """Say where the heads and layers that the notes state do not give the cache that the table states."""
    stated = document.stated.get(figure.facts.model or "")
    if stated is None:
        return
    told = 2 * stated["layers"] * stated["kv_heads"] * stated["head_dim"] * width
    found = figure.value * 1e6 / tokens
    if abs(told / found - 1) > 0.05 and not any(str(figure.facts.model) in text for text in account.contradictions):
        account.refuse(
            f"{figure.facts.model}: the notes state {stated['layers']} layers, {stated['kv_heads']} KV heads of "
            f"{stated['head_dim']}: 2 × {stated['layers']} × {stated['kv_heads']} × {stated['head_dim']} × {width} B = "
            f"{told} B a token. The table's {figure.text} MB over {tokens} tokens ({figure.row[0]}) are {found:.0f} B, "
            f"and the model's own shape gives {load_model(figure.facts.model or '').kv_bytes_per_token()} B. The notes "
            f"and the table cannot both be true."
        )


def cache_memory(document: PublishedDocument, table: PublishedTable) -> Account:
    """Blocks from the cache's memory, and whether that memory fits the device."""
    account = Account(f"vLLM's page rules (docs/capacity.md), states in {STATE_DTYPE}; GB are decimal")
    found = {figure.facts.metric: figure for figure in document.figures(table)}
    memory, blocks = found["kv_cache_memory_bytes"], found["kv_cache_blocks"]
    plan = _plan(memory)
    account.compare(blocks, plan.num_blocks)
    account.compare(found["kv_cache_groups"], len(plan.groups))
    for name in ("h100-sxm", "h200"):
        model, size = load_model(memory.facts.model or ""), round(find_device(name).memory or 0)
        most = device_cache(model, size, tensor_parallel=memory.facts.devices or 1)
        account.add(memory, f"0.9 of an {name} less its weights", f"{most / 1e9:.2f} GB")
    return account


def concurrency(document: PublishedDocument, table: PublishedTable) -> Account:
    """Sequences that fit at each length, from the cache's memory and the model's shape."""
    account = Account("blocks over the blocks of one sequence")
    memory = document.find(metric="kv_cache_memory_bytes", model=table.facts.model)
    assert memory is not None
    plan = _plan(memory)
    for figure in document.figures(table):
        if figure.facts.metric != "sequence_tokens":
            account.compare(figure, plan.max_concurrency(int(figure.row[0])), "max_concurrency")
    return account


def _plan(memory: Figure) -> CachePlan:
    return plan_cache(
        load_model(memory.facts.model or ""),
        round(memory.numbers[0] * 10**9),
        tensor_parallel=memory.facts.devices or 1,
        state_dtype=STATE_DTYPE,
    )
