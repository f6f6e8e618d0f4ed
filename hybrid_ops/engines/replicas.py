"""Replicas: several engines of one launch, each on devices of its own, that answer a batch together.

They start at the same time. A batch is divided over them, prompt by prompt in turn, and sent to all before any answer
is waited for. Their answers are put together: requests and steps are pooled, and the batch ends with the last of them.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from hybrid_ops.engines.answers import AnswerError, read_answer
from hybrid_ops.engines.protocol import GENERATE, LOAD, CacheFacts, GenerationSample, LoadFacts, Operation
from hybrid_ops.engines.worker import Worker, WorkerError

AnswerT = TypeVar("AnswerT")
REPLICATED = frozenset({GENERATE.name})
"""What replicas can answer together, beside loading. A procedure that asks for more has no case of replicas."""


@dataclass(frozen=True)
class ReplicatedSample(GenerationSample):
    """A batch that several engines answered together."""

    of: tuple[GenerationSample, ...]
    """What each of them answered."""

    @property
    def parts(self) -> Sequence[GenerationSample]:
        return self.of


class Replicas(Worker):
    """Engine processes that are asked as one. This object is the first of them, and holds the others.

    Parameters
    ----------
    program, folder, interpreter: as a Worker has them; the others have folders below
    environments: the variables of each
    cores: the cores that each is bound to; those of this process where there are none
    """

    def __init__(
        self,
        program: Path,
        folder: Path,
        interpreter: str = sys.executable,
        environments: Sequence[Mapping[str, str | None]] = (),
        cores: Sequence[Sequence[int]] = (),
    ) -> None:
        self._others: list[Worker] = []
        super().__init__(program, folder, interpreter, environments[0], cores[0])
        try:
            for number, (variables, own) in enumerate(zip(environments[1:], cores[1:]), start=2):
                self._others.append(Worker(program, folder / f"replica-{number}", interpreter, variables, own))
        except WorkerError:
            self.kill()
            self.close()
            raise

    def ask(self, operation: Operation[AnswerT], deadline_seconds: float, **arguments: Any) -> AnswerT:
        """Ask all and put their answers together. Raises WorkerError, also for what replicas do not answer."""
        every = [self, *self._others]
        if operation.name == GENERATE.name:
            prompts = arguments.pop("prompts")
            if len(prompts) < len(every):
                raise WorkerError(f"{len(prompts)} prompts for {len(every)} replicas: each needs one", self.log)
            shares = [{**arguments, "prompts": prompts[first :: len(every)]} for first in range(len(every))]
        elif operation.name == LOAD.name:
            shares = [arguments] * len(every)
        else:
            raise WorkerError(f"replicas do not answer '{operation.name}'", self.log)
        try:
            for worker, share in zip(every, shares):
                worker.stage_seconds = self.stage_seconds
                worker.send(operation.name, **share)
            documents = [worker.receive(operation.name, deadline_seconds) for worker in every]
            answers: list[Any] = [read_answer(operation.answer, document) for document in documents]
        except (WorkerError, AnswerError) as error:
            self.kill()  # the others have answers on their way, which nobody would read
            raise WorkerError(f"{self.engine}: {error}", getattr(error, "log", self.log)) from None
        return joined_facts(answers) if operation.name == LOAD.name else joined_sample(answers)  # type: ignore[return-value]

    def kill(self) -> None:
        for worker in self._others:
            worker.kill()
        super().kill()

    def close(self) -> None:
        for worker in self._others:
            worker.close()
        super().close()


def joined_facts(found: Sequence[LoadFacts]) -> LoadFacts:
    """The facts of all replicas together: their weights and caches added up."""
    first = found[0]
    model_bytes = [one.model_bytes for one in found if one.model_bytes is not None]
    caches = [one.cache for one in found if one.cache is not None]
    return replace(
        first,
        load_seconds=max(one.load_seconds for one in found),
        model_bytes=sum(model_bytes) if len(model_bytes) == len(found) else None,
        cache=_joined_caches(caches) if len(caches) == len(found) else None,
        reference_kernels=sorted({kernel for one in found for kernel in one.reference_kernels}),
        compile_seconds=max((one.compile_seconds for one in found if one.compile_seconds is not None), default=None),
        capture_seconds=max((one.capture_seconds for one in found if one.capture_seconds is not None), default=None),
    )


def _joined_caches(caches: Sequence[CacheFacts]) -> CacheFacts:
    return replace(
        caches[0],
        num_blocks=sum(cache.num_blocks for cache in caches),
        max_concurrency=sum(cache.max_concurrency for cache in caches),
    )


def joined_sample(found: Sequence[GenerationSample]) -> ReplicatedSample:
    """One batch of all replicas: what each did in its share of it, pooled and added up. It ends with the last."""
    return ReplicatedSample(
        elapsed_seconds=max(one.elapsed_seconds for one in found),
        prompt_tokens=sum(one.prompt_tokens for one in found),
        cached_tokens=sum(one.cached_tokens for one in found),
        requests=[request for one in found for request in one.requests],
        steps=[step for one in found for step in one.steps],
        model_steps=sum(one.model_steps for one in found),
        output_hash=hashlib.sha256(" ".join(one.output_hash for one in found).encode()).hexdigest()[:16],
        leading_tokens=[tokens for one in found for tokens in one.leading_tokens],
        peak_blocks=sum(one.peak_blocks for one in found),
        peak_memory_bytes=max(one.peak_memory_bytes for one in found),
        ranks=[rank for one in found for rank in one.ranks],
        kernel_choices={kernel: choice for one in found for kernel, choice in one.kernel_choices.items()},
        of=tuple(found),
    )
