"""The conversation with an engine's worker: its operations, the types of their answers, and the worker's side of it.

A worker is its own process under the interpreter of its arm. It imports the standard library and its engine, never
the rest of this package, so any virtual environment that holds the engine can run it. Whatever the engine prints
goes to the log that the parent opened as standard output; the conversation has its own two file descriptors.

Request: `{"operation": str, "arguments": object}`. Reply: `{"result": object}` or
`{"error": {"type": str, "message": str, "traceback": str}}`. One reply to each request, in order. Before it a worker
may send `{"stage": str}` (`begin_stage`): from then on the deadline of that stage holds. Every worker answers `ready`,
with null, as soon as it serves. The end of the request pipe ends the worker.

The answers of a worker are the dataclasses below. What an engine does not have is null, said out loud: the parent reads
an answer by its type (`engines.answers`), and a missing or surplus field is an error.
"""

from __future__ import annotations

import ctypes
import dataclasses
import json
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TextIO, TypeVar

READ_DESCRIPTOR = "HYBRID_OPS_WORKER_READ"
WRITE_DESCRIPTOR = "HYBRID_OPS_WORKER_WRITE"
PARENT = "HYBRID_OPS_WORKER_PARENT"


LOAD_STAGE, COMPILE_STAGE, CAPTURE_STAGE = "load", "compile", "capture"
"""The stages of a load, in order: the weights, the compilation with the first steps, and the cache with CUDA graphs."""

AnswerT = TypeVar("AnswerT")


@dataclass(frozen=True)
class Operation(Generic[AnswerT]):
    """Something that a worker can be asked to do, and the type of its answer."""

    name: str
    answer: type[AnswerT]


@dataclass(frozen=True)
class CacheGroup:
    """Layers that share block tables."""

    kind: str
    """The engine's own name for what they keep, such as `FullAttentionSpec`."""
    layers: int
    block_size: int
    """Tokens that a block holds."""
    page_bytes: int
    """Bytes that a block takes for one layer."""


@dataclass(frozen=True)
class CacheFacts:
    """The cache of a loaded engine."""

    groups: list[CacheGroup]
    num_blocks: int
    block_size: int
    """Tokens that a block holds, as the engine was configured."""
    bytes_per_block: int
    """For all layers of a group."""
    in_flight_tokens: int
    """Most tokens of one engine step."""
    prefix_caching: bool
    max_concurrency: float
    """Sequences of `max_model_len` tokens that fit at once."""
    max_model_len: int


@dataclass(frozen=True)
class ServerFacts:
    """The server that a load is put on."""

    url: str
    model: str
    """What the server calls the model."""
    own: bool
    """Whether the worker started it."""


@dataclass(frozen=True)
class DeviceFacts:
    """Where the engine runs, as the engine itself sees it."""

    platform: str
    """`cpu`, `cuda`, or `server` for a server that someone else started."""
    name: str | None
    uuid: str | None
    memory_bytes: int | None
    threads: int | None
    """Threads that compute, on a CPU."""


@dataclass(frozen=True)
class LoadFacts:
    """What a loaded engine is made of."""

    load_seconds: float
    model_bytes: int | None
    """Bytes of the weights before any kernel repacks them; null where the engine cannot tell."""
    cache: CacheFacts | None
    """Null for an engine without one, or one that does not show it."""
    device: DeviceFacts
    reference_kernels: list[str]
    """Operations that run on the suite's reference kernels: their times are not the engine's."""
    versions: dict[str, str]
    """Of the engine and of what it runs on. Nothing that is only a guess."""
    server: ServerFacts | None
    compile_seconds: float | None = None
    """Null where nothing was compiled, or the engine does not tell."""
    capture_seconds: float | None = None
    """Of its graphs, of the slowest rank; null where none were captured."""
    unknown_variables: list[str] = field(default_factory=list)
    """Variables of its environment that are named as its own are, and that it does not read."""


@dataclass(frozen=True)
class RankMemory:
    """What one rank of an engine has allocated on its device, in bytes."""

    weights: int
    cache: int
    """Preallocated, whether in use or not."""
    graphs: int
    """Taken by the capture of CUDA graphs, which hold their activations."""
    activations: int
    """Most that a step of the batch allocated beyond what stays allocated between batches."""


