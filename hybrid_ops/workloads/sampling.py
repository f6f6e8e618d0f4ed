"""How tokens are drawn from the model's distribution."""

from __future__ import annotations

from pydantic import Field

from hybrid_ops.yaml_files import StrictModel


class Sampling(StrictModel):
    """Sampling parameters, named as vLLM's `SamplingParams` names them."""

    temperature: float = Field(default=0.0, ge=0)
    top_k: int = Field(default=0, ge=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    repetition_penalty: float = Field(default=1.0, gt=0)
