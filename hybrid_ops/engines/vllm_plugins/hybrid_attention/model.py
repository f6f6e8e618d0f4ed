"""The decoder in vLLM's own layers: paged attention, per-request Mamba-2 state, sharded and stacked weights.

Every parameter has the name that Llama's checkpoints give it; the history branch of layer n is `model.layers.n.mamba`,
named as in Falcon-H1's. No `from __future__ import annotations` here: vLLM's compiler reads the annotations.
"""

from collections.abc import Iterable
from itertools import islice

import torch
from torch import nn
from vllm.compilation.decorators import support_torch_compile
from vllm.config import VllmConfig
from vllm.distributed import get_pp_group
from vllm.model_executor.layers.activation import SiluAndMul
from vllm.model_executor.layers.attention import Attention
from vllm.model_executor.layers.layernorm import RMSNorm
from vllm.model_executor.layers.linear import MergedColumnParallelLinear, QKVParallelLinear, RowParallelLinear
from vllm.model_executor.layers.logits_processor import LogitsProcessor
from vllm.model_executor.layers.mamba.mamba_mixer2 import MambaMixer2
from vllm.model_executor.layers.mamba.mamba_utils import (
    MambaStateCopyFunc,
    MambaStateCopyFuncCalculator,
    MambaStateDtypeCalculator,
    MambaStateShapeCalculator,
)
from vllm.model_executor.layers.rotary_embedding import get_rope
from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead, VocabParallelEmbedding
from vllm.model_executor.model_loader.weight_utils import default_weight_loader
from vllm.model_executor.models.interfaces import HasInnerState, IsHybrid, SupportsMambaPrefixCaching, SupportsPP
from vllm.model_executor.models.utils import (
    PPMissingLayer,
    is_pp_missing_parameter,
    make_empty_intermediate_tensors_factory,
    make_layers,
    maybe_prefix,
)
from vllm.sequence import IntermediateTensors

from hybrid_ops.engines.vllm_plugins.hybrid_attention.configuration import ARCHITECTURES, CONVOLUTION_TAPS

STACKED_WEIGHTS = (
    # (a checkpoint's part, the parameter that holds it, which part of that it is)
    ("q_proj", "qkv_proj", "q"),
    ("k_proj", "qkv_proj", "k"),
    ("v_proj", "qkv_proj", "v"),
    ("gate_proj", "gate_up_proj", 0),
    ("up_proj", "gate_up_proj", 1),
)


class FeedForward(nn.Module):
    """down(silu(gate(x)) · up(x)), x [tokens, hidden]."""

    def __init__(self, vllm_config: VllmConfig, prefix: str) -> None:
        super().__init__()
        config, quantization = vllm_config.model_config.hf_config, vllm_config.quant_config
        self.gate_up_proj = MergedColumnParallelLinear(
            config.hidden_size,
            [config.intermediate_size] * 2,
            bias=False,
            quant_config=quantization,
            prefix=f"{prefix}.gate_up_proj",
        )
        self.down_proj = RowParallelLinear(
            config.intermediate_size,
            config.hidden_size,
            bias=False,
            quant_config=quantization,
            prefix=f"{prefix}.down_proj",
        )
        self.activation = SiluAndMul()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate_and_up, _ = self.gate_up_proj(x)
        x, _ = self.down_proj(self.activation(gate_and_up))
        return x


