"""The Hugging Face configuration of the model; it needs transformers alone."""

from __future__ import annotations

from typing import Any

from transformers import AutoConfig, PretrainedConfig

MODEL_TYPE = "hybrid_attention"
ARCHITECTURES = {
    "full": "SoftmaxAttentionForCausalLM",
    "sliding": "SoftmaxAttentionForCausalLM",
    "hybrid": "HybridAttentionForCausalLM",
}
"""vLLM's name of the model class, by the field `attention`."""
CONVOLUTION_TAPS = 4
"""Width of the history branch's convolution, as in every released Mamba-2."""


class HybridAttentionConfig(PretrainedConfig):
    """A Llama-shaped decoder, whose field `attention` says what its layers attend to.

    Args:
        attention: `full`; `sliding`, the last `sliding_window` tokens; or `hybrid`, those and a Mamba-2 branch over the
            whole history, which reads the same normed input and whose output is added.
        sliding_window: tokens that a query sees, itself included. Ignored, and null, with full attention.
        mamba_d_state: N of the branch, which has the attention's query heads and their size, and one group of B and C.
            Ignored without a branch.
        mamba_chunk_size: tokens in a chunk of the engine's prefill scan; it changes cost, not the result.

    The other fields are Llama's. The projections of attention and feed-forward have no bias. `architectures` follows
    from `attention`, whatever is given.

    Raises:
        ValueError: naming the field.
    """

    model_type = MODEL_TYPE

    def __init__(
        self,
        attention: str = "hybrid",
        sliding_window: int | None = 4096,
        mamba_d_state: int = 128,
        mamba_chunk_size: int = 256,
        vocab_size: int = 32000,
        hidden_size: int = 4096,
        intermediate_size: int = 11008,
        num_hidden_layers: int = 32,
        num_attention_heads: int = 32,
        num_key_value_heads: int | None = None,
        head_dim: int | None = None,
        hidden_act: str = "silu",
        max_position_embeddings: int = 2048,
        rms_norm_eps: float = 1e-6,
        tie_word_embeddings: bool = False,
        rope_parameters: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if attention not in ARCHITECTURES:
            raise ValueError(f"attention: {attention!r} is not one of {', '.join(ARCHITECTURES)}")
        if attention != "full" and (not isinstance(sliding_window, int) or sliding_window < 1):
            raise ValueError(f"sliding_window: {sliding_window!r} is not a number of tokens")
        if hidden_act != "silu":
            raise ValueError(f"hidden_act: {hidden_act!r} is not implemented, silu is")
        self.attention = attention
        self.sliding_window = None if attention == "full" else sliding_window
        self.mamba_d_state = mamba_d_state
        self.mamba_chunk_size = mamba_chunk_size
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.intermediate_size = intermediate_size
        self.num_hidden_layers = num_hidden_layers
        self.num_attention_heads = num_attention_heads
        self.num_key_value_heads = num_key_value_heads or num_attention_heads
        self.head_dim = head_dim or hidden_size // num_attention_heads
        self.hidden_act = hidden_act
        self.max_position_embeddings = max_position_embeddings
        self.rms_norm_eps = rms_norm_eps
        self.rope_parameters = rope_parameters
        kwargs["architectures"] = [ARCHITECTURES[attention]]
        super().__init__(tie_word_embeddings=tie_word_embeddings, **kwargs)


def register() -> None:
    """Have `AutoConfig` read configurations of this type."""
    AutoConfig.register(MODEL_TYPE, HybridAttentionConfig, exist_ok=True)
