"""Let vLLM look at each architecture of the small models once, two at a time.

vLLM imports a model's module in a process of its own to learn what the model can do. That takes several seconds, and it
keeps the answer below `VLLM_CACHE_ROOT`. Done here, the first run of the suite does not pay for it. What cannot be
inspected is left to the run, which says why.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from vllm import ModelRegistry

from hybrid_ops.models.zoo import load_zoo


def inspect(architecture: str) -> None:
    with suppress(Exception):  # vLLM raises what the model's module raised
        ModelRegistry.models[architecture].inspect_model_cls()


architectures = {
    name
    for entry in load_zoo().values()
    if "cpu" in entry.platforms and entry.engine == "vllm"
    for name in entry.config_contents.get("architectures", ())
    if name in ModelRegistry.models
}
with ThreadPoolExecutor(max_workers=2) as pool:
    list(pool.map(inspect, sorted(architectures)))