class SoftmaxAttention(nn.Module):
    """Grouped-query attention with rotary positions over the paged cache, x [tokens, hidden]; a window if there is one.

    Heads are divided over the tensor-parallel devices; key heads are repeated where there are fewer than devices.
    """

    def __init__(self, vllm_config: VllmConfig, prefix: str) -> None:
        super().__init__()
        config, quantization = vllm_config.model_config.hf_config, vllm_config.quant_config
        self.qkv_proj = QKVParallelLinear(
            config.hidden_size,
            config.head_dim,
            config.num_attention_heads,
            config.num_key_value_heads,
            bias=False,
            quant_config=quantization,
            prefix=f"{prefix}.qkv_proj",
        )
        self.o_proj = RowParallelLinear(
            config.num_attention_heads * config.head_dim,
            config.hidden_size,
            bias=False,
            quant_config=quantization,
            prefix=f"{prefix}.o_proj",
        )
        heads, key_heads = self.qkv_proj.num_heads, self.qkv_proj.num_kv_heads  # of this device
        self.split_sizes = [heads * config.head_dim, key_heads * config.head_dim, key_heads * config.head_dim]
        self.rotary_emb = get_rope(
            config.head_dim,
            max_position=config.max_position_embeddings,
            rope_parameters=config.rope_parameters,
            is_neox_style=True,
        )
        self.attn = Attention(
            heads,
            config.head_dim,
            config.head_dim**-0.5,
            num_kv_heads=key_heads,
            cache_config=vllm_config.cache_config,
            quant_config=quantization,
            per_layer_sliding_window=config.sliding_window,
            prefix=f"{prefix}.attn",
        )

    def forward(self, positions: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        qkv, _ = self.qkv_proj(x)
        query, key, value = qkv.split(self.split_sizes, dim=-1)
        query, key = self.rotary_emb(positions, query, key)
        x, _ = self.o_proj(self.attn(query, key, value))
        return x


def history_branch(vllm_config: VllmConfig, prefix: str) -> MambaMixer2:
    """Mamba-2 of the attention's heads, with one group and a gated norm over all channels."""
    config = vllm_config.model_config.hf_config
    return MambaMixer2(
        hidden_size=config.hidden_size,
        ssm_state_size=config.mamba_d_state,
        conv_kernel_size=CONVOLUTION_TAPS,
        intermediate_size=config.num_attention_heads * config.head_dim,
        use_conv_bias=True,
        use_bias=False,
        n_groups=1,
        num_heads=config.num_attention_heads,
        head_dim=config.head_dim,
        rms_norm_eps=config.rms_norm_eps,
        activation="silu",
        model_config=vllm_config.model_config,
        cache_config=vllm_config.cache_config,
        quant_config=vllm_config.quant_config,
        prefix=prefix,
    )


class DecoderLayer(nn.Module):
    """x + attention(norm(x)) [+ history(norm(x))], then x + mlp(norm(x)). Norm and residual are one step, as in Llama.

    Args:
        vllm_config: of the engine.
        prefix: of the layer's parameters, ending in its number.
    """

    def __init__(self, vllm_config: VllmConfig, prefix: str) -> None:
        super().__init__()
        config = vllm_config.model_config.hf_config
        self.self_attn = SoftmaxAttention(vllm_config, f"{prefix}.self_attn")
        self.mamba = None
        if config.attention == "hybrid":
            # vLLM binds one cache to each layer number, so the branches are numbered after all attention layers.
            layers, _, number = prefix.rpartition(".")
            self.mamba = history_branch(vllm_config, f"{layers}.{config.num_hidden_layers + int(number)}.mamba")
        self.mlp = FeedForward(vllm_config, f"{prefix}.mlp")
        self.input_layernorm = RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, eps=config.rms_norm_eps)

    def forward(
        self, positions: torch.Tensor, x: torch.Tensor, residual: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(what this layer adds last, the residual stream before it), both [tokens, hidden]."""
        if residual is None:
            residual, x = x, self.input_layernorm(x)
        else:
            x, residual = self.input_layernorm(x, residual)
        attended = self.self_attn(positions, x)
        if self.mamba is not None:
            attended = attended + self.mamba(x)
        x, residual = self.post_attention_layernorm(attended, residual)
        return self.mlp(x), residual


@support_torch_compile
class Decoder(nn.Module):
    """Embedding, this pipeline stage's layers, and the last norm."""

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = "") -> None:
        super().__init__()
        config = vllm_config.model_config.hf_config
        first, last = get_pp_group().is_first_rank, get_pp_group().is_last_rank
        self.embed_tokens: nn.Module = PPMissingLayer()
        if first or (last and config.tie_word_embeddings):
            self.embed_tokens = VocabParallelEmbedding(
                config.vocab_size, config.hidden_size, quant_config=vllm_config.quant_config
            )
        self.start_layer, self.end_layer, self.layers = make_layers(
            config.num_hidden_layers, lambda prefix: DecoderLayer(vllm_config, prefix), prefix=f"{prefix}.layers"
        )
        self.norm: nn.Module = RMSNorm(config.hidden_size, eps=config.rms_norm_eps) if last else PPMissingLayer()
        self.make_empty_intermediate_tensors = make_empty_intermediate_tensors_factory(
            ["hidden_states", "residual"], config.hidden_size
        )

    def embed_input_ids(self, input_ids: torch.Tensor) -> torch.Tensor:
        return self.embed_tokens(input_ids)

    def forward(
        self,
        input_ids: torch.Tensor | None,
        positions: torch.Tensor,
        intermediate_tensors: IntermediateTensors | None = None,
        inputs_embeds: torch.Tensor | None = None,
    ) -> torch.Tensor | IntermediateTensors:
        residual = None
        if not get_pp_group().is_first_rank:
            assert intermediate_tensors is not None
            x, residual = intermediate_tensors["hidden_states"], intermediate_tensors["residual"]
        elif inputs_embeds is not None:
            x = inputs_embeds
        else:
            assert input_ids is not None
            x = self.embed_input_ids(input_ids)
        for layer in islice(self.layers, self.start_layer, self.end_layer):
            x, residual = layer(positions, x, residual)
        if not get_pp_group().is_last_rank:
            return IntermediateTensors({"hidden_states": x, "residual": residual})
        x, _ = self.norm(x, residual)
        return x


