"""What published figures are by our own accounting, and which of a document's figures cannot all be true.

A kind of accounting is a function of a document and one of its tables, named in `ACCOUNTS`; a table's `accounting`
names the kinds that it goes through.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from hybrid_ops.errors import InputError
from hybrid_ops.report.published.accounting.account import Account
from hybrid_ops.report.published.accounting.attention import attention
from hybrid_ops.report.published.accounting.cache import cache_bytes, cache_memory, concurrency
from hybrid_ops.report.published.accounting.generation import decode_steps, end_to_end, example, generation
from hybrid_ops.report.published.accounting.quantised import llama_bench
from hybrid_ops.report.published.accounting.rollout import rollout
from hybrid_ops.report.published.accounting.serving import closed_loop, serving
from hybrid_ops.report.published.accounting.training import training
from hybrid_ops.report.published.document import PublishedDocument, PublishedTable

ACCOUNTS: Mapping[str, Callable[[PublishedDocument, PublishedTable], Account]] = {
    "end-to-end": end_to_end,
    "generation": generation,
    "decode-steps": decode_steps,
    "cache-bytes": cache_bytes,
    "example": example,
    "rollout": rollout,
    "cache-memory": cache_memory,
    "capacity": concurrency,
    "closed-loop": closed_loop,
    "llama-bench": llama_bench,
    "attention": attention,
    "serving": serving,
    "training": training,
}


def accounts(name: str, document: PublishedDocument) -> Iterator[tuple[PublishedTable, Account]]:
    """What is recomputed of each table, with the table. Raises InputError for a kind that is not known."""
    for table in document.tables:
        for kind in table.accounting:
            if kind not in ACCOUNTS:
                known = ", ".join(ACCOUNTS)
                raise InputError(f"{name}: {table.name}: accounting: {kind!r} is not known; known: {known}")
            yield table, ACCOUNTS[kind](document, table)
