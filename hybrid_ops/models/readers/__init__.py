"""From a configuration's fields to its layers, one function an architecture family, by what its layers mix tokens with.

| file          | families                                                                               |
|---------------|----------------------------------------------------------------------------------------|
| `softmax`     | Llama, Mistral, Qwen3, Gemma 3                                                         |
| `state_space` | Mamba, Mamba-2, Nemotron-H, Falcon-H1, Jamba, Zamba2, Granite 4, the suite's own model |
| `delta`       | OLMo-Hybrid, Qwen3-Next, Qwen3.5 (gated delta rule), LFM2 (short convolutions)         |
"""
