"""A planner is told whom the worker will find, without an import."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from hybrid_ops.engines.layer_bench import packages
from hybrid_ops.engines.layer_bench.peers import installed_peers

ASK = """
import sys
from hybrid_ops.engines.layer_bench.cases import CASES
from hybrid_ops.engines.layer_bench.peers import installed_peers
for case in CASES:
    for platform in ("cpu", "cuda"):
        installed_peers(*case.split("/"), platform)
print(sorted({"torch", "transformers", "vllm", "fla", "einops", "triton"} & set(sys.modules)))
"""


def test_nothing_is_imported_to_know() -> None:
    done = subprocess.run([sys.executable, "-c", ASK], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_an_unknown_layer_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"^case: 'attention/forward' is not one of "):
        installed_peers("attention", "forward", "cpu")


def test_the_processor_is_known_as_torch_knows_it() -> None:
    wide = {"avx512f", "avx512vl", "avx512bw", "avx512dq"} <= packages.cpu_flags()
    assert wide == torch.cpu._is_avx512_supported()
    assert ("avx512_bf16" in packages.cpu_flags()) == torch.cpu._is_avx512_bf16_supported()


def test_a_peer_of_another_version_may_lack_the_function() -> None:
    assert packages.has_transformers("mamba2", "mamba2_chunk_scan")
    assert not packages.has_transformers("mamba2", "mamba2_chunk_scan_of_tomorrow")
    assert not packages.has_transformers("mamba_of_tomorrow", "mamba2_chunk_scan")
