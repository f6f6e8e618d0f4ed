"""What the workers and plugins need of vLLM beyond what they import: names that vLLM does not promise to keep.

Every release that `pyproject.toml` allows is held against this list, by its sources (`tests/contract`). What a file of
ours imports from vLLM is found by reading it, and need not be listed. `ci/vllm-contract VERSION` reads another release.
"""

from __future__ import annotations

OF_CPU_ONLY = ("vllm_plugins/fallbacks",)
"""Our files that serve vLLM's CPU build alone, whose release is pinned."""

ENGINE_ARGUMENTS = (
    "attention_backend",
    "disable_log_stats",
    "dtype",
    "enable_prefix_caching",
    "enforce_eager",
    "gpu_memory_utilization",
    "kv_cache_memory_bytes",
    "load_format",
    "logprobs_mode",
    "mamba_ssm_cache_dtype",
    "max_logprobs",
    "max_model_len",
    "max_num_batched_tokens",
    "max_num_seqs",
    "seed",
    "skip_tokenizer_init",
    "tensor_parallel_size",
)
VARIABLES = (
    "VLLM_ALLOW_LONG_MAX_MODEL_LEN",
    "VLLM_DISABLE_COMPILE_CACHE",
    "VLLM_ENABLE_V1_MULTIPROCESSING",
    "VLLM_SERVER_DEV_MODE",
    "VLLM_TRITON_FORCE_FIRST_CONFIG",
)

