"""Reference layers of hybrid language models: pure functions on torch tensors, one noun a file.

Import from the file: `from hybrid_ops.layers.ssd import chunked_ssd`.

| file             | functions                                                                                        |
|------------------|--------------------------------------------------------------------------------------------------|
| `attention`      | `attention`, `sliding_window_attention`                                                          |
| `masks`          | `causal`, `sliding_window`, `prefix_lm`, `document`, `alibi`, `alibi_slopes`, `tanh_softcap`      |
| `convolution`    | `causal_convolution`, `step_causal_convolution`                                                  |
| `norms`          | `rms_norm`, `gated_rms_norm`, `l2_normalise`                                                     |
| `rotary`         | `rotary_frequencies`, `apply_rotary`                                                             |
| `selective_scan` | `recurrent_selective_scan`, `chunked_selective_scan`, `step_selective_scan`                      |
| `ssd`            | `recurrent_ssd`, `chunked_ssd`, `step_ssd`                                                       |
| `delta_rule`     | `recurrent_delta_rule`, `chunked_delta_rule`, `step_delta_rule` (DeltaNet: `log_decay=None`)      |

What holds for all: tensors are token-major `[B, T, H, ...]`; gates and states are keyword-only; decay is given as its
logarithm or as the rate and step that make it; everything is computed in promote(inputs, float32) with autocast off;
outputs have the dtype of the inputs and states the compute dtype; nothing is written in place.

On top of them stand `mixers` (the layers as modules), `blocks`, and `language_model`: small whole models that are built
from a transformers configuration and load its weights.
"""
