"""Accounting of loads on servers: rates from counts and times, and what the device did for them."""

from __future__ import annotations

from hybrid_ops.models.cost import generation_cost
from hybrid_ops.models.families import load_model
from hybrid_ops.models.roofline import generation_utilisation
from hybrid_ops.report.published.accounting.account import Account, device_of, percent
from hybrid_ops.report.published.document import PublishedDocument, PublishedTable


def serving(document: PublishedDocument, table: PublishedTable) -> Account:
    """The rates of a result block from its counts and its duration; requests in flight; MFU."""
    account = Account(
        "counts / duration; in flight: requests a second × (mean TTFT + (tokens a request − 1) × mean TPOT); MFU with "
        "every request of the mean lengths"
    )
    found = {figure.facts.metric: figure for figure in document.figures(table)}
    requests, seconds = found["completed"].value, found["duration"].value
    read, written = found["total_input_tokens"].value, found["total_output_tokens"].value
    account.compare(found["request_throughput"], requests / seconds)
    account.compare(found["output_throughput"], written / seconds)
    account.compare(found["total_token_throughput"], (read + written) / seconds)
    latency = (found["mean_ttft_ms"].value + (written / requests - 1) * found["mean_tpot_ms"].value) / 1e3
    rate = found["request_throughput"]
    account.add(rate, "requests in flight on average", f"{rate.value * latency:.0f}")
    model = load_model(rate.facts.model or "")
    flops = generation_cost(model, 1, round(read / requests), round(written / requests)).total.flops.total
    used = requests * flops / seconds / device_of(rate).peak_flops(model.dtype)
    account.add(found["total_token_throughput"], "MFU", percent(used))
    return account


def closed_loop(document: PublishedDocument, table: PublishedTable) -> Account:
    """Throughput of a closed loop of equal requests from its latencies, and MFU and MBU of its batches."""
    account = Account(
        "sequences × tokens / (TTFT + (tokens − 1) × ITL); MFU and MBU of a batch of that many sequences, on the "
        "largest variant of each device"
    )
    for figure in document.figures(table):
        facts = figure.facts
        prompt, tokens = int(facts.prompt_tokens or 1), int(facts.generation_tokens or 1)
        sequences = facts.sequences or 1
        first, between = (document.find(metric=name, device=facts.device) for name in ("mean_ttft_ms", "mean_itl_ms"))
        assert first is not None and between is not None
        request = (first.value + (tokens - 1) * between.value) / 1e3
        account.compare(figure, sequences * tokens / request)
        used = generation_utilisation(
            load_model(facts.model or ""),
            batch=sequences,
            prompt=prompt,
            generation=tokens,
            elapsed_seconds=sequences * tokens / figure.value,
            device=device_of(figure),
        )
        text = f"{percent(used.mfu)}, {percent(used.mbu)}, {percent(used.roofline_share)}"
        account.add(figure, "MFU, MBU, share of the roofline", text)
    for name, stated in document.stated.items():
        parameters = load_model(name).parameters
        account.refuse(
            f"{name}: {stated['parameters'] / 1e9:g} billion parameters are stated as the total; its configuration has "
            f"{parameters} ({parameters / stated['parameters'] - 1:+.1%}), and that is what MFU and MBU count."
        )
    return account
