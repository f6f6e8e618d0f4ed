"""Accounting of attention kernels: FLOP/s from shapes, masks and times."""

from __future__ import annotations

from hybrid_ops.models.cost import attended_pairs
from hybrid_ops.report.published.accounting.account import Account, device_of, percent
from hybrid_ops.report.published.document import PublishedDocument, PublishedTable

BACKWARD = 2.5
"""FLOPs of the backward pass over those of the forward pass: five products of matrices for two."""
CAUSAL = 0.5
"""The share of pairs that the tables count for the causal kernel, the diagonal's half aside."""


def attention(document: PublishedDocument, table: PublishedTable) -> Account:
    """TFLOP/s from time: the causal kernel counts half of all pairs, the others those in blocks that are not masked."""
    account = Account(
        "4 × batch × heads × head size × tokens² × density / time, backward 2.5 times as many FLOPs; density: 0.5 for "
        "the causal kernel, 1 − sparsity of the blocks for the others, 1 without a mask"
    )
    shape = document.assumed["attention"]
    mask = {figure.facts.metric: figure for figure in document.figures(document.table(f"mask of {table.title}"))}
    tokens = int(mask["shape"].numbers[-1]) if mask else shape["tokens"]
    density = 1 - mask["sparsity"].value / 100 if mask else 1.0
    whole = 4 * shape["batch"] * shape["heads"] * shape["head_dim"] * tokens**2
    for row in table.rows:
        figures = {figure.facts.metric: figure for figure in document.figures(table) if figure.row == tuple(row)}
        counted = whole * (CAUSAL if row[0].startswith("causal") else density)
        for name, factor in (("forward", 1.0), ("backward", BACKWARD)):
            seconds = figures[f"{name}_ms"].value / 1e3
            account.compare(figures[f"{name}_flops"], factor * counted / seconds / 1e12)
        rate = figures["forward_flops"]
        account.add(rate, "MFU as counted", percent(rate.value * 1e12 / device_of(rate).peak_flops("bfloat16")))
    window = table.title.rpartition("Sliding Window ")[2]
    if mask and window.isdecimal():
        pairs = attended_pairs(tokens, int(window)) / tokens**2
        account.refuse(
            f"{table.title}: a window of {window} over {tokens} tokens lets {percent(pairs)} of the pairs through; "
            f"blocks of 128 that are not wholly masked hold {percent(density)}. The rates of the masked kernels count "
            f"the latter: ×{density / pairs:.3f} of the model's work."
        )
    return account
