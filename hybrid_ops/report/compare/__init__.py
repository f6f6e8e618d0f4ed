"""The comparison of any two sets of results: runs, stored runs and what `vllm bench serve` wrote."""
