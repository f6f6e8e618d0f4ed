"""`hybrid-perf data`: files of prompts and conversations for serving loads."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from statistics import quantiles

from hybrid_ops.errors import InputError
from hybrid_ops.models.sizes import parse_count, parse_lengths
from hybrid_ops.workloads.conversations import load_conversations, make_conversations, write_conversations
from hybrid_ops.workloads.prompts import Prompt, PromptMaker, load_tokenizer, write_prompts


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "data",
        help="write files of prompts and conversations for serving loads",
        description="Write files of requests by length and count, the same for the same seed.",
    )
    patterns = parser.add_subparsers(required=True, metavar="PATTERN")
    drawn = patterns.add_parser("random", help="drawn prompts of given lengths")
    shared = patterns.add_parser("shared-prefix", help="drawn prompts that begin alike, for prefix caching")
    for pattern in (drawn, shared):
        _add_common(pattern, tokenizer_required=True)
        pattern.add_argument(
            "--input-lengths",
            type=parse_lengths,
            default=[512, 1024, 2048, 4096],
            metavar="N,N",
            help="tokens of the prompts (default 512,1024,2048,4096)",
        )
        pattern.add_argument(
            "--num-prompts", type=parse_count, default=100, metavar="N", help="prompts of each length (default 100)"
        )
        pattern.add_argument(
            "--output-len", type=parse_count, default=128, metavar="N", help="tokens to generate (default 128)"
        )
        pattern.add_argument(
            "--range-ratio",
            type=_ratio,
            default=0.0,
            metavar="SHARE",
            help="spread of the lengths: within 1 ± SHARE times the given ones (default 0)",
        )
        pattern.set_defaults(run=run)
    drawn.set_defaults(prefix_len=None)
    shared.add_argument(
        "--prefix-len", type=parse_count, metavar="N", help="tokens of the prefix (default: half of each length)"
    )
    shared.set_defaults(half_prefix=True)
    conversations = patterns.add_parser("sharegpt", help="conversations in the ShareGPT format, made up or from a file")
    _add_common(conversations, tokenizer_required=False)
    conversations.add_argument(
        "--from", dest="source", type=Path, metavar="FILE", help="take them from this file; what is damaged is dropped"
    )
    conversations.add_argument(
        "--num-prompts",
        type=parse_count,
        metavar="N",
        help="conversations to write (default: 100 made up, or all of the file)",
    )
    conversations.set_defaults(run=run_conversations)


def _add_common(parser: argparse.ArgumentParser, tokenizer_required: bool) -> None:
    parser.add_argument(
        "--tokenizer",
        required=tokenizer_required,
        metavar="NAME",
        help="a folder or hub name with a tokenizer, or `words` for the suite's own (one token a word)",
    )
    parser.add_argument("--output-file", type=Path, required=True, metavar="FILE", help="the file to write")
    parser.add_argument("--seed", type=int, default=42, metavar="N", help="the same seed gives the same file (42)")


def run(args: argparse.Namespace) -> int:
    """Write prompts of each length. Raises InputError."""
    maker = PromptMaker(load_tokenizer(args.tokenizer), args.seed)
    prompts: list[Prompt] = []
    for length in args.input_lengths:
        prefix = args.prefix_len
        if prefix is None:
            prefix = length // 2 if getattr(args, "half_prefix", False) else 0
        prompts += maker.make(length, args.num_prompts, args.output_len, prefix, args.range_ratio)
    write_prompts(args.output_file, prompts)
    print(f"{args.output_file}: {len(prompts)} prompts; {_spread('prompt tokens', [p.prompt_tokens for p in prompts])}")
    return 0


def run_conversations(args: argparse.Namespace) -> int:
    """Write conversations. Raises InputError."""
    if args.source is None:
        conversations = make_conversations(args.num_prompts or 100, args.seed)
    else:
        loaded = load_conversations(args.source)
        print(f"{args.source}: {loaded.describe()}")
        conversations = loaded.conversations[: args.num_prompts]
    try:
        write_conversations(args.output_file, conversations)
    except OSError as error:
        raise InputError(f"{args.output_file}: cannot be written: {error.strerror or error}") from None
    print(f"{args.output_file}: {len(conversations)} conversations")
    if args.tokenizer is not None:
        tokenizer = load_tokenizer(args.tokenizer)
        for name, turn in (("question", 0), ("answer", 1)):
            lengths = [len(tokenizer(entry["conversations"][turn]["value"]).input_ids) for entry in conversations]
            print(_spread(f"{name} tokens", lengths))
    return 0


def _spread(name: str, lengths: Sequence[int]) -> str:
    if len(lengths) < 2:
        return f"{name} {lengths[0]}"
    tenths = quantiles(lengths, n=10, method="inclusive")
    return f"{name} {min(lengths)}…{max(lengths)}, median {tenths[4]:.0f}, p90 {tenths[8]:.0f}"


def _ratio(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"not a number: {text!r}") from None
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"a share from 0 to below 1, not {text}")
    return value
