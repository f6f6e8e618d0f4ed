"""Packed sequences of different lengths: many sequences in one batch row, told apart by `cu_seqlens`.

Each sequence is computed as if it were alone. That costs one call a sequence, wastes no memory on padding, and makes
a packed result equal to the unpacked one by construction instead of by masking.
"""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from hybrid_ops.layers.validation import sequence_boundaries

SequenceLayer = Callable[[tuple[Tensor, ...], Tensor | None], tuple[Tensor, Tensor]]
"""Takes the tensors of one sequence and its initial state (or None); returns its output and its final state."""


def over_sequences(
    layer: SequenceLayer,
    sequences: tuple[Tensor, ...],
    cu_seqlens: Tensor | None,
    initial_state: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Run a layer on each packed sequence and join the results; without `cu_seqlens`, on the batch as it is.

    Args:
        layer: called with the tensors of one sequence, each [1, T_n, ...], and its initial state [1, ...] or None;
            gives its output [1, T_n, ...] and final state [1, ...].
        sequences: the packed tensors, each [1, T, ...].
        cu_seqlens: [N + 1] cumulative lengths, or None: then nothing is packed and the layer is called once.
        initial_state: [N, ...], one for each sequence, or None.

    Returns:
        The packed output [1, T, ...] and the final states [N, ...], one for each sequence.

    Raises:
        TypeError, ValueError: naming `cu_seqlens` or `initial_state`.
    """
    if cu_seqlens is None:
        return layer(sequences, initial_state)
    batch, tokens = sequences[0].shape[:2]
    boundaries = sequence_boundaries(cu_seqlens, batch, tokens)
    count = len(boundaries) - 1
    if initial_state is not None and initial_state.shape[0] != count:
        raise ValueError(
            f"initial_state: expected one state for each of the {count} sequences of cu_seqlens, "
            f"got {initial_state.shape[0]}"
        )
    outputs, states = [], []
    for n, (start, end) in enumerate(pairwise(boundaries)):
        state = None if initial_state is None else initial_state[n : n + 1]
        output, final_state = layer(tuple(tensor[:, start:end] for tensor in sequences), state)
        outputs.append(output)
        states.append(final_state)
    return torch.cat(outputs, dim=1), torch.cat(states, dim=0)
