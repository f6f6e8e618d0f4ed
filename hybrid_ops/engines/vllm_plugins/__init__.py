"""What the suite adds to vLLM through its `vllm.general_plugins` entry point, one noun a file.

| file               | what it adds                                                                             |
|--------------------|------------------------------------------------------------------------------------------|
| `seeded_weights`   | the load format `seeded`: weights of a trained model's size, the same in every process   |
| `injection`        | a slow-down of each engine step by a known share                                         |
| `faults`           | a planted fault, to see the agreement check catch it                                     |
| `fallbacks`        | reference kernels for what vLLM's CPU build lacks                                        |
| `hybrid_attention` | a model with full, sliding-window or hybrid attention                                    |
| `capture`          | the time and the memory of the capture of CUDA graphs                                    |
| `autotuner`        | what Triton's autotuner has chosen                                                       |
| `ranks`            | what the worker asks each rank of: its memory, its kernels                               |

It runs inside the engine's own environment, so it imports the standard library, torch, vLLM, vLLM's transformers and
`hybrid_ops.layers` (which needs torch alone), and nothing else of this package.
"""

from __future__ import annotations


def register() -> None:
    """The entry point: called once in each process of the engine."""
    from hybrid_ops.engines.vllm_plugins import capture, fallbacks, faults, hybrid_attention, injection, seeded_weights

    seeded_weights.register()
    injection.register()
    fallbacks.register()
    hybrid_attention.register()
    capture.register()
    faults.register()
