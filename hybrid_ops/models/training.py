"""What a training step costs a model: FLOPs of forward and backward passes, and the least memory by part.

What is counted, and what is not:

- FLOPs of the forward pass are those of `cost.py`, with the output head for every token. The backward pass has twice as
  many: for each product of the forward pass one for the gradient of either operand. What gradient checkpointing
  computes again is work of the implementation, not of the model: no utilisation counts it, and it is told apart.
- Bytes of weights, gradients and optimizer are exact. Those of activations are the least that a backward pass needs of
  a forward pass without checkpointing: the inputs of norms and of projections, what projections hand to products that
  are not theirs (queries, keys, values, gates), and the logits with their softmax. Softmax of attention is recomputed,
  as flash attention does. An implementation that keeps more, such as upcast copies, takes more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hybrid_ops.models.cost import Flops, attended_pairs
from hybrid_ops.models.stack import Component, MixtureOfExperts, ModelStack, Projection, Recurrent

BACKWARD = 2
"""FLOPs of the backward pass over those of the forward pass."""
MASTER_BYTES = {"float32": 4, "bfloat16": 2, "bfloat16-mixed": 4}
"""Bytes of a weight, of its gradient, and of each number that an optimizer keeps of it, by precision."""
ACTIVATION_BYTES = {"float32": 4, "bfloat16": 2, "bfloat16-mixed": 2}
"""Bytes of what a product reads."""
OPTIMIZER_NUMBERS = {"adamw": 2, "sgd": 0}
"""Numbers kept for each weight."""
LOSS_BYTES = {"float32": 4, "bfloat16": 8, "bfloat16-mixed": 8}
"""Bytes a logit beside the logit itself: in float32, where it is not so already, and as the log of its probability."""


@dataclass(frozen=True)
class TrainingFlops:
    """FLOPs of one optimizer step."""

    forward: Flops
    recomputed: int
    """What gradient checkpointing computes again."""

    @property
    def backward(self) -> int:
        return BACKWARD * self.forward.total

    @property
    def total(self) -> int:
        """The model's own: forward and backward, without what is computed again."""
        return self.forward.total + self.backward


@dataclass(frozen=True)
class TrainingBytes:
    """The least bytes of a training step on one device."""

    weights: int
    gradients: int
    optimizer: int
    activations: int
    accumulated: bool
    """Whether the gradients of earlier parts are there while activations are."""

    @property
    def total(self) -> int:
        """The least peak. Gradients come as activations go, unless those of earlier parts are there already."""
        both = (self.gradients, self.activations)
        return self.weights + self.optimizer + (sum(both) if self.accumulated else max(both))


def training_flops(
    model: ModelStack, batch: int, tokens: int, *, documents: Sequence[int] = (), checkpointing: bool = False
) -> TrainingFlops:
    """FLOPs of a step of `batch` sequences of `tokens` tokens.

    `documents` are the lengths of packed documents, which do not see each other, in place of whole sequences.
    """
    lengths = list(documents) or [tokens] * batch
    count = batch * tokens
    forward = Flops(
        projections=count * model.projection_flops,
        convolution=count * model.convolution_flops,
        attention=sum(
            flops * sum(attended_pairs(length, window) for length in lengths)
            for window, flops in model.pair_flops.items()
        ),
        scan=count * model.scan_flops,
        head=count * model.head.flops,
    )
    return TrainingFlops(forward, forward.total - forward.head if checkpointing else 0)


def training_bytes(
    model: ModelStack,
    sequences: int,
    tokens: int,
    precision: str,
    optimizer: str = "adamw",
    *,
    checkpointing: bool = False,
    accumulated: bool = False,
) -> TrainingBytes:
    """The least bytes while `sequences` sequences are computed at one time: a part of the batch, of one process.

    With `checkpointing` the input of each layer is kept, and one layer's activations at a time. `accumulated` says that
    the batch has several parts.
    """
    width = MASTER_BYTES[precision]
    count = sequences * tokens
    layers = [sum(map(saved_numbers, layer.components)) for layer in model.layers]
    kept = len(layers) * model.hidden + max(layers, default=0) if checkpointing else sum(layers)
    # The last norm's input and output, then the logits.
    numbers = kept + 2 * model.hidden + model.vocabulary
    return TrainingBytes(
        weights=width * model.parameters,
        gradients=width * model.parameters,
        optimizer=width * OPTIMIZER_NUMBERS[optimizer] * model.parameters,
        activations=count * (ACTIVATION_BYTES[precision] * numbers + LOSS_BYTES[precision] * model.vocabulary),
        accumulated=accumulated,
    )


def saved_numbers(part: Component) -> int:
    """Numbers a token that the backward pass needs of one component: of its norm's input on.

    A projection that reads what the component was given hands its outputs on; one that reads something else, such as
    the outputs of attention, needs them. Recurrent layers also keep what comes out of their convolution, and each
    chosen expert has its own inputs and outputs.
    """
    if not part.projections:
        return 0
    width = part.projections[0].inputs
    numbers = 2 * width + sum(_own_numbers(one, width) for one in part.projections)
    if isinstance(part, Recurrent):
        numbers += part.channels
    if isinstance(part, MixtureOfExperts):
        numbers += part.active * (width + sum(_own_numbers(one, width) for one in part.expert))
    return numbers


def _own_numbers(projection: Projection, width: int) -> int:
    return projection.outputs if projection.inputs == width else projection.inputs
