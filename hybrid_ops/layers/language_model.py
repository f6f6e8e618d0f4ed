"""Small whole language models, built from a Hugging Face configuration out of this package's blocks.

    model = from_config(config)                  # any object with the attributes of the transformers configuration
    model.load_transformers(reference.state_dict())
    logits, cache = model(tokens)                # prefill
    logits, cache = model(next_tokens, cache)    # decoding, or the next part of a long prompt

Known: llama, gemma3_text, mamba, mamba2, falcon_mamba, falcon_h1, nemotron_h, olmo_hybrid, qwen3_next, qwen3_5_text
and the suite's own hybrid_attention. They are references to compare engines with, not engines: one batch, no padding,
no sampling.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from hybrid_ops.layers.blocks import (
    MLP,
    GatedMLP,
    ParallelBlock,
    PostNormBlock,
    PreNormBlock,
    SandwichNormBlock,
    SingleBlock,
    SlidingWindowHistoryBlock,
    SparseMLP,
    gelu_tanh,
)
from hybrid_ops.layers.mixers import (
    Attention,
    DeltaNetSizes,
    GatedRMSNorm,
    Mamba1,
    Mamba2,
    OlmoGatedDeltaNet,
    Qwen35GatedDeltaNet,
    QwenGatedDeltaNet,
    RMSNorm,
    State,
)
from hybrid_ops.layers.rotary import rotary_frequencies


class Cache(NamedTuple):
    """What a model remembers of the tokens that it has seen."""

    position: int  # how many there were
    states: tuple[State, ...]  # one a block


class LanguageModel(nn.Module):
    """Embedding, blocks, a norm and the head.

    Args:
        vocabulary, width: sizes.
        blocks: each called as `x, state = block(x, state, position)`.
        norm: the last norm.
        tied: the head shares the embedding's weight.
        embedding_multiplier, logit_multiplier: scale the embedding and the logits.
        rounds_multiplier: the embedding's multiplier is rounded to the dtype of the weights first, as Gemma was trained
            (√3072 is 55.5 in bfloat16). Falcon-H1's is not.
        logit_softcap: bends the logits by tanh; None for not at all.
    """

    def __init__(
        self,
        vocabulary: int,
        width: int,
        blocks: list[nn.Module],
        norm: RMSNorm,
        *,
        tied: bool,
        embedding_multiplier: float = 1.0,
        rounds_multiplier: bool = False,
        logit_multiplier: float = 1.0,
        logit_softcap: float | None = None,
    ) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(vocabulary, width)
        self.layers = nn.ModuleList(blocks)
        self.norm = norm
        self.lm_head = nn.Linear(width, vocabulary, bias=False)
        if tied:
            self.lm_head.weight = self.embed_tokens.weight
        self.embedding_multiplier, self.rounds_multiplier = embedding_multiplier, rounds_multiplier
        self.logit_multiplier = logit_multiplier
        self.logit_softcap = logit_softcap

    def forward(self, tokens: Tensor, cache: Cache | None = None) -> tuple[Tensor, Cache]:
        """The logits of each next token.

        Args:
            tokens: [B, T] integers: the next T tokens of each sequence of the batch.
            cache: of the tokens before them; None at the start. It is read, not written.

        Returns:
            logits: [B, T, vocabulary].
            cache: with these tokens added.

        Raises:
            TypeError, ValueError: naming `tokens` or `cache`.
        """
        if tokens.is_floating_point():
            raise TypeError(f"tokens: expected integers, got {tokens.dtype}")
        if tokens.dim() != 2:
            raise ValueError(f"tokens: expected shape [B, T], got {tuple(tokens.shape)}")
        if cache is not None and len(cache.states) != len(self.layers):
            raise ValueError(f"cache: has {len(cache.states)} states, but the model has {len(self.layers)} blocks")
        position = 0 if cache is None else cache.position
        states: list[State] = [None] * len(self.layers) if cache is None else list(cache.states)
        x = self.embed_tokens(tokens)
        multiplier = self.embedding_multiplier
        x = x * (torch.tensor(multiplier, dtype=x.dtype).item() if self.rounds_multiplier else multiplier)
        for i, block in enumerate(self.layers):
            x, states[i] = block(x, states[i], position)
        logits = self.lm_head(self.norm(x)) * self.logit_multiplier
        if self.logit_softcap is not None:
            logits = self.logit_softcap * torch.tanh(logits / self.logit_softcap)
        return logits, Cache(position + tokens.shape[1], tuple(states))

    def load_transformers(self, state_dict: Mapping[str, Tensor]) -> None:
        """Load the weights of the transformers model of the same configuration.

        Args:
            state_dict: of its `...ForCausalLM`.

        Raises:
            RuntimeError: a weight is missing, left over or of another shape.
        """
        renamed = {}
        for name, weight in state_dict.items():
            name = re.sub(r"^(model|backbone)\.", "", name)
            name = re.sub(r"^embeddings\.", "embed_tokens.", name)
            name = re.sub(r"^(norm_f|final_layernorm)\.", "norm.", name)
            if match := re.match(r"layers\.(\d+)\.(\w+)\.", name):
                aliases: dict[str, str] = self.layers[int(match[1])].transformers_names  # type: ignore[assignment]
                start, end = match.span(2)
                name = name[:start] + aliases.get(match[2], match[2]) + name[end:]
            renamed[name] = weight
        self.load_state_dict(renamed, strict=True)


def from_config(config: Any) -> LanguageModel:
    """Build the model that a transformers configuration describes, with fresh weights in the default dtype.

    Args:
        config: a transformers configuration object; its `model_type` chooses the architecture.

    Returns:
        The model, in evaluation mode.

    Raises:
        ValueError: the model type, or an option of it, is not implemented here; the message names it.
    """
    if not is_known(config):
        known = ", ".join(sorted(_BUILDERS))
        raise ValueError(f"config: model_type {config.model_type!r} is not one of {known}")
    return _BUILDERS[config.model_type](config).eval()


def is_known(config: Any) -> bool:
    """Whether `from_config` has the architecture of a transformers configuration."""
    return config.model_type in _BUILDERS


def _llama(config: Any) -> LanguageModel:
    _require(config, hidden_act="silu")
    blocks = [
        PreNormBlock(config.hidden_size, _attention(config), _gated_mlp(config), epsilon=config.rms_norm_eps)
        for _ in range(config.num_hidden_layers)
    ]
    return _model(config, blocks, RMSNorm(config.hidden_size, config.rms_norm_eps))


def _hybrid_attention(config: Any) -> LanguageModel:
    _require(config, hidden_act="silu", attention=("full", "sliding", "hybrid"))
    blocks: list[nn.Module] = []
    for _ in range(config.num_hidden_layers):
        if config.attention == "hybrid":
            block: nn.Module = SlidingWindowHistoryBlock(
                config.hidden_size,
                heads=config.num_attention_heads,
                key_heads=config.num_key_value_heads,
                head_size=config.head_dim,
                window=config.sliding_window,
                frequencies=_frequencies(config.head_dim, config.rope_parameters),
                state_size=config.mamba_d_state,
                inner=config.intermediate_size,
                epsilon=config.rms_norm_eps,
            )
        else:
            window = config.sliding_window if config.attention == "sliding" else None
            attention = _attention(config, window=window, bias=False)
            block = PreNormBlock(config.hidden_size, attention, _gated_mlp(config), epsilon=config.rms_norm_eps)
        blocks.append(block)
    return _model(config, blocks, RMSNorm(config.hidden_size, config.rms_norm_eps))


def _gemma3(config: Any) -> LanguageModel:
    _require(config, hidden_activation="gelu_pytorch_tanh", use_bidirectional_attention=(None, False))
    blocks = []
    for kind in config.layer_types:
        attention = _attention(
            config,
            rope=config.rope_parameters[kind],
            scale=config.query_pre_attn_scalar**-0.5,
            window=config.sliding_window if kind == "sliding_attention" else None,
            softcap=config.attn_logit_softcapping,
            norm="head",
            norm_offset=1.0,
        )
        mlp = GatedMLP(config.hidden_size, config.intermediate_size, activation=gelu_tanh)
        blocks.append(SandwichNormBlock(config.hidden_size, attention, mlp, epsilon=config.rms_norm_eps, offset=1.0))
    return _model(
        config,
        blocks,
        RMSNorm(config.hidden_size, config.rms_norm_eps, offset=1.0),
        embedding_multiplier=config.hidden_size**0.5,
        rounds_multiplier=True,
        logit_softcap=config.final_logit_softcapping,
    )


def _mamba(config: Any) -> LanguageModel:
    _require(config, hidden_act="silu")
    blocks = []
    for _ in range(config.num_hidden_layers):
        mixer = Mamba1(
            config.hidden_size,
            inner=config.intermediate_size,
            state_size=config.state_size,
            step_rank=int(config.time_step_rank),
            taps=config.conv_kernel,
            convolution_bias=config.use_conv_bias,
            bias=config.use_bias,
            norm_epsilon=config.mixer_rms_eps if config.model_type == "falcon_mamba" else None,
        )
        blocks.append(SingleBlock(config.hidden_size, mixer, epsilon=config.layer_norm_epsilon))
    return _model(config, blocks, RMSNorm(config.hidden_size, config.layer_norm_epsilon))


def _mamba2(config: Any) -> LanguageModel:
    _require(config, hidden_act="silu")
    blocks = []
    for _ in range(config.num_hidden_layers):
        inner = config.num_heads * config.head_dim
        mixer = Mamba2(
            config.hidden_size,
            heads=config.num_heads,
            head_size=config.head_dim,
            groups=config.n_groups,
            state_size=config.state_size,
            taps=config.conv_kernel,
            convolution_bias=config.use_conv_bias,
            bias=config.use_bias,
            step_limits=tuple(config.time_step_limit),
            norm=GatedRMSNorm(inner, config.layer_norm_epsilon, "gate_before_norm"),
        )
        blocks.append(SingleBlock(config.hidden_size, mixer, epsilon=config.layer_norm_epsilon))
    return _model(config, blocks, RMSNorm(config.hidden_size, config.layer_norm_epsilon))


def _falcon_h1(config: Any) -> LanguageModel:
    _require(config, hidden_act="silu")
    blocks = []
    for _ in range(config.num_hidden_layers):
        inner = config.mamba_n_heads * config.mamba_d_head
        order = "norm_before_gate" if config.mamba_norm_before_gate else "gate_before_norm"
        norm = GatedRMSNorm(inner, config.rms_norm_eps, order, inner // config.mamba_n_groups)
        mamba = Mamba2(
            config.hidden_size,
            heads=config.mamba_n_heads,
            head_size=config.mamba_d_head,
            groups=config.mamba_n_groups,
            state_size=config.mamba_d_state,
            taps=config.mamba_d_conv,
            convolution_bias=config.mamba_conv_bias,
            bias=config.mamba_proj_bias,
            output_bias=config.projectors_bias,
            step_limits=tuple(config.time_step_limit),
            norm=norm if config.mamba_rms_norm else None,
            input_multiplier=config.ssm_in_multiplier,
            multipliers=config.ssm_multipliers,
        )
        mlp = GatedMLP(
            config.hidden_size,
            config.intermediate_size,
            bias=config.mlp_bias,
            multipliers=tuple(config.mlp_multipliers),
        )
        blocks.append(
            ParallelBlock(
                config.hidden_size,
                _attention(config, key_multiplier=config.key_multiplier),
                mamba,
                mlp,
                epsilon=config.rms_norm_eps,
                attention_multipliers=(config.attention_in_multiplier, config.attention_out_multiplier),
                mamba_multiplier=config.ssm_out_multiplier,
            )
        )
    return _model(
        config,
        blocks,
        RMSNorm(config.hidden_size, config.rms_norm_eps),
        embedding_multiplier=config.embedding_multiplier,
        logit_multiplier=config.lm_head_multiplier,
    )


def _nemotron_h(config: Any) -> LanguageModel:
    _require(config, mamba_hidden_act="silu", mlp_hidden_act="relu2")
    inner = config.mamba_num_heads * config.mamba_head_dim
    blocks = []
    for kind in config.layers_block_type:
        layer: nn.Module
        if kind == "linear_attention":  # M
            layer = Mamba2(
                config.hidden_size,
                heads=config.mamba_num_heads,
                head_size=config.mamba_head_dim,
                groups=config.n_groups,
                state_size=config.ssm_state_size,
                taps=config.conv_kernel,
                convolution_bias=config.use_conv_bias,
                bias=config.use_bias,
                # As transformers has it in prefill: Δ is limited by time_step_min from below.
                step_limits=(config.time_step_min, float("inf")),
                norm=GatedRMSNorm(inner, config.layer_norm_epsilon, "gate_before_norm", inner // config.n_groups),
            )
        elif kind == "full_attention":  # *
            layer = _attention(config, rope=None, bias=False)
        elif kind == "mlp":  # -
            layer = MLP(config.hidden_size, config.intermediate_size, bias=config.mlp_bias)
        else:
            raise ValueError(f"config: layers_block_type {kind!r} of nemotron_h is not implemented")
        blocks.append(SingleBlock(config.hidden_size, layer, epsilon=config.layer_norm_epsilon))
    return _model(config, blocks, RMSNorm(config.hidden_size, config.layer_norm_epsilon))


def _olmo_hybrid(config: Any) -> LanguageModel:
    _require(config, hidden_act="silu")
    blocks: list[nn.Module] = []
    for kind in config.layer_types:
        if kind == "linear_attention":
            mixer = OlmoGatedDeltaNet(_delta_net_sizes(config), double_beta=config.linear_allow_neg_eigval)
            blocks.append(PreNormBlock(config.hidden_size, mixer, _gated_mlp(config), epsilon=config.rms_norm_eps))
        else:
            attention = _attention(config, norm="full", norm_epsilon=config.rms_norm_eps)
            blocks.append(PostNormBlock(config.hidden_size, attention, _gated_mlp(config), epsilon=config.rms_norm_eps))
    return _model(config, blocks, RMSNorm(config.hidden_size, config.rms_norm_eps))


def _qwen3_next(config: Any) -> LanguageModel:
    _require(config, hidden_act="silu")
    blocks = []
    for i, kind in enumerate(config.layer_types):
        mixer: nn.Module
        if kind == "linear_attention":
            mixer = QwenGatedDeltaNet(_delta_net_sizes(config), epsilon=config.rms_norm_eps)
        else:
            mixer = _attention(config, norm="head", norm_offset=1.0, output_gate=True)
        sparse = config.num_experts > 0 and (i + 1) % config.decoder_sparse_step == 0
        mlp: nn.Module = _gated_mlp(config)
        if sparse and i not in config.mlp_only_layers:
            mlp = SparseMLP(
                config.hidden_size,
                inner=config.moe_intermediate_size,
                shared_inner=config.shared_expert_intermediate_size,
                experts=config.num_experts,
                active=config.num_experts_per_tok,
                normalise=config.norm_topk_prob,
            )
        blocks.append(PreNormBlock(config.hidden_size, mixer, mlp, epsilon=config.rms_norm_eps, offset=1.0))
    return _model(config, blocks, RMSNorm(config.hidden_size, config.rms_norm_eps, offset=1.0))


def _qwen3_5(config: Any) -> LanguageModel:
    _require(config, hidden_act="silu")
    blocks = []
    for kind in config.layer_types:
        if kind == "linear_attention":
            mixer: nn.Module = Qwen35GatedDeltaNet(_delta_net_sizes(config), epsilon=config.rms_norm_eps)
        else:
            mixer = _attention(config, norm="head", norm_offset=1.0, output_gate=True)
        mlp = _gated_mlp(config)
        blocks.append(PreNormBlock(config.hidden_size, mixer, mlp, epsilon=config.rms_norm_eps, offset=1.0))
    return _model(config, blocks, RMSNorm(config.hidden_size, config.rms_norm_eps, offset=1.0))


_BUILDERS: dict[str, Callable[[Any], LanguageModel]] = {
    "falcon_h1": _falcon_h1,
    "falcon_mamba": _mamba,
    "gemma3_text": _gemma3,
    "hybrid_attention": _hybrid_attention,
    "llama": _llama,
    "mamba": _mamba,
    "mamba2": _mamba2,
    "nemotron_h": _nemotron_h,
    "olmo_hybrid": _olmo_hybrid,
    "qwen3_5_text": _qwen3_5,
    "qwen3_next": _qwen3_next,
}


def _attention(config: Any, **options: Any) -> Attention:
    """Attention as the configuration has it: `rope` overrides its rotary parameters, None means none."""
    head_size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    rope = options.pop("rope", getattr(config, "rope_parameters", None))
    if "bias" not in options:
        options["bias"] = config.attention_bias
    if "norm" in options:
        options.setdefault("norm_epsilon", config.rms_norm_eps)
    return Attention(
        config.hidden_size,
        heads=config.num_attention_heads,
        key_heads=config.num_key_value_heads,
        head_size=head_size,
        frequencies=_frequencies(head_size, rope),
        **options,
    )


def _frequencies(head_size: int, rope: Mapping[str, Any] | None) -> Tensor | None:
    """The rotary frequencies that a configuration's parameters ask for, or None for no rotary embedding."""
    if rope is None or rope.get("rope_theta") is None:
        return None
    rotary_size = int(head_size * rope.get("partial_rotary_factor", 1.0))
    return rotary_frequencies(rotary_size, theta=rope["rope_theta"], scaling=rope)


def _gated_mlp(config: Any) -> GatedMLP:
    return GatedMLP(config.hidden_size, config.intermediate_size, bias=getattr(config, "mlp_bias", False))


def _delta_net_sizes(config: Any) -> DeltaNetSizes:
    return DeltaNetSizes(
        width=config.hidden_size,
        key_heads=config.linear_num_key_heads,
        value_heads=config.linear_num_value_heads,
        key_size=config.linear_key_head_dim,
        value_size=config.linear_value_head_dim,
        taps=config.linear_conv_kernel_dim,
    )


def _model(config: Any, blocks: list[Any], norm: RMSNorm, **options: Any) -> LanguageModel:
    return LanguageModel(
        config.vocab_size, config.hidden_size, blocks, norm, tied=config.tie_word_embeddings, **options
    )


def _require(config: Any, **wanted: Any) -> None:
    """Refuse a configuration whose options ask for something that is not implemented here."""
    for name, value in wanted.items():
        allowed = value if isinstance(value, tuple) else (value,)
        if (given := getattr(config, name, None)) not in allowed:
            raise ValueError(f"config: {name} = {given!r} of {config.model_type} is not implemented")
