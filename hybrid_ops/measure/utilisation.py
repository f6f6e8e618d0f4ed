"""How well a generation used its device: MFU, MBU, arithmetic intensity and the share of the roofline reached."""

from __future__ import annotations

from functools import reduce
from statistics import mean

from hybrid_ops.engines.protocol import GenerationSample, LoadFacts
from hybrid_ops.engines.spec import EngineSpec
from hybrid_ops.errors import InputError
from hybrid_ops.measure.values import Value
from hybrid_ops.models.capacity import LATEST_ENGINE, engine_state_dtype
from hybrid_ops.models.cost import GenerationCost, decode_cost, prefill_cost
from hybrid_ops.models.devices import DevicePeaks
from hybrid_ops.models.roofline import utilisation
from hybrid_ops.models.stack import ModelStack
from hybrid_ops.workloads.batch import ClosedBatch


def accounted_model(spec: EngineSpec) -> ModelStack | None:
    """The model's layer stack; None where its configuration is of no architecture that can be accounted for."""
    try:
        return spec.layer_stack()
    except InputError:
        return None


def workload_cost(spec: EngineSpec, workload: ClosedBatch, steps: int, engine_version: str) -> GenerationCost | None:
    """What one iteration costs in which the model computed `steps` steps; None for one that cannot be accounted for.

    Steps beyond one a generated token are those of the prefill, so the weights count once for each step there was. The
    samples of a prompt share its prefill, and given prompts count as so many of their mean length.
    """
    model = accounted_model(spec)
    if model is None:
        return None
    state_dtype = engine_state_dtype(
        model, spec.engine_arguments.get("mamba_ssm_cache_dtype", "auto"), engine_version, spec.platform
    )
    prefill_steps = max(1, steps - (workload.generation_tokens - 1))
    prompts, generation = workload.num_prompts, workload.generation_tokens
    prompt = workload.prompt_tokens
    if workload.given_prompts is not None:
        prompt = max(1, round(mean(map(len, workload.given_prompts))))
    return GenerationCost(
        prefill_cost(model, prompts, prompt, steps=prefill_steps, state_dtype=state_dtype),
        decode_cost(model, prompts * workload.samples, prompt, generation, state_dtype=state_dtype),
    )


def batch_cost(
    spec: EngineSpec, workload: ClosedBatch, sample: GenerationSample, engine_version: str
) -> GenerationCost | None:
    """What a batch cost all engines that had a part in it: each reads its own weights, for its own share of prompts."""
    costs = []
    for part in sample.parts:
        share = workload.model_copy(update={"num_prompts": len(part.requests) // workload.samples})
        cost = workload_cost(spec, share if len(sample.parts) > 1 else workload, part.model_steps, engine_version)
        if cost is None:
            return None
        costs.append(cost)
    return reduce(lambda one, other: GenerationCost(one.prefill + other.prefill, one.decode + other.decode), costs)


def utilisation_values(
    spec: EngineSpec, workload: ClosedBatch, sample: GenerationSample, facts: LoadFacts, peaks: DevicePeaks | None
) -> dict[str, Value]:
    """The metrics of one iteration, from its sample, the facts of its launch and the device's peaks.

    Shares are in percent. Without known peaks only what the model did is given, and nothing for a model that cannot be
    accounted for.
    """
    version = facts.versions.get("vllm", LATEST_ENGINE)
    cost = batch_cost(spec, workload, sample, version)
    if cost is None:
        return {}
    # The peaks of a CPU are the whole machine's, and those of a GPU are one card's.
    devices = (spec.device_count or 1) if spec.platform == "cuda" else 1
    values: dict[str, Value] = {"arithmetic_intensity": cost.total.arithmetic_intensity}
    values |= phase_values(cost, sample, devices)
    if peaks is not None:
        used = utilisation(cost, sample.elapsed_seconds, peaks, devices=devices, dtype=spec.layer_stack().dtype)
        values |= {
            "mfu": 100 * used.mfu,
            "mbu": 100 * used.mbu,
            "roofline_share": 100 * used.roofline_share,
            "roofline_ms": 1e3 * used.bound_seconds,
        }
    return values


def phase_values(cost: GenerationCost, sample: GenerationSample, devices: int) -> dict[str, Value]:
    """Where prefill and decode stand in a roofline: FLOPs a byte moved, and FLOP/s of each of `devices` devices.

    The phases last as long as for their throughput (`procedures.generation`): the prefill until the last request's
    first token, the decode from the first request's first token to the last token.
    """
    arrivals = [request.token_arrivals for request in sample.requests if request.token_arrivals]
    if not arrivals:
        return {}
    first, last = [times[0] for times in arrivals], [times[-1] for times in arrivals]
    spans = {"prefill": (cost.prefill, max(first)), "decode": (cost.decode, max(last) - min(first))}
    values: dict[str, Value] = {}
    for name, (phase, seconds) in spans.items():
        if seconds > 0 and phase.flops.total > 0:
            values[f"{name}_arithmetic_intensity"] = phase.arithmetic_intensity
            values[f"{name}_flops_per_second"] = phase.flops.total / seconds / devices
    return values