@dataclass(frozen=True)
class GeneratedRequest:
    """One generation of a batch."""

    token_arrivals: list[float]
    """When each of its tokens came, in seconds from the moment before the first request was added."""


@dataclass(frozen=True)
class GenerationSample:
    """One closed batch, from the first request to the last token."""

    elapsed_seconds: float
    prompt_tokens: int
    cached_tokens: int
    """Prompt tokens that the prefix cache had."""
    requests: list[GeneratedRequest]
    steps: list[tuple[float, int]]
    """Each engine step: its seconds, and the tokens that it put out."""
    model_steps: int
    """Those in which the model computed. Under asynchronous scheduling a batch has one step more, in which the engine
    only takes work or hands out what the step before has computed."""
    output_hash: str
    """Of all generated token ids."""
    leading_tokens: list[list[int]]
    """The first token ids of the first generations, to see how far two outputs agree."""
    peak_blocks: int
    """Most cache blocks held at once."""
    peak_memory_bytes: int
    """On a device the most bytes allocated at once beside the preallocated cache, of the fullest rank; on a CPU those
    resident in the process since its start."""
    ranks: list[RankMemory]
    """Memory of each rank on its device; empty on a CPU."""
    kernel_choices: dict[str, str]
    """What each kernel that chooses by timing has chosen; empty where none does."""

    @property
    def parts(self) -> Sequence[GenerationSample]:
        """What each engine did that had a part in the batch: this one alone, but for replicas."""
        return (self,)


@dataclass(frozen=True)
class LengthFigures:
    """What a sequence of one length takes."""

    bytes: int
    max_concurrency: float


@dataclass(frozen=True)
class CacheLayout:
    """How the engine divides its cache."""

    block_size: int
    page_bytes: int
    num_blocks: int
    groups: list[tuple[str, int]]
    """Kind and number of layers of each."""
    bytes_per_token: int
    lengths: dict[str, LengthFigures]
    """By length in tokens."""


@dataclass(frozen=True)
class PrefixSample:
    """What the prefix cache found of a prompt, and the logits after it."""

    found: int
    """Tokens, after another prompt with the same beginning."""
    found_when_empty: int
    with_cache: list[float]
    without_cache: list[float]


@dataclass(frozen=True)
class ScoredText:
    """What an engine thinks of a text that it was given."""

    scores: list[float]
    """Of each token after the first: its log-probability, or its logit where the engine was started to give logits."""
    best: list[int]
    """The token that it would have put there."""


@dataclass(frozen=True)
class PathSample:
    """How far two ways to compute the same tokens lie apart."""

    error: float
    """Largest difference of a score."""
    text: int
    position: int
    """Where it is: the text, and the token in it."""
    compared: int
    """Tokens that were compared."""


@dataclass(frozen=True)
class DrawnParameter:
    """A parameter whose values were drawn from its name."""

    name: str
    shape: list[int]
    dtype: str
    """As torch calls it, such as `bfloat16`."""
    module: str
    """The class of the module that it belongs to."""


@dataclass(frozen=True)
class DrawnWeights:
    """What the weights of an engine were drawn from: enough to draw them again."""

    seed: int
    device: str
    """Where they were drawn: each kind of device has random numbers of its own."""
    parameters: list[DrawnParameter]


@dataclass(frozen=True)
class ScoreSample:
    """Texts scored by an engine, and whether its ways to compute them agree."""

    texts: list[ScoredText]
    """Each text alone, in one prefill."""
    paths: dict[str, PathSample]
    """By the name of the other way, such as `chunked`."""
    cached_tokens: int | None
    """Tokens that the prefix cache had of the text that was asked twice; null without a prefix cache."""
    are_logits: bool
    """Whether scores are logits rather than log-probabilities."""
    weights: DrawnWeights | None
    """Null for weights that were not drawn, or that ranks divide in an unknown way."""


