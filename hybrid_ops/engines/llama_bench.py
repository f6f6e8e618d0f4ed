"""llama-bench, llama.cpp's own benchmark program, driven test by test by `llama_bench_worker.py`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from hybrid_ops.engines.engine import Engine
from hybrid_ops.engines.gguf_models import drawn_gguf
from hybrid_ops.engines.protocol import LLAMA_BENCH
from hybrid_ops.engines.spec import EngineSpec
from hybrid_ops.errors import InputError
from hybrid_ops.models.packaged import packaged_gguf

ARGUMENTS: dict[str, Any] = {"flash_attn": True}
"""Options of every launch, unless the model or the configuration says otherwise."""
WEIGHTS_TYPE = "weights_type"
"""The one argument that is no option of llama-bench: the type of the matrices of drawn weights, `F16` or `F32`."""


class LlamaBench(Engine):
    """Arguments are llama-bench's long options with underscores: `flash_attn`, `threads`, `batch_size`, `n_gpu_layers`.

    Its model is a GGUF file: one by path (`gguf` of the zoo entry), one of a package, or one that is written here with
    drawn weights.
    """

    name: ClassVar[str] = "llama-bench"
    worker: ClassVar[Path] = Path(__file__).with_name("llama_bench_worker.py")
    operations: ClassVar[frozenset[str]] = frozenset({LLAMA_BENCH.name})
    reads_gguf: ClassVar[bool] = True

    def arguments(self, spec: EngineSpec) -> dict[str, Any]:
        return {**self._defaults(spec), **spec.sizing, **spec.arguments}

    def portable_arguments(self, spec: EngineSpec) -> dict[str, Any]:
        return {**self._defaults(spec), **spec.arguments}

    def _defaults(self, spec: EngineSpec) -> dict[str, Any]:
        """The suite's and the model's. What a zoo entry gives to another engine of its own is nothing for this one."""
        own = spec.entry.arguments if spec.entry.engine == self.name else {}
        drawn = {WEIGHTS_TYPE: "F16"} if spec.weights == "seeded" else {}
        return {**ARGUMENTS, **drawn, **own}

    def prepare(self, spec: EngineSpec, folder: Path) -> str:
        """The path of the GGUF file. Raises InputError."""
        if spec.weights == "gguf":
            path = spec.entry.gguf_path
            if not path.is_file():
                raise InputError(f"{spec.entry.source}: models.{spec.model}.gguf: no such file: {path}")
            return str(path)
        if spec.weights == "packaged":
            assert spec.entry.package is not None
            return str(packaged_gguf(spec.entry.package))
        if spec.weights == "hub":
            raise InputError(f"{spec.entry.source}: models.{spec.model}: llama-bench reads a file: set gguf: PATH")
        file_type = self.arguments(spec)[WEIGHTS_TYPE]
        return str(drawn_gguf(spec.model_config(), file_type, str(spec.entry.config_path)))

    def load_request(self, spec: EngineSpec, folder: Path, stages: Mapping[str, float]) -> dict[str, Any]:
        options = {name: value for name, value in self.arguments(spec).items() if name != WEIGHTS_TYPE}
        return {"model": self.prepare(spec, folder), "arguments": options}

    def definition(self, spec: EngineSpec) -> list[str]:
        """The file of a model that is given by path, by its name and size: such files are too long to hash."""
        if spec.weights != "gguf":
            return []
        path = spec.entry.gguf_path
        return [path.name, str(path.stat().st_size) if path.is_file() else "no file"]