NEEDS: dict[str, str] = {
    # vllm_worker.py: the engine, step by step
    "vllm.v1.engine.llm_engine:LLMEngine.from_engine_args": "(engine_args)",
    "vllm.v1.engine.llm_engine:LLMEngine.add_request": "(request_id, prompt, params)",
    "vllm.v1.engine.llm_engine:LLMEngine.step": "()",
    "vllm.v1.engine.llm_engine:LLMEngine.has_unfinished_requests": "()",
    "vllm.v1.engine.llm_engine:LLMEngine.reset_prefix_cache": "()",
    "vllm.v1.engine.llm_engine:LLMEngine.collective_rpc": "(method)",
    "vllm.v1.engine.llm_engine:LLMEngine.engine_core": "",
    "vllm.v1.engine.llm_engine:LLMEngine.vllm_config": "",
    "vllm.v1.engine.core_client:InprocClient.engine_core": "",
    "vllm.v1.engine.core_client:InprocClient.get_output>step_fn": "",
    "vllm.v1.engine.core:EngineCore.scheduler": "",
    "vllm.v1.engine.core:EngineCore.step_fn": "",
    "vllm.v1.core.sched.scheduler:Scheduler.kv_cache_manager": "",
    "vllm.v1.core.sched.scheduler:Scheduler.kv_cache_config": "",
    "vllm.v1.core.kv_cache_manager:KVCacheManager.block_pool": "",
    "vllm.v1.core.block_pool:BlockPool.get_num_free_blocks": "()",
    "vllm.outputs:RequestOutput.num_cached_tokens": "",
    "vllm.outputs:CompletionOutput.token_ids": "",
    "vllm.sampling_params:RequestOutputKind.DELTA": "",
    "vllm.sampling_params:SamplingParams.max_tokens": "",
    "vllm.sampling_params:SamplingParams.ignore_eos": "",
    "vllm.sampling_params:SamplingParams.detokenize": "",
    "vllm.sampling_params:SamplingParams.output_kind": "",
    "vllm.sampling_params:SamplingParams.logprobs": "",
    "vllm.sampling_params:SamplingParams.seed": "",
    "vllm.config.vllm:VllmConfig.max_in_flight_tokens": "",
    "vllm.config.vllm:VllmConfig.cache_config": "",
    "vllm.config.vllm:VllmConfig.compilation_config": "",
    "vllm.config.vllm:VllmConfig.model_config": "",
    "vllm.config.model:ModelConfig.max_model_len": "",
    "vllm.config.cache:CacheConfig.block_size": "",
    "vllm.config.cache:CacheConfig.enable_prefix_caching": "",
    "vllm.config.cache:CacheConfig.kv_cache_max_concurrency": "",
    "vllm.config.compilation:CompilationConfig.compilation_time": "",
    "vllm.v1.executor.abstract:Executor.determine_available_memory": "()",
    "vllm.v1.executor.abstract:Executor.initialize_from_config": "(kv_cache_configs)",
    # vllm_probes.py: the division of the cache
    "vllm.v1.core.kv_cache_utils:get_kv_cache_capacity": "(vllm_config, kv_cache_config)",
    "vllm.v1.kv_cache_interface:KVCacheConfig.num_blocks": "",
    "vllm.v1.kv_cache_interface:KVCacheConfig.kv_cache_tensors": "",
    "vllm.v1.kv_cache_interface:KVCacheConfig.kv_cache_groups": "",
    "vllm.v1.kv_cache_interface:KVCacheTensor.size": "",
    "vllm.v1.kv_cache_interface:KVCacheTensor.block_stride": "",
    "vllm.v1.kv_cache_interface:KVCacheGroupSpec.layer_names": "",
    "vllm.v1.kv_cache_interface:KVCacheGroupSpec.kv_cache_spec": "",
    "vllm.v1.kv_cache_interface:KVCacheSpec.block_size": "",
    "vllm.v1.kv_cache_interface:KVCacheSpec.page_size_bytes": "",
    "vllm.v1.kv_cache_interface:KVCacheSpec.max_memory_usage_bytes": "(vllm_config)",
    "vllm.v1.kv_cache_interface:UniformTypeKVCacheSpecs.kv_cache_specs": "",
    # vllm_plugins: what is asked of each rank, the injection, the load format
    "vllm.v1.worker.gpu_worker:Worker.execute_model": "(scheduler_output)",
    "vllm.v1.worker.gpu_worker:Worker.model_runner": "",
    "vllm.v1.worker.gpu_model_runner:GPUModelRunner.capture_model": "()",
    "vllm.v1.worker.gpu_model_runner:GPUModelRunner.kv_caches": "",
    "vllm.v1.worker.gpu_model_runner:GPUModelRunner.model_memory_usage": "",
    "vllm.v1.worker.gpu.model_runner:GPUModelRunner.capture_model": "()",
    "vllm.v1.worker.gpu.model_runner:GPUModelRunner.kv_caches": "",
    "vllm.v1.worker.gpu.model_runner:GPUModelRunner.model_memory_usage": "",
    "vllm.v1.core.sched.output:SchedulerOutput.total_num_scheduled_tokens": "",
    "vllm.v1.engine.core:EngineCore.step": "()",
    "vllm.v1.engine.core:EngineCore.step_with_batch_queue": "()",
    "vllm.v1.engine.core:EngineCore.model_executor": "",
    "vllm.v1.executor.abstract:Executor.execute_model": "(scheduler_output, non_block)",
    "vllm.v1.executor.abstract:Executor.sample_tokens": "(grammar_output, non_block)",
    "vllm.model_executor.model_loader:register_model_loader": "(load_format)",
    "vllm.model_executor.model_loader.base_loader:BaseModelLoader.load_weights": "(model, model_config)",
    "vllm.model_executor.model_loader.default_loader:DefaultModelLoader.load_weights": "(model, model_config)",
    # server_worker.py: the load generator
    "vllm.benchmarks.serve:add_cli_args": "(parser)",
    "vllm.benchmarks.serve:main": "(args)",
    "vllm.benchmarks.serve:calculate_metrics": "(input_requests, outputs)",
    "vllm.entrypoints.cli.main:main": "()",
    **{f"vllm.engine.arg_utils:EngineArgs.{name}": "" for name in ENGINE_ARGUMENTS},
    **{f"vllm.envs:environment_variables[{name}]": "" for name in VARIABLES},
}
"""`module:name`, `module:Class.member`, `module:dict[key]`, or `module:Class.method>name` for a method that must use a
name; and the parameters that we give, in order, of what we call or wrap."""
