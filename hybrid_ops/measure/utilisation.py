"""How well a generation used its device: MFU, MBU, arithmetic intensity and the share of the roofline reached."""

from __future__ import annotations

import math
from statistics import mean
from typing import Any

from hybrid_ops.engines.spec import Case, EngineSpec
from hybrid_ops.errors import InputError
from hybrid_ops.measure.generation import Value
from hybrid_ops.measure.peaks import peaks_from_json
from hybrid_ops.models.capacity import LATEST_ENGINE, engine_state_dtype
from hybrid_ops.models.cost import GenerationCost, decode_cost, prefill_cost
from hybrid_ops.models.roofline import utilisation
from hybrid_ops.models.stack import ModelStack
from hybrid_ops.workloads.workload import Workload


def accounted_model(spec: EngineSpec) -> ModelStack | None:
    """The model's layer stack; None where its configuration is of no architecture that can be accounted for."""
    try:
        return spec.layer_stack()
    except InputError:
        return None


def workload_cost(case: Case, workload: Workload, steps: int, engine_version: str) -> GenerationCost | None:
    """What one iteration that took `steps` engine steps costs; None for a model that cannot be accounted for.

    Steps beyond one a generated token are those of the prefill, so the weights count once for each step there was. The
    samples of a prompt share its prefill, and given prompts count as so many of their mean length.
    """
    model = accounted_model(case.spec)
    if model is None:
        return None
    state_dtype = engine_state_dtype(
        model, case.spec.engine_arguments.get("mamba_ssm_cache_dtype", "auto"), engine_version, case.spec.platform
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


def utilisation_values(
    case: Case, workload: Workload, sample: dict[str, Any], facts: dict[str, Any]
) -> dict[str, Value]:
    """The metrics of one iteration, from a worker's raw sample and the facts of its launch.

    Shares are in percent. Without known peaks only the arithmetic intensity is given, and nothing for a model that
    cannot be accounted for.
    """
    version = facts["versions"].get("vllm", LATEST_ENGINE)
    cost = workload_cost(case, workload, len(sample["steps"]), version)
    if cost is None:
        return {}
    values: dict[str, Value] = {"arithmetic_intensity": cost.total.arithmetic_intensity}
    if (peaks := facts.get("peaks")) is not None:
        used = utilisation(
            cost,
            sample["elapsed_seconds"],
            peaks_from_json(peaks),
            devices=math.prod(
                case.spec.engine_arguments.get(f"{kind}_parallel_size", 1) for kind in ("tensor", "pipeline", "data")
            ),
            dtype=case.spec.layer_stack().dtype,
        )
        values |= {
            "mfu": 100 * used.mfu,
            "mbu": 100 * used.mbu,
            "roofline_share": 100 * used.roofline_share,
            "roofline_ms": 1e3 * used.bound_seconds,
        }
    return values
