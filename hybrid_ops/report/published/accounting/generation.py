"""Accounting of generations, one request at a time: throughput from its parts, MFU and MBU."""

from __future__ import annotations

from hybrid_ops.models.families import load_model
from hybrid_ops.models.roofline import generation_utilisation
from hybrid_ops.models.stack import BYTES_OF_DTYPE
from hybrid_ops.report.published.accounting.account import Account, device_of, percent
from hybrid_ops.report.published.document import Figure, PublishedDocument, PublishedTable


def lengths(document: PublishedDocument, figure: Figure) -> tuple[int, int]:
    """Prompt and generated tokens of a figure's workload, from the document's table of workloads. Raises KeyError."""
    found = [document.find(metric=metric, workload=figure.facts.workload) for metric in
             ("prompt_tokens", "generation_tokens")]  # fmt: skip
    if None in found:
        raise KeyError(f"no lengths of {figure.facts.workload}")
    prompt, generation = (int(one.value) for one in found if one is not None)
    return prompt, generation


def _beside(document: PublishedDocument, figure: Figure, metric: str) -> float | None:
    """Another metric of the same model and workload."""
    found = document.find(metric=metric, model=figure.facts.model, workload=figure.facts.workload)
    return None if found is None else found.value


def end_to_end(document: PublishedDocument, table: PublishedTable) -> Account:
    """Throughput from the time to the first token and the decode's throughput, where both are published."""
    account = Account("tokens / (TTFT + (tokens − 1) / decode throughput)")
    for figure in document.figures(table):
        first, decode = _beside(document, figure, "median_ttft_ms"), _beside(document, figure, "decode_throughput")
        if first is not None and decode is not None:
            _, tokens = lengths(document, figure)
            account.compare(figure, tokens / (first / 1e3 + (tokens - 1) / decode))
    return account


def decode_steps(document: PublishedDocument, table: PublishedTable) -> Account:
    """Decode throughput from the median step."""
    account = Account("1000 / median step")
    for figure in document.figures(table):
        step = _beside(document, figure, "median_step_ms")
        if step is not None:
            account.compare(figure, 1e3 / step)
    return account


def generation(document: PublishedDocument, table: PublishedTable) -> Account:
    """MFU, MBU and the share of the roofline behind a throughput."""
    account = Account("FLOPs and bytes of the model (docs/capacity.md) a second, over the device's peaks")
    for figure in document.figures(table):
        prompt, tokens = lengths(document, figure)
        sequences = figure.facts.sequences or 1
        used = generation_utilisation(
            load_model(figure.facts.model or ""),
            batch=sequences,
            prompt=prompt,
            generation=tokens,
            elapsed_seconds=sequences * tokens / figure.value,
            device=device_of(figure),
        )
        text = f"{percent(used.mfu)}, {percent(used.mbu)}, {percent(used.roofline_share)}"
        account.add(figure, "MFU, MBU, share of the roofline", text)
    return account


def example(document: PublishedDocument, table: PublishedTable) -> Account:
    """Requests in flight and the least bandwidth that throughput and latency together ask for."""
    account = Account(
        "requests in flight: tokens a second × latency / (prompt + output tokens); bandwidth: the weights once a token"
    )
    for figure in document.figures(table):
        if figure.facts.metric != "total_token_throughput":
            continue
        latency = _beside_row(document, table, figure, "mean_e2el_ms") / 1e3
        prompt, output = int(figure.facts.prompt_tokens or 0), int(figure.facts.generation_tokens or 0)
        in_flight = figure.value * latency / (prompt + output)
        account.add(figure, "requests in flight", f"{in_flight:.2f}")
        model = load_model(figure.facts.model or "")
        bandwidth = (output - 1) * model.weights_read(1) * BYTES_OF_DTYPE[model.dtype] / latency
        account.add(figure, "least memory bandwidth", f"{bandwidth / 1e12:.2f} TB/s")
        if in_flight < 1:
            account.refuse(
                f"{figure.row[0]}, {prompt} tokens: {figure.value:g} tok/s × {latency:g} s = "
                f"{figure.value * latency:.0f} tokens in flight, less than one request of {prompt} + {output} tokens. "
                f"A batch under way has one at least, so throughput of all tokens and latency cannot both be true."
            )
    return account


def _beside_row(document: PublishedDocument, table: PublishedTable, figure: Figure, metric: str) -> float:
    return next(one.value for one in document.figures(table) if one.row == figure.row and one.facts.metric == metric)
