"""`hybrid-perf cost`: what a model is made of, what a batch costs it, and what a device could do at best."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import Any

from hybrid_ops.errors import InputError
from hybrid_ops.models.cost import Cost, GenerationCost, generation_cost
from hybrid_ops.models.devices import DevicePeaks, find_device, measure_cpu
from hybrid_ops.models.families import load_model
from hybrid_ops.models.roofline import roofline_bound, utilisation
from hybrid_ops.models.sizes import format_quantity, format_table, parse_count
from hybrid_ops.models.stack import BYTES_OF_DTYPE, ModelStack


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "cost",
        help="parameters, FLOPs, bytes moved and roofline of a model",
        description="What a model is made of, what a batch costs it, and what a device could do at best.",
    )
    parser.add_argument("model", metavar="MODEL_OR_CONFIG", help="a model of the zoo, a config.json or its folder")
    parser.add_argument("--batch", type=parse_count, default=1, metavar="N", help="sequences at once (default 1)")
    parser.add_argument("--prompt", type=parse_count, default=1024, metavar="N", help="prompt tokens (default 1024)")
    parser.add_argument("--generation", type=parse_count, default=128, metavar="N", help="new tokens (default 128)")
    parser.add_argument(
        "--state-dtype",
        choices=sorted(BYTES_OF_DTYPE),
        metavar="DTYPE",
        help="of recurrent states (default: what the configuration asks for, else the model's)",
    )
    parser.add_argument("--device", metavar="NAME", help="compare with the peaks of a device; `cpu` is measured here")
    parser.add_argument("--devices", type=parse_count, default=1, metavar="N", help="equal devices (default 1)")
    parser.add_argument("--seconds", type=float, metavar="S", help="the time that the batch took, for MFU and MBU")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the cost. Raises InputError for a bad configuration, device or time."""
    model = load_model(args.model)
    cost = generation_cost(model, args.batch, args.prompt, args.generation, state_dtype=args.state_dtype)
    if args.seconds is not None and (args.device is None or not 0 < args.seconds < float("inf")):
        raise InputError("--seconds: needs --device and a time that is positive and finite")
    device = None
    if args.device is not None:
        device = measure_cpu(model.dtype) if args.device == "cpu" else find_device(args.device)
    report = _report(model, cost, device, args)
    print(json.dumps(report, indent=2) if args.json else _describe(report))
    return 0


def _report(
    model: ModelStack, cost: GenerationCost, device: DevicePeaks | None, args: argparse.Namespace
) -> dict[str, Any]:
    kinds: dict[str, dict[str, int]] = {}
    for layer in model.layers:
        kind = kinds.setdefault(layer.kind, {"layers": 0, "parameters": 0})
        kind["layers"] += 1
        kind["parameters"] += layer.parameters
    report: dict[str, Any] = {
        "model_type": model.model_type,
        "dtype": model.dtype,
        "parameters": model.parameters,
        "active_parameters": model.active_parameters,
        "layers": kinds,
        "kv_bytes_per_token": model.kv_bytes_per_token(),
        "window_bytes_per_sequence": model.window_bytes(),
        "state_bytes_per_sequence": model.state_bytes(args.state_dtype),
        "workload": {"batch": args.batch, "prompt": args.prompt, "generation": args.generation},
        "prefill": _phase(cost.prefill),
        "decode": _phase(cost.decode),
    }
    if device is None:
        return report
    report["device"] = {
        "name": device.name,
        "devices": args.devices,
        "peak_flops": device.peak_flops(model.dtype),
        "peak_bandwidth": device.bandwidth,
        "source": device.source,
    }
    for name, phase in (("prefill", cost.prefill), ("decode", cost.decode)):
        report[name]["bound"] = asdict(roofline_bound(phase, device, devices=args.devices, dtype=model.dtype))
    if args.seconds is not None:
        used = utilisation(cost, args.seconds, device, devices=args.devices, dtype=model.dtype)
        report["utilisation"] = used.as_dict()
    return report


def _phase(cost: Cost) -> dict[str, Any]:
    return {
        "tokens": cost.tokens,
        "steps": cost.steps,
        "flops": {**asdict(cost.flops), "total": cost.flops.total},
        "bytes": {**asdict(cost.bytes), "total": cost.bytes.total},
        "arithmetic_intensity": cost.arithmetic_intensity,
    }


def _describe(report: dict[str, Any]) -> str:
    lines = [
        f"- Parameters: {report['parameters']} ({report['active_parameters']} a token)",
        f"- KV cache: {report['kv_bytes_per_token']} bytes a token",
        f"- Sliding windows: {report['window_bytes_per_sequence']} bytes a sequence",
        f"- State: {report['state_bytes_per_sequence']} bytes a sequence",
        "",
        format_table(
            [
                ["Layers", "Number", "Parameters"],
                *([name, str(kind["layers"]), str(kind["parameters"])] for name, kind in report["layers"].items()),
            ]
        ),
        "",
    ]
    phases = [report["prefill"], report["decode"]]
    rows = [["Quantity", "Prefill", "Decode"]]
    rows += [[name.capitalize(), *(str(phase[name]) for phase in phases)] for name in ("tokens", "steps")]
    for group, unit in (("flops", "FLOP"), ("bytes", "B")):
        for name in phases[0][group]:
            label = f"{'FLOPs' if group == 'flops' else 'Bytes'}, {name.replace('_', ' ')}"
            rows.append([label, *(format_quantity(phase[group][name], unit) for phase in phases)])
    rows.append(["FLOPs a byte", *(f"{phase['arithmetic_intensity']:.2f}" for phase in phases)])
    if device := report.get("device"):
        rows.append(["Roofline", *(f"{phase['bound']['seconds']:.6g} s" for phase in phases)])
        rows.append(["Bound by", *(phase["bound"]["by"] for phase in phases)])
        rates = f"{format_quantity(device['peak_flops'], 'FLOP/s')}, {format_quantity(device['peak_bandwidth'], 'B/s')}"
        lines.append(f"- Device: {device['devices']}x {device['name']}, {rates} each ({device['source']})")
    if used := report.get("utilisation"):
        lines.append(
            f"- MFU {100 * used['mfu']:.2f} %, MBU {100 * used['mbu']:.2f} %, "
            f"{100 * used['roofline_share']:.2f} % of the roofline, which is bound by {used['bound_by']}"
        )
    return "\n".join([*lines, *([""] if device else []), format_table(rows)])
