"""Loads on a server: how long the requests are, how many there are, and how they arrive."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from hybrid_ops.workloads.base import Workload
from hybrid_ops.workloads.sampling import Sampling

PERCENTILES = (90, 95, 99)
LATENCIES = ("ttft", "tpot", "itl", "e2el")
ENDPOINTS = {"completions": ("openai", "/v1/completions"), "chat": ("openai-chat", "/v1/chat/completions")}
"""The load generator's backend and the server's path for each endpoint."""
UNLIMITED: Literal["unlimited"] = "unlimited"


class ServingWorkload(Workload):
    """One load, in the terms of `vllm bench serve`.

    Closed loop: `max_concurrency` requests are kept in flight. Open loop: `request_rate` requests a second arrive
    whatever the server does. Both together bound an open loop.
    """

    dataset: Literal["random", "sharegpt", "custom"] = "random"
    """`random`: drawn tokens. `sharegpt`: first turns of a file of conversations. `custom`: a file of prompts, one JSON
    object a line, as `hybrid-perf data` writes it."""
    dataset_file: str | None = None
    """For `sharegpt` and `custom`: a file shipped with the suite, or one in `--perf-data`."""
    prompt_tokens: int | None = Field(default=None, gt=0)
    generation_tokens: int | None = Field(default=None, gt=0)
    """Tokens to generate for each request; for data files, in place of the file's own lengths."""
    prefix_tokens: int = Field(default=0, ge=0)
    """Tokens that all random prompts begin with, beyond `prompt_tokens`."""
    range_ratio: float = Field(default=0.0, ge=0, lt=1)
    """Random lengths lie between (1 - ratio) and (1 + ratio) times the given ones."""
    num_prompts: int = Field(gt=0)
    max_concurrency: int | Literal["unlimited"] = UNLIMITED
    request_rate: float | Literal["unlimited"] = UNLIMITED
    """Requests a second; `unlimited` sends all at once."""
    burstiness: float = Field(default=1.0, gt=0)
    """Shape of the gamma distribution of the gaps: 1 is a Poisson process, less comes in bursts, more is more even."""
    goodput: dict[Literal["ttft", "tpot", "e2el"], float] = {}
    """The service-level objective: a request is good when each of these is at most so many milliseconds."""
    endpoint: Literal["completions", "chat"] = "completions"
    ignore_eos: bool = True
    """Whether every request generates all its tokens. If not, output lengths are the model's choice."""
    sampling: Sampling = Sampling()
    warmup_iterations: int = Field(default=1, ge=0)
    warmup_prompts: int | None = Field(default=None, gt=0)
    """Prompts of a warm-up iteration; all of them when absent."""
    seed: int = 42
    arguments: dict[str, Any] = {}
    """The server's arguments (vLLM's `EngineArgs`) for this load beyond the model's, such as `max_model_len`."""
    environment: dict[str, str] = {}
    """Variables of the server's environment for this load."""
    sweep: str | None = None
    """The name of the concurrency sweep that this load is a point of."""

    @classmethod
    def expand(cls, entries: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, list[str]]]:
        """Replace each load whose `max_concurrency` is a list by one load for each of its members.

        `chat` with `[1, 8, unlimited]` becomes `chat-c1`, `chat-c8` and `chat-unlimited`.
        """
        loads: dict[str, Any] = {}
        sweeps: dict[str, list[str]] = {}
        for name, entry in entries.items():
            if isinstance(entry, dict) and isinstance(entry.get("max_concurrency"), list):
                for limit in entry["max_concurrency"]:
                    point = f"{name}-{limit if limit == UNLIMITED else f'c{limit}'}"
                    loads[point] = {**entry, "max_concurrency": limit, "sweep": name}
                    sweeps.setdefault(name, []).append(point)
            else:
                loads[name] = entry
        return loads, sweeps

    @model_validator(mode="after")
    def _is_whole(self) -> ServingWorkload:
        if self.dataset == "random":
            if self.prompt_tokens is None or self.generation_tokens is None:
                raise ValueError("a random load needs prompt_tokens and generation_tokens")
            if self.dataset_file is not None:
                raise ValueError("a random load has no dataset_file")
        else:
            if self.dataset_file is None:
                raise ValueError(f"a {self.dataset} load needs a dataset_file")
            if self.prompt_tokens is not None or self.prefix_tokens or self.range_ratio:
                raise ValueError("prompt_tokens, prefix_tokens and range_ratio are for random loads only")
        for name in ("max_concurrency", "request_rate"):
            value = getattr(self, name)
            if value != UNLIMITED and value <= 0:
                raise ValueError(f"{name} must be above 0, or {UNLIMITED}")
        if self.burstiness != 1 and self.request_rate == UNLIMITED:
            raise ValueError("burstiness has no effect without a request_rate")
        if any(limit <= 0 for limit in self.goodput.values()):
            raise ValueError("goodput limits are milliseconds above 0")
        return self

    def bench_arguments(self, dataset_path: Path | None, num_prompts: int | None = None) -> list[str]:
        """The options of `vllm bench serve` for this load, less those that say where the server is.

        `dataset_path` is the file to read for data that comes from one; `num_prompts` overrides the load's own number.
        """
        backend, path = ENDPOINTS[self.endpoint]
        options: dict[str, Any] = {
            "backend": backend,
            "endpoint": path,
            "dataset-name": self.dataset,
            "num-prompts": num_prompts or self.num_prompts,
            "seed": self.seed,
            "temperature": self.sampling.temperature,
            "percentile-metrics": ",".join(LATENCIES),
            "metric-percentiles": ",".join(map(str, PERCENTILES)),
        }
        if self.dataset == "random":
            options |= {
                "random-input-len": self.prompt_tokens,
                "random-output-len": self.generation_tokens,
                "random-prefix-len": self.prefix_tokens,
                "random-range-ratio": self.range_ratio,
            }
        else:
            options["dataset-path"] = dataset_path
            if self.generation_tokens is not None:
                options[f"{self.dataset}-output-len"] = self.generation_tokens
            elif self.dataset == "custom":
                options["custom-output-len"] = -1  # the lengths are in the file
        if self.max_concurrency != UNLIMITED:
            options["max-concurrency"] = self.max_concurrency
        if self.request_rate != UNLIMITED:
            options |= {"request-rate": self.request_rate, "burstiness": self.burstiness}
        for name, value in self.sampling.model_dump(exclude_defaults=True, exclude={"temperature"}).items():
            options[name.replace("_", "-")] = value
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        if self.dataset == "custom":
            words.append("--skip-chat-template")
        if self.ignore_eos:
            words.append("--ignore-eos")
        if self.goodput:
            words += ["--goodput", *(f"{name}:{limit:g}" for name, limit in sorted(self.goodput.items()))]
        return words
