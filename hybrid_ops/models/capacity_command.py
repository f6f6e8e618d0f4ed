"""`hybrid-perf capacity`: how many sequences of each length fit into a device's cache memory."""

from __future__ import annotations

import argparse
import json

from hybrid_ops.models.capacity import LATEST_ENGINE, PLATFORMS, CachePlan, cache_memory, plan_cache
from hybrid_ops.models.families import load_model
from hybrid_ops.models.sizes import format_table, parse_bytes, parse_count, parse_lengths


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "capacity",
        help="plan the cache of vLLM without weights or an engine",
        description="How vLLM divides cache memory among a model's layers, and how many sequences fit at each length.",
    )
    parser.add_argument("model", metavar="MODEL_OR_CONFIG", help="a model of the zoo, a config.json or its folder")
    parser.add_argument("--tp", type=parse_count, default=1, metavar="N", help="tensor-parallel devices (default 1)")
    memory = parser.add_mutually_exclusive_group(required=True)
    memory.add_argument(
        "--cache-memory", type=parse_bytes, metavar="SIZE", help="cache memory of each device: 62.5GB, 58GiB or bytes"
    )
    memory.add_argument(
        "--gpu-memory",
        type=parse_bytes,
        metavar="SIZE",
        help="memory of each device, from which the weights are subtracted; activations are not",
    )
    parser.add_argument(
        "--gpu-memory-utilization",
        type=_share,
        default=0.9,
        metavar="SHARE",
        help="share of --gpu-memory (default 0.9)",
    )
    parser.add_argument(
        "--lengths",
        type=parse_lengths,
        default=[1024, 4096, 8192, 16384, 32768],
        metavar="N,N",
        help="sequence lengths in tokens (default 1024,4096,8192,16384,32768)",
    )
    parser.add_argument(
        "--state-dtype", default="auto", metavar="DTYPE", help="of recurrent states (default: what the engine takes)"
    )
    parser.add_argument(
        "--prefix-caching",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="keep further states a sequence, as vLLM does for other sequences to find (default: no)",
    )
    parser.add_argument(
        "--engine-version", default=LATEST_ENGINE, metavar="X.Y", help=f"vLLM's page rules (default {LATEST_ENGINE})"
    )
    parser.add_argument("--platform", choices=sorted(PLATFORMS), default="cuda", help="default cuda")
    parser.add_argument(
        "--in-flight-tokens",
        type=parse_count,
        default=8192,
        metavar="N",
        help="tokens scheduled but not settled, which sliding windows keep room for (default 8192)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the plan. Raises InputError for a configuration or memory that no engine could start with."""
    model = load_model(args.model)
    cache_bytes = args.cache_memory
    if cache_bytes is None:
        cache_bytes = cache_memory(model, args.gpu_memory, args.gpu_memory_utilization, args.tp)
    plan = plan_cache(
        model,
        cache_bytes,
        tensor_parallel=args.tp,
        state_dtype=args.state_dtype,
        prefix_caching=args.prefix_caching,
        engine_version=args.engine_version,
        platform=args.platform,
        in_flight_tokens=args.in_flight_tokens,
    )
    print(json.dumps(plan.as_dict(args.lengths), indent=2) if args.json else _describe(plan, args.lengths))
    return 0


def _describe(plan: CachePlan, lengths: list[int]) -> str:
    kinds: dict[tuple[str, int], int] = {}
    for group in plan.groups:
        kinds[group.kind, group.layers] = kinds.get((group.kind, group.layers), 0) + 1
    groups = ", ".join(f"{count}x {kind} @ {layers} layers each" for (kind, layers), count in kinds.items())
    rows = [["Sequence Length", "Max Concurrency"]]
    rows += [[str(length), f"{plan.max_concurrency(length):.2f}x"] for length in lengths]
    return "\n".join(
        [
            f"- Available KV cache memory: {plan.cache_bytes / 1e9:.2f} GB",
            f"- KV cache blocks: {plan.num_blocks} of {plan.bytes_per_block} bytes, {plan.block_size} tokens a block",
            f"- KV cache groups: {len(plan.groups)} ({groups})",
            "",
            format_table(rows),
        ]
    )


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no share between 0 and 1")
    return share
