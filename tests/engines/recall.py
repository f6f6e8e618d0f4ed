"""A task whose answer lies far back, and a model made by hand that solves it as far as its attention lets it.

A prompt is a marker (one of 8), then any number of fillers, then the question; the answer is the marker. All in the
first of two layers, in the float32 weights that a checkpoint would hold:

- attention: the question's query meets the markers' keys, in the rotary channels that hardly turn, and copies the
  marker's code to where the head reads it;
- the history branch: a marker opens the time step and writes its code into the state, a filler leaves the state as it
  is (Δ ≈ 6e-6), and the question reads it.

With full attention the first part finds the marker at any distance, with a window only inside it. Two layers of a
window W see no more than 2 · (W − 1) tokens back, so beyond that no weights whatever could solve it.
"""

from __future__ import annotations

from pathlib import Path

import torch

from hybrid_ops.engines.vllm_plugins.hybrid_attention.configuration import HybridAttentionConfig
from hybrid_ops.layers.blocks import ParallelBlock
from hybrid_ops.layers.language_model import LanguageModel, from_config
from hybrid_ops.layers.mixers import Attention, Mamba2
from tests.engines.hybrid_models import save

MARKERS, QUESTION, FIRST_FILLER, VOCABULARY = 8, 8, 9, 32
WINDOW, LAYERS = 32, 2
REACH = LAYERS * (WINDOW - 1)
HEADS, HEAD_SIZE, STATE_SIZE = 2, 32, 16

# Channels of the residual stream. Each token's embedding has two ones, so that the norm scales all tokens alike.
CODE = slice(0, MARKERS)
IS_MARKER, IS_QUESTION, IS_FILLER = 8, 9, 11
ANSWER = slice(16, 16 + MARKERS)


def recall_model(attention: str, folder: Path) -> LanguageModel:
    """The model, saved as the engine reads it."""
    config = HybridAttentionConfig(
        attention=attention,
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=32,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=1,
        head_dim=HEAD_SIZE,
        max_position_embeddings=1024,
        sliding_window=WINDOW,
        mamba_d_state=STATE_SIZE,
        rope_theta=1e6,
        dtype="float32",
    )
    model = from_config(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" not in name:  # norms are ones
                parameter.zero_()
        embeddings, answers = model.embed_tokens.weight, torch.arange(ANSWER.start, ANSWER.stop)
        embeddings[:MARKERS, CODE] = torch.eye(MARKERS)
        embeddings[:MARKERS, IS_MARKER] = 1.0
        embeddings[QUESTION, IS_QUESTION : IS_QUESTION + 2] = 1.0
        embeddings[FIRST_FILLER:, IS_FILLER : IS_FILLER + 2] = 1.0
        model.lm_head.weight[torch.arange(MARKERS), answers] = 4.0
        block = model.layers[0]
        if isinstance(block, ParallelBlock):
            copy_by_attention(block.attention)
            copy_by_history(block.mamba)
        else:
            copy_by_attention(block.mixer)
    save(model, config, folder)
    return model


def copy_by_attention(attention: Attention) -> None:
    """The first head copies a marker's code to the answer."""
    slowest = HEAD_SIZE // 2 - 1  # the first of the two channels that turn by 2.4e-6 radians a token
    attention.q_proj.weight[slowest, IS_QUESTION] = 2.0
    attention.k_proj.weight[slowest, IS_MARKER] = 2.0
    attention.v_proj.weight[CODE, CODE] = torch.eye(MARKERS)
    attention.o_proj.weight[ANSWER, CODE] = 0.4 * torch.eye(MARKERS)


def copy_by_history(mamba: Mamba2) -> None:
    """The first head keeps a marker's code in its state and gives it to the question."""
    inner = HEADS * HEAD_SIZE
    gate, x, B, C, dt = (0, inner, 2 * inner, 2 * inner + STATE_SIZE, 2 * inner + 2 * STATE_SIZE)
    mamba.in_proj.weight[gate : gate + MARKERS, IS_QUESTION] = 1.0
    mamba.in_proj.weight[x : x + MARKERS, CODE] = torch.eye(MARKERS)
    mamba.in_proj.weight[B, IS_MARKER] = 1.0
    mamba.in_proj.weight[C, IS_QUESTION] = 1.0
    mamba.in_proj.weight[dt, IS_MARKER] = 3.0
    mamba.dt_bias.fill_(-12.0)
    mamba.conv1d.weight[:, 0, -1] = 1.0  # the token itself
    mamba.out_proj.weight[ANSWER, CODE] = 0.25 * torch.eye(MARKERS)


def questions(distance: int) -> list[list[int]]:
    """One prompt for each marker, which stands `distance` tokens before the question; the fillers are the same."""
    generator = torch.Generator().manual_seed(distance)
    fillers = torch.randint(FIRST_FILLER, VOCABULARY, (distance - 1,), generator=generator).tolist()
    return [[marker, *fillers, QUESTION] for marker in range(MARKERS)]
