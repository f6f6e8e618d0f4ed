"""A worker that gives log-probabilities: real vLLM engines, one after another in one process.

Run by its path, as every worker is: it sees `hybrid_ops` alone.
"""

from __future__ import annotations

import gc
import os
from typing import Any

from hybrid_ops.engines.protocol import serve


class LogitsWorker:
    def __init__(self) -> None:
        self.engine: Any = None
        self.requests_made = 0

    def load(self, model: str, arguments: dict[str, Any]) -> list[str]:
        """Start an engine instead of the one before; return what was replaced in it."""
        from vllm import EngineArgs, LLMEngine

        from hybrid_ops.engines.vllm_plugins import fallbacks

        self.engine = None
        gc.collect()
        fallbacks.replaced.clear()
        common = {
            "skip_tokenizer_init": True,
            "enforce_eager": True,
            "kv_cache_memory_bytes": 1 << 26,
            "max_model_len": 1024,
            "max_logprobs": -1,
        }
        self.engine = LLMEngine.from_engine_args(EngineArgs(model=model, **{**common, **arguments}))
        return sorted(fallbacks.replaced)

    def generate(self, prompts: list[list[int]], tokens: int, steps_between: int) -> list[dict[str, Any]]:
        """Generate greedily; prompt n is added after n·`steps_between` steps, so that batches mix.

        Returns, for each prompt, its tokens, the log-probabilities of the whole vocabulary at each of them, and how
        many of its tokens came from the prefix cache.
        """
        from vllm import SamplingParams

        parameters = SamplingParams(max_tokens=tokens, ignore_eos=True, detokenize=False, temperature=0, logprobs=-1)
        names = [str(self.requests_made + number) for number in range(len(prompts))]
        self.requests_made += len(prompts)
        waiting, done, step = list(zip(names, prompts, strict=True)), {}, 0
        while waiting or self.engine.has_unfinished_requests():
            while waiting and step >= steps_between * (len(prompts) - len(waiting)):
                name, prompt = waiting.pop(0)
                self.engine.add_request(name, {"prompt_token_ids": prompt}, parameters)
            done.update({output.request_id: output for output in self.engine.step() if output.finished})
            step += 1
        results = []
        for name in names:
            answer = done[name].outputs[0]
            results.append(
                {
                    "tokens": list(answer.token_ids),
                    "log_probabilities": [[row[i].logprob for i in range(len(row))] for row in answer.logprobs],
                    "cached": done[name].num_cached_tokens,
                }
            )
        return results

    def forget(self) -> None:
        """Empty the prefix cache."""
        self.engine.reset_prefix_cache()

    def limit_step(self, tokens: int) -> None:
        """Schedule at most so many tokens a step from now on; no more than the engine was started for."""
        self.engine.engine_core.engine_core.scheduler.max_num_scheduled_tokens = tokens

    def break_history(self, message: str) -> None:
        """Have the Mamba-2 layers of this engine raise an error."""
        from vllm.model_executor.layers.mamba.mamba_mixer2 import MambaMixer2

        def fail(**arguments: Any) -> None:
            raise RuntimeError(message)

        for layer in self.engine.vllm_config.compilation_config.static_forward_context.values():
            if isinstance(layer, MambaMixer2):
                layer.conv_ssm_forward = fail


if __name__ == "__main__":
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    worker = LogitsWorker()
    operations = (worker.load, worker.generate, worker.forget, worker.limit_step, worker.break_history)
    serve({operation.__name__: operation for operation in operations})