@dataclass(frozen=True)
class ServedRequest:
    """One request of a load."""

    success: bool
    error: str
    """Why it failed; empty for a success."""
    expected: int
    """Tokens that it was to generate."""
    generated: int | None
    """Tokens that the server counted; null where the stream ended without the count."""


@dataclass(frozen=True)
class LoadSample:
    """One load as the load generator saw it."""

    result: dict[str, float | int | str]
    """Its own summary."""
    requests: list[ServedRequest]
    timed: tuple[float, float]
    """When the first request was sent and the last one ended, on the system's monotonic clock."""


@dataclass(frozen=True)
class LayerRound:
    """One round of a layer's contenders, each timed once."""

    seconds: dict[str, float]
    """By contender: of everyone who agrees with the reference, and of every yardstick."""
    errors: dict[str, float]
    """Relative distance from the float64 reference, of those who gave finite numbers."""
    bounds: dict[str, float]
    """What is allowed of it."""
    refused: dict[str, str]
    """Who has no time, and why."""


@dataclass(frozen=True)
class LlamaBenchSample:
    """One test of llama-bench. Fields but `starts` have the names and values of its own JSON."""

    n_prompt: int
    n_gen: int
    n_depth: int
    samples_ns: list[int]
    """The time of each repetition."""
    starts: list[float]
    """When each repetition began, on the system's monotonic clock; empty where the program does not tell."""
    model_type: str
    model_size: int
    """Bytes of the weights."""
    model_n_params: int
    backends: str
    build_commit: str
    build_number: int
    n_threads: int
    n_batch: int
    n_ubatch: int
    n_gpu_layers: int
    flash_attn: str
    """`0` or `1`, or another word of its own."""


@dataclass(frozen=True)
class MaskFacts:
    """What an attention kernel's mask lets through."""

    block_density: float
    """Share of the blocks of 128 queries and 128 keys in which any key is seen."""
    exact_density: float
    """Share of the pairs of a query and a key."""
    picture: str
    """Rows joined by "/"; in each a digit for so many columns: 0 for nothing seen, 1 for some, 2 for every pair."""


@dataclass(frozen=True)
class KernelPass:
    """One pass of a kernel, forward or backward, in one round."""

    contenders: LayerRound
    peak_bytes: dict[str, int]
    """By contender, the most bytes it has allocated at one time; of a backward pass with its forward pass."""
    flops: dict[str, float]
    """By contender, floating-point operations with the mask's block density."""
    exact_flops: dict[str, float]
    """With its exact density."""
    moved_bytes: int | None
    """What it must read and write at least once; null where nobody computes it."""
    matmul_seconds: float
    """The device's yardsticks in the same round: a product of two matrices,"""
    copy_seconds: float
    """and a copy in memory."""


@dataclass(frozen=True)
class KernelRound:
    """One round of a kernel."""

    passes: dict[str, KernelPass]
    """By direction: forward, backward."""
    mask: MaskFacts | None
    matmul_flops: float
    """Of the yardsticks: what the product computes,"""
    copied_bytes: int
    """and what the copy reads and writes."""


@dataclass(frozen=True)
class TrainingMemory:
    """Bytes that training takes on its device."""

    weights: int
    gradients: int
    optimizer: int
    """What the optimizer keeps of each weight."""
    activations: int
    """Most that forward and backward passes have at one time beside these."""
    peak: int
    """Most bytes at one time in a step."""


@dataclass(frozen=True)
class TrainingSample:
    """One optimizer step, and what is known of its plan since the first one."""

    forward_seconds: float
    backward_seconds: float
    optimizer_seconds: float
    """With the norm of the gradient and its clipping."""
    losses: list[float | None]
    """Of each step of the trajectory; null for one that is not finite."""
    gradient_norms: list[float | None]
    loss_error: float | None
    """The largest relative distance of a loss from float64's; null where there was no comparison."""
    gradient_norm_error: float | None
    refusal: str | None
    """Why the step's time must not count; null where everything agrees."""
    flops: int | None
    """Of a step of one process, as torch's counter sees them; null where it cannot see."""
    memory: TrainingMemory


@dataclass(frozen=True)
class CommandResult:
    """A command that the worker ran beside its server."""

    status: int
    output: str
    """Standard output, then standard error."""