class SoftmaxAttentionForCausalLM(nn.Module, SupportsPP):
    """The decoder and its output head, with full or sliding-window attention."""

    packed_modules_mapping = {"qkv_proj": ["q_proj", "k_proj", "v_proj"], "gate_up_proj": ["gate_proj", "up_proj"]}

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = "") -> None:
        super().__init__()
        config = vllm_config.model_config.hf_config
        if ARCHITECTURES[config.attention] != type(self).__name__:
            raise ValueError(f"attention: {config.attention!r} is not of the architecture {type(self).__name__}")
        if config.attention == "full" and config.sliding_window is not None:  # set after the configuration was made
            raise ValueError(f"sliding_window: full attention has none, found {config.sliding_window}")
        self.config = config
        self.model = Decoder(vllm_config=vllm_config, prefix=maybe_prefix(prefix, "model"))
        self.lm_head: nn.Module = PPMissingLayer()
        if get_pp_group().is_last_rank:
            head = ParallelLMHead(
                config.vocab_size,
                config.hidden_size,
                quant_config=vllm_config.quant_config,
                prefix=maybe_prefix(prefix, "lm_head"),
            )
            self.lm_head = head.tie_weights(self.model.embed_tokens) if config.tie_word_embeddings else head
        self.logits_processor = LogitsProcessor(config.vocab_size)
        self.make_empty_intermediate_tensors = self.model.make_empty_intermediate_tensors

    def embed_input_ids(self, input_ids: torch.Tensor) -> torch.Tensor:
        return self.model.embed_input_ids(input_ids)

    def forward(
        self,
        input_ids: torch.Tensor | None,
        positions: torch.Tensor,
        intermediate_tensors: IntermediateTensors | None = None,
        inputs_embeds: torch.Tensor | None = None,
    ) -> torch.Tensor | IntermediateTensors:
        """Hidden states [tokens, hidden] of the step's tokens, those of all its requests in a row."""
        return self.model(input_ids, positions, intermediate_tensors, inputs_embeds)

    def compute_logits(self, hidden_states: torch.Tensor) -> torch.Tensor | None:
        return self.logits_processor(self.lm_head, hidden_states)

    def load_weights(self, weights: Iterable[tuple[str, torch.Tensor]]) -> set[str]:
        """Load a checkpoint's tensors, each its shard of this device; returns the names of the parameters filled.

        Raises:
            ValueError: a tensor that the model has no place for, such as a history branch's in a model without one.
        """
        parameters = dict(self.named_parameters())
        loaded = set()
        for name, weight in weights:
            if self.config.tie_word_embeddings and name.startswith("lm_head."):
                continue
            target, part = name.replace(".A_log", ".A"), None
            for piece, stacked, number in STACKED_WEIGHTS:
                if f".{piece}." in name:
                    target, part = name.replace(piece, stacked), number
            if is_pp_missing_parameter(target, self):
                continue
            if target not in parameters:
                raise ValueError(f"{name}: the model with {self.config.attention} attention has no such weight")
            parameter = parameters[target]
            load = getattr(parameter, "weight_loader", default_weight_loader)
            load(parameter, weight) if part is None else load(parameter, weight, part)
            loaded.add(target)
        return loaded


class HybridAttentionForCausalLM(SoftmaxAttentionForCausalLM, HasInnerState, IsHybrid, SupportsMambaPrefixCaching):
    """The same with the history branch, for which vLLM keeps one state a request and layer."""

    @classmethod
    def get_mamba_state_dtype_from_config(cls, vllm_config: VllmConfig) -> tuple[torch.dtype, torch.dtype]:
        """The data types of the convolution's and the recurrence's state."""
        return MambaStateDtypeCalculator.mamba2_state_dtype(
            vllm_config.model_config.dtype,
            vllm_config.cache_config.mamba_cache_dtype,
            vllm_config.cache_config.mamba_ssm_cache_dtype,
        )

    @classmethod
    def get_mamba_state_shape_from_config(cls, vllm_config: VllmConfig) -> tuple[tuple[int, int], tuple[int, int, int]]:
        """The shapes of both on one device; vLLM makes a block of attention large enough for them."""
        config, speculative = vllm_config.model_config.hf_config, vllm_config.speculative_config
        return MambaStateShapeCalculator.mamba2_state_shape(
            tp_world_size=vllm_config.parallel_config.tensor_parallel_size,
            intermediate_size=config.num_attention_heads * config.head_dim,
            n_groups=1,
            num_heads=config.num_attention_heads,
            head_dim=config.head_dim,
            state_size=config.mamba_d_state,
            conv_kernel=CONVOLUTION_TAPS,
            num_spec=speculative.num_speculative_tokens if speculative else 0,
        )

    @classmethod
    def get_mamba_state_copy_func(cls) -> tuple[MambaStateCopyFunc, MambaStateCopyFunc]:
        """How vLLM copies both from block to block for the prefix cache."""
        return MambaStateCopyFuncCalculator.mamba2_state_copy_func()
