"""Accounting of llama-bench: bits a weight, and what prompt and generation rates ask of the device."""

from __future__ import annotations

import re

from hybrid_ops.report.published.accounting.account import Account, device_of, percent
from hybrid_ops.report.published.document import PublishedDocument, PublishedTable

GIB = 2**30
BLOCK_BITS = {"Q8_0": 8.5, "Q4_0": 4.5, "Q4_K": 4.5, "IQ2_XXS": 2.0625}
"""Bits a weight of a block of each quantisation with its scales, from llama.cpp's `ggml-common.h`."""


def llama_bench(document: PublishedDocument, table: PublishedTable) -> Account:
    """Bits a weight from size and parameters; FLOP/s of a prompt and bytes/s of a generation over the peaks."""
    account = Account(
        "size × 8 / parameters; MFU: 2 × parameters × tokens a second over the peak; MBU: size × tokens a second over "
        "the bandwidth, as if each token used every weight"
    )
    for row in table.rows:
        figures = {figure.facts.metric: figure for figure in document.figures(table) if figure.row == tuple(row)}
        size, count, rate = figures["model_bytes"], figures["parameters"], figures["throughput"]
        device, test = device_of(rate), row[6]
        weights, parameters = size.value * GIB, count.value * 1e9
        if test.startswith("pp"):
            share, quantity = 2 * parameters * rate.value / device.peak_flops("float16"), "MFU"
            account.add(size, "bits a weight", f"{8 * weights / parameters:.2f}")
            _refuse_size(account, row[0], size.text, count.text, 8 * weights / parameters)
            _refuse_memory(account, row, weights, device.memory or 0)
        else:
            share, quantity = weights * rate.value / device.bandwidth, "MBU"
        account.add(rate, f"{quantity} of {test}", percent(share))
        spread = float(rate.numbers[1]) / rate.value
        if spread > 0.05:
            account.add(rate, f"deviation of {test}", percent(spread))
        if share > 1:
            account.refuse(
                f"{row[0]}, {test}: all of its weights for each token would be {percent(share)} of the device's peak. "
                f"So a token uses a part of them: a mixture of experts, whose size and parameters do not say its work."
            )
    return account


def _refuse_size(account: Account, name: str, size: str, count: str, bits: float) -> None:
    found = re.search("|".join(BLOCK_BITS), name)
    if found and bits < 0.95 * BLOCK_BITS[found[0]]:
        account.refuse(
            f"{name}: {size} over {count} parameters are {bits:.2f} bits a weight, and {found[0]} takes "
            f"{BLOCK_BITS[found[0]]}. Name, size and parameters cannot all be true: most weights take fewer bits."
        )


def _refuse_memory(account: Account, row: list[str], weights: float, memory: float) -> None:
    if weights > memory:
        account.refuse(
            f"{row[0]}: its {row[1]} are {weights / 1e9:.1f} GB, more than the device's {memory / 1e9:.0f} GB. A "
            f"single card cannot hold it: of its layers {row[4]} are on the device (ngl), the others on the host."
        )
