"""The cache planner against vLLM's own, in one process for all cases."""

import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid_ops.errors import InputError
from hybrid_ops.models.capacity import FULL_ATTENTION, SLIDING_WINDOW, STATE, plan_cache
from hybrid_ops.models.configs import config_names, load_config
from hybrid_ops.models.families import read_model

PLANNER = Path(__file__).parent / "vllm_planner.py"
TINY = [name for name in config_names() if name.endswith("-tiny")]
OF_EACH_KIND = ("attention-full-tiny", "gemma3-tiny", "mamba-tiny", "nemotron-h-tiny", "qwen3-next-tiny")
FULL_SIZE = [name for name in config_names() if not name.endswith("-tiny")]
SPEC_NAMES = {FULL_ATTENTION: "FullAttentionSpec", SLIDING_WINDOW: "SlidingWindowSpec", STATE: "MambaSpec"}


def vllm_version():
    try:
        return importlib.metadata.version("vllm")
    except importlib.metadata.PackageNotFoundError:
        return "none"


pytestmark = pytest.mark.skipif(
    not (vllm_version().startswith("0.32.") and vllm_version().endswith("+cpu")),
    reason=f"needs vLLM 0.32's CPU build, found {vllm_version()}",
)


@pytest.fixture(scope="module")
def ask_vllm():
    """A function from one case to vLLM's plan of it."""
    with subprocess.Popen(
        [sys.executable, str(PLANNER)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as process:

        def ask(case):
            process.stdin.write(json.dumps(case) + "\n")
            process.stdin.flush()
            answer = process.stdout.readline()
            assert answer, "vLLM's planner ended: run tests/models/vllm_planner.py by hand with the case to see why"
            return json.loads(answer)

        yield ask
        process.stdin.close()


def agree(ask, config, *, platform, tensor_parallel, state_dtype, prefix_caching, length, batched_tokens, cache_bytes):
    """Assert that both planners say the same of one case, a refusal included. Returns whether there is a plan."""
    theirs = ask(
        {
            "config": config,
            "platform": platform,
            "tensor_parallel": tensor_parallel,
            "state_dtype": state_dtype,
            "prefix_caching": prefix_caching,
            "length": length,
            "batched_tokens": batched_tokens,
            "cache_bytes": cache_bytes,
        }
    )
    try:
        plan = plan_cache(
            read_model(config),
            cache_bytes,
            tensor_parallel=tensor_parallel,
            state_dtype=state_dtype,
            prefix_caching=prefix_caching,
            platform=platform,
            # Without asynchronous scheduling, as on the CPU, one batch is in flight.
            in_flight_tokens=batched_tokens,
        )
        concurrency = plan.max_concurrency(length)
    except InputError as error:
        refusal = str(error)
    else:
        refusal = None
    if refusal is not None:
        # vLLM plans without a look at the key heads; its layer would then have none on a device.
        assert "refused" in theirs or "linear_num_key_heads" in refusal, f"only we refuse: {refusal}"
        return False
    assert theirs == {
        "block_size": plan.block_size,
        "page_bytes": plan.page_bytes,
        "num_blocks": plan.num_blocks,
        "groups": sorted([SPEC_NAMES[group.kind], group.layers] for group in plan.groups),
        "in_flight_tokens": batched_tokens,
        "max_concurrency": concurrency,
    }
    return True


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in OF_EACH_KIND else [pytest.mark.long]) for name in TINY]
)
def test_every_tiny_architecture(ask_vllm, name):
    config = load_config(name)
    for platform in ("cpu", "cuda"):
        for tensor_parallel in (1, 2):
            for length in (1, 129, 2048, 4096):
                for cache_bytes in (1 << 27, 300_000_000):
                    assert agree(
                        ask_vllm,
                        config,
                        platform=platform,
                        tensor_parallel=tensor_parallel,
                        state_dtype="auto",
                        prefix_caching=False,
                        length=length,
                        batched_tokens=512,
                        cache_bytes=cache_bytes,
                    )


@pytest.mark.parametrize("name", FULL_SIZE)
def test_every_full_size_model(ask_vllm, name):
    assert agree(
        ask_vllm,
        load_config(name),
        platform="cuda",
        tensor_parallel=2 if load_config(name).get("num_attention_heads", 2) % 2 == 0 else 1,
        state_dtype="bfloat16",
        prefix_caching=False,
        length=4096,
        batched_tokens=8192,
        cache_bytes=62_500_000_000,
    )


ATTENTION_FREE = {"mamba", "falcon_mamba", "mamba2"}


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_choice(ask_vllm, data):
    """Every option at once, and memory from too little to plenty."""
    config = load_config(data.draw(st.sampled_from(TINY)))
    agree(
        ask_vllm,
        config,
        platform=data.draw(st.sampled_from(["cpu", "cuda"])),
        tensor_parallel=data.draw(st.sampled_from([1, 2, 4])),
        state_dtype=data.draw(st.sampled_from(["auto", "bfloat16", "float16", "float32"])),
        prefix_caching=data.draw(st.booleans()) and config["model_type"] not in ATTENTION_FREE,
        length=data.draw(st.integers(1, 4096)),
        batched_tokens=data.draw(st.sampled_from([64, 333, 4096])),
        cache_bytes=data.draw(st.integers(1, 2**28)),
    )


@settings(max_examples=60, deadline=None)
@given(layers=st.integers(1, 14), pattern=st.integers(1, 6), window=st.integers(1, 700), length=st.integers(1, 4096))
def test_any_mix_of_windows(ask_vllm, layers, pattern, window, length):
    """Sliding-window hybrids whose layers do not divide into equal groups."""
    config = load_config("gemma3-tiny")
    kinds = ["full_attention" if index % pattern == 0 else "sliding_attention" for index in range(layers)]
    config |= {"num_hidden_layers": layers, "layer_types": kinds, "sliding_window": window}
    assert agree(
        ask_vllm,
        config,
        platform="cpu",
        tensor_parallel=1,
        state_dtype="auto",
        prefix_caching=True,
        length=length,
        batched_tokens=256,
        cache_bytes=1 << 28,
    )


@settings(max_examples=60, deadline=None)
@given(pattern=st.text("M*-", min_size=1, max_size=16).filter(lambda text: {"M", "*"} <= set(text)))
def test_any_mix_of_states(ask_vllm, pattern):
    """Nemotron-H's layers in any number and order, across the ratio at which groups are merged."""
    config = load_config("nemotron-h-tiny") | {"hybrid_override_pattern": pattern, "num_hidden_layers": len(pattern)}
    assert agree(
        ask_vllm,
        config,
        platform="cuda",
        tensor_parallel=1,
        state_dtype="float32",
        prefix_caching=False,
        length=1000,
        batched_tokens=256,
        cache_bytes=1 << 28,
    )