LOAD = Operation("load", LoadFacts)
GENERATE = Operation("generate", GenerationSample)
PROBE_CACHE = Operation("probe_cache", CacheLayout)
PROBE_PREFIX = Operation("probe_prefix", PrefixSample)
SCORE = Operation("score", ScoreSample)
BENCH = Operation("bench", LoadSample)
RUN = Operation("run", CommandResult)
TIME_LAYER = Operation("time_layer", LayerRound)
LLAMA_BENCH = Operation("llama_bench", LlamaBenchSample)
TIME_KERNEL = Operation("time_kernel", KernelRound)
TRAIN = Operation("train", TrainingSample)


def serve(operations: dict[str, Callable[..., Any]]) -> None:
    """Answer requests until the parent closes the pipe.

    `operations` maps an operation's name to a function of the request's arguments; its return value must be JSON or a
    dataclass of what is JSON. An exception is an answer too: the parent decides whether the worker goes on.
    """
    global _replies
    die_with_parent(_parent_death_signal)
    requests = os.fdopen(int(os.environ.pop(READ_DESCRIPTOR)), encoding="utf-8")
    _replies = os.fdopen(int(os.environ.pop(WRITE_DESCRIPTOR)), "w", encoding="utf-8")
    operations = {"ready": _ready, **operations}
    for line in requests:
        request = json.loads(line)
        try:
            reply = {"result": _as_json(operations[request["operation"]](**request["arguments"]))}
        except Exception as error:
            traceback.print_exc()
            reply = {
                "error": {
                    "type": type(error).__name__,
                    "message": str(error),
                    "traceback": traceback.format_exc(),
                }
            }
        sys.stdout.flush()
        _send(reply)


def begin_stage(name: str) -> None:
    """Tell the parent that a stage of the present operation begins, which has a deadline of its own."""
    if _replies is not None:
        _send({"stage": name})


_replies: TextIO | None = None
"""The pipe to the parent, while the worker serves."""


def _send(line: dict[str, Any]) -> None:
    assert _replies is not None
    _replies.write(json.dumps(line) + "\n")
    _replies.flush()


def _as_json(answer: Any) -> Any:
    is_typed = dataclasses.is_dataclass(answer) and not isinstance(answer, type)
    return dataclasses.asdict(answer) if is_typed else answer


def _ready() -> None:
    """The answer to `ready`: whatever the worker does before it serves is done."""


_parent_death_signal = signal.SIGKILL


def end_group_with_parent() -> None:
    """Before `serve`: have the parent's death end this process's whole group, for workers that start processes.

    Linux signals only the process that asked for it, so that one passes it on.
    """
    global _parent_death_signal
    _parent_death_signal = signal.SIGTERM
    signal.signal(signal.SIGTERM, lambda number, frame: os.killpg(0, signal.SIGKILL))


def die_with_parent(how: signal.Signals = signal.SIGKILL) -> None:
    """Have Linux signal this process when its parent dies, so that a killed test run leaves no engine behind."""
    if sys.platform == "linux":
        set_parent_death_signal = 1  # PR_SET_PDEATHSIG, <linux/prctl.h>
        ctypes.CDLL(None).prctl(set_parent_death_signal, how)
    if os.getppid() != int(os.environ.pop(PARENT)):
        sys.exit("the parent died before this worker began")


_EXCEPTION = re.compile(r"(?:^|\s)((?:\w+\.)*\w*(?:Error|Exception|Interrupt)): ?(.*)")


def exceptions_in(log: str, following_lines: int = 0) -> list[str]:
    """The exceptions that a log shows, in order, as `Type: message`.

    `following_lines` adds so many of the lines after each, where a message goes on.
    """
    lines = log.splitlines()
    found = []
    for number, line in enumerate(lines):
        if (match := _EXCEPTION.search(line)) and not line.lstrip().startswith("raise "):
            rest = [text.strip() for text in lines[number + 1 : number + 1 + following_lines]]
            found.append(" ".join(filter(None, [f"{match[1].rpartition('.')[2]}: {match[2]}".strip(), *rest])))
    return found
