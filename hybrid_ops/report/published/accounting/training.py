"""Accounting of training: what the published memory and hours leave room for."""

from __future__ import annotations

import re

from hybrid_ops.models.families import load_model
from hybrid_ops.models.stack import ModelStack
from hybrid_ops.models.training import training_bytes, training_flops
from hybrid_ops.report.published.accounting.account import Account, device_of
from hybrid_ops.report.published.document import Figure, PublishedDocument, PublishedTable

LENGTHS = (512, 1024, 2048)
"""Tokens a sequence, which the document does not state."""
PRECISIONS = {"bfloat16-mixed": "float32 weights, bfloat16 arithmetic", "bfloat16": "all in bfloat16"}
HOURS = re.compile(r"(\d+):(\d\d)")


def training(document: PublishedDocument, table: PublishedTable) -> Account:
    """The least memory of a step with AdamW at several lengths, the longest that fits, and most tokens in the time.

    Neither the length of the sequences nor the precision nor the data set is published.
    """
    account = Account(
        "weights and AdamW: parameters × 12 bytes with float32 weights, × 6 in bfloat16; activations: the least that "
        "they can be (docs/training.md), whose place gradients take; most tokens: time × the device's peak in bfloat16 "
        "over the FLOPs of forward and backward passes a token"
    )
    found = {figure.facts.metric: figure for figure in document.figures(table)}
    memory, duration = found["training_peak_bytes"], found["duration"]
    batch, model = int(found["batch_size"].value), load_model(memory.facts.model or "")
    for precision, words in PRECISIONS.items():
        account.add(memory, f"weights and optimizer, {words}", _gigabytes(_parameters_part(model, precision)))
        for tokens in LENGTHS:
            least = training_bytes(model, batch, tokens, precision).total
            account.add(memory, f"least at {tokens} tokens, {words}", _gigabytes(least))
        for checkpointing, how in ((False, ""), (True, ", with checkpointing")):
            longest = [_longest(model, batch, float(limit) * 1e9, precision, checkpointing) for limit in memory.numbers]
            account.add(memory, f"most tokens a sequence, {words}{how}", " to ".join(map(str, longest)))
    for tokens in LENGTHS:
        account.add(duration, f"most tokens in the time, sequences of {tokens}", _most(model, batch, tokens, duration))
    return account


def _parameters_part(model: ModelStack, precision: str) -> float:
    """Bytes that do not depend on the batch."""
    least = training_bytes(model, 1, 1, precision)
    return least.weights + least.optimizer


def _longest(model: ModelStack, batch: int, limit: float, precision: str, checkpointing: bool) -> int:
    """The longest sequence of which a batch fits into `limit` bytes by our accounting."""
    a_token = training_bytes(model, batch, 1, precision, checkpointing=checkpointing).activations
    return int((limit - _parameters_part(model, precision)) / a_token)


def _most(model: ModelStack, batch: int, tokens: int, duration: Figure) -> str:
    """Tokens at the device's peak, for both ends of the stated time."""
    a_token = training_flops(model, batch, tokens).total / (batch * tokens)
    peak = device_of(duration).peak_flops("bfloat16")
    hours = [int(whole) + int(minutes) / 60 for whole, minutes in HOURS.findall(duration.text)]
    return " to ".join(f"{3600 * hour * peak / a_token / 1e6:.0f}" for hour in hours) + " million"


def _gigabytes(number: float) -> str:
    return f"{number / 1e9:.1f} GB"
