"""Accounting of rollouts: tokens from time and rate, MFU and MBU, and how many devices those imply."""

from __future__ import annotations

from hybrid_ops.models.cost import generation_cost
from hybrid_ops.models.devices import find_device
from hybrid_ops.models.families import load_model
from hybrid_ops.models.roofline import utilisation
from hybrid_ops.report.published.accounting.account import Account
from hybrid_ops.report.published.document import Figure, PublishedDocument, PublishedTable

DEVICE = "h100-sxm"
"""The document says H100 or H200; the cache memory that it states fits an H100 only. Both have the same FLOP/s."""
UNLIKE = 0.25
"""Tables whose MFU per token differs from the work per token by more than this share do not count the same."""


def rollout(document: PublishedDocument, table: PublishedTable) -> Account:
    """Tokens a second from the time of a batch; MFU and MBU from tokens a second, at the longest prompts allowed."""
    account = Account(
        f"tokens a second: generations × length / time; MFU and MBU on all devices, as {DEVICE}, with prompts as long "
        "as they may be (docs/capacity.md)"
    )
    for row in table.rows:
        figures = {figure.facts.metric: figure for figure in document.figures(table) if figure.row == tuple(row)}
        rate, seconds = figures["output_throughput"], figures["duration"]
        facts = rate.facts
        tokens = int(facts.generation_tokens or 0)
        generations, engines, devices = facts.sequences or 1, facts.engines or 1, facts.devices or 1
        account.compare(rate, generations * tokens / seconds.value)
        cost = generation_cost(
            load_model(facts.model or ""), generations // engines, int(facts.prompt_tokens or 1), tokens
        )
        used = utilisation(cost, generations * tokens / rate.value, find_device(DEVICE), devices=devices // engines)
        for metric, share in (("mfu", used.mfu), ("mbu", used.mbu)):
            account.compare(figures[metric], 100 * share)
        implied = _implied_devices(figures["mfu"], used.mfu)
        told = f"at most {implied:.1f} of {devices}"
        account.add(figures["mfu"], f"devices with an {DEVICE}'s FLOP/s that it implies", told)
    _refuse_parts(document, table, account)
    return account


def _implied_devices(mfu: Figure, ours: float) -> float:
    """On how many devices the published MFU is ours: more devices, a smaller share."""
    return (mfu.facts.devices or 1) * ours / (mfu.value / 100)


def _longest(document: PublishedDocument, table: PublishedTable) -> dict[str | None, Figure]:
    """The figures of the longest generation: there the prompts, whose lengths are not stated, matter least."""
    return {figure.facts.metric: figure for figure in document.figures(table) if figure.row == tuple(table.rows[-1])}


def _flops_per_token(figure: Figure) -> float:
    """Our FLOPs of a batch, prompts as long as they may be included, over its generated tokens."""
    tokens = int(figure.facts.generation_tokens or 0)
    cost = generation_cost(load_model(figure.facts.model or ""), 1, int(figure.facts.prompt_tokens or 1), tokens)
    return cost.total.flops.total / tokens


def _refuse_parts(document: PublishedDocument, table: PublishedTable, account: Account) -> None:
    """Say where the stated parts of the devices, the rates and the number of parameters do not fit together."""
    figures = _longest(document, table)
    mfu, rate = figures["mfu"], figures["output_throughput"]
    model, devices, ours = load_model(mfu.facts.model or ""), mfu.facts.devices or 1, _flops_per_token(mfu)
    peak = devices * find_device(DEVICE).peak_flops(model.dtype)
    spent = mfu.value / 100 * peak / rate.value
    account.refuse(
        f"{mfu.facts.model}, {mfu.name} tokens: an MFU of {mfu.text} % of {devices} devices "
        f"({peak / 1e15:.2f} PFLOP/s) at {rate.text} tok/s is {spent / 1e9:.1f} GFLOP a generated token, what "
        f"{spent / 2e9:.1f} billion parameters cost. The model has {model.parameters / 1e9:.2f} billion, and costs "
        f"{ours / 1e9:.1f} GFLOP a token with its attention and the longest prompts. MFU, tokens a second, devices and "
        f"parameters cannot all be true."
    )
    other = _longest(document, next(one for one in document.tables if "rollout" in one.accounting))
    ratio = (mfu.value / rate.value) / (other["mfu"].value / other["output_throughput"].value)
    work = ours / _flops_per_token(other["mfu"])
    if abs(ratio / work - 1) > UNLIKE:
        account.refuse(
            f"{mfu.facts.model} beside {other['mfu'].facts.model}, {mfu.name} tokens: MFU over tokens a second is "
            f"{mfu.text} / {rate.text} and {other['mfu'].text} / {other['output_throughput'].text}, ×{ratio:.2f}, for "
            f"×{work:.2f} the work a token. On the same devices the two should be alike, so the two tables count "
            f"devices or FLOPs differently."
        )
