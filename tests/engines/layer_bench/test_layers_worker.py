"""The layers' worker as a real process."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from hybrid_ops.engines.layer_bench.peers import installed_peers
from hybrid_ops.engines.layer_bench.shape import Shape, read_shape
from hybrid_ops.engines.layers import Layers
from hybrid_ops.engines.protocol import LOAD
from hybrid_ops.engines.worker import Worker, WorkerError

PROGRAM = Layers.worker
SHAPE = Shape(tokens=64, heads=2, window=32)
TORCH_NEEDS = ("torch", "torchgen", "typing_extensions", "sympy", "mpmath", "networkx", "jinja2", "markupsafe")
TORCH_NEEDS += ("filelock", "fsspec", "numpy")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder with a small shape, as a launch names it."""
    return write_config(tmp_path / "model", {"model_type": "layers", **dataclasses.asdict(SHAPE)})


def write_config(folder: Path, config: dict[str, Any]) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def test_it_loads_agrees_and_times(tmp_path: Path, model: Path) -> None:
    with Worker(PROGRAM, tmp_path / "launch") as worker:
        facts = worker.ask(LOAD, 60, model=str(model), arguments={"device": "cpu", "tokens": 96})
        assert (facts.device.platform, facts.device.threads) == ("cpu", 1)
        assert facts.model_bytes is None and facts.cache is None and facts.reference_kernels == []
        assert {"torch", "transformers"} <= set(facts.versions)
        rounds = [
            worker.request("time_layer", 60, layer="delta_rule", direction="forward", seed=seed) for seed in range(3)
        ]
        with pytest.raises(WorkerError, match="ValueError: case: 'attention/forward' is not one of"):
            worker.request("time_layer", 60, layer="attention", direction="forward", seed=0)
    peers = installed_peers("delta_rule", "forward", "cpu")
    for one in rounds:
        assert set(one["seconds"]) == {"ours", *peers}
        assert all(seconds > 0 for seconds in one["seconds"].values())
        assert set(one["errors"]) == set(one["bounds"]) == {"ours", *peers} - {"matmul floor"}
        assert all(error <= one["bounds"][name] for name, error in one["errors"].items())
        assert one["refused"] == {}
    assert rounds[0]["errors"] == rounds[1]["errors"]
    assert rounds[0]["seconds"] != rounds[1]["seconds"]


def test_it_needs_torch_alone(tmp_path: Path, model: Path) -> None:
    site = tmp_path / "torch-only"
    site.mkdir()
    for name in TORCH_NEEDS:
        if (found := importlib.util.find_spec(name)) and found.origin:
            path = Path(found.origin)
            path = path.parent if path.name == "__init__.py" else path
            (site / path.name).symlink_to(path)
    interpreter = tmp_path / "python"
    interpreter.write_text(f'#!/bin/sh\nPYTHONPATH="$PYTHONPATH:{site}" exec {sys.executable} -S "$@"\n')
    interpreter.chmod(0o755)
    with Worker(PROGRAM, tmp_path / "launch", interpreter=str(interpreter)) as worker:
        facts = worker.request("load", 60, model=str(model), arguments={})
        assert set(facts["versions"]) == {"torch"}
        answer = worker.request("time_layer", 60, layer="ssd", direction="backward", seed=0)
        assert set(answer["seconds"]) == {"ours"} and answer["refused"] == {}
        answer = worker.request("time_layer", 60, layer="window", direction="forward", seed=0)
        assert set(answer["seconds"]) == {"ours", "SDPA, dense mask", "SDPA, full causal", "matmul floor"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "llama"}, 'model_type: expected "layers"'),
        ({"heads": 0}, "heads: expected a positive integer, got 0"),
        ({"heads": 1.5}, "heads: expected a positive integer, got 1.5"),
        ({"depth": 2}, "depth: the fields are batch, tokens"),
    ],
)
def test_a_wrong_shape_names_its_file_and_field(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    config = {"model_type": "layers", **dataclasses.asdict(SHAPE)}
    assert read_shape(write_config(tmp_path / "model", config)) == SHAPE
    folder = write_config(tmp_path / "model", config | change)
    with pytest.raises(ValueError) as raised:
        read_shape(folder)
    assert str(raised.value).startswith(f"{folder / 'config.json'}: {message}")
