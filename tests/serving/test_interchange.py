"""Files that change hands with the real `vllm bench serve`; the server that both ask is the fake one."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hybrid_ops.cli import main
from hybrid_ops.engines.server_worker import free_port
from hybrid_ops.workloads.tokenizer import write_word_tokenizer
from tests.plugin.suite import Suite
from tests.serving.conftest import FAKE_COMMAND, FAKE_SERVER
from tests.serving.test_plugin import TEST_FILE, WORKLOADS

BENCH = [sys.executable, "-m", "vllm.entrypoints.cli.main", "bench", "serve"]
LOAD = ["--backend", "openai", "--dataset-name", "random", "--random-input-len", "8", "--random-output-len", "16",
        "--num-prompts", "6", "--max-concurrency", "2", "--ignore-eos", "--disable-tqdm"]  # fmt: skip
KEPT = ["--save-result", "--save-detailed", "--result-filename", "bench.json", "--metadata", "note=ours"]


@pytest.fixture
def fake_url() -> Iterator[str]:
    port = free_port()
    with subprocess.Popen(
        [sys.executable, str(FAKE_SERVER), "--port", str(port), "--name", "fake"], stdout=subprocess.PIPE
    ) as server:
        assert server.stdout is not None and server.stdout.readline()
        yield f"http://127.0.0.1:{port}"
        server.kill()


def exported(folder: Path, capsys: pytest.CaptureFixture[str], *words: str) -> list[dict[str, Any]]:
    assert main(["export", str(folder), "--format", "vllm-bench", *words]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.long
def test_what_the_real_command_writes_is_imported_and_exported_whole(
    tmp_path: Path, fake_url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text('{"model_type": "llama", "vocab_size": 1000}')
    write_word_tokenizer(model, 1000)
    where = ["--base-url", fake_url, "--model", "fake", "--tokenizer", "model"]
    done = subprocess.run([*BENCH, *LOAD, *KEPT, *where], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert main(["import", "bench.json"]) == 0
    assert "of fake/openai-c2, from bench.json" in capsys.readouterr().out
    [folder] = (tmp_path / "perf_results").iterdir()
    written = json.loads((tmp_path / "bench.json").read_text())
    assert exported(folder, capsys) == [written]
    assert written["note"] == "ours" and len(written["itls"]) == 6


@pytest.mark.long
def test_a_run_of_our_own_is_exported_launch_by_launch(
    pytester: pytest.Pytester, capsys: pytest.CaptureFixture[str]
) -> None:
    suite = Suite(pytester)
    (suite.root / "workloads.yaml").write_text(WORKLOADS)
    (suite.root / "test_suite.py").write_text(TEST_FILE)
    (suite.root / "config.json").write_text('{"vocab_size": 1000}')
    suite.add_model("fake", server_command=list(FAKE_COMMAND))
    assert suite.run("--perf-launches=1", "-k", "fake/load-c2-").ret == 0
    run = suite.results()
    [launch] = run["launches"]
    capsys.readouterr()
    [document] = exported(suite.root / "perf_results" / run["run_id"], capsys)
    values = launch["cases"]["fake/load-c2"]["values"]
    assert values.items() <= document.items()
    assert (document["model_id"], document["max_concurrency"], document["request_rate"]) == ("fake", 2, "inf")
    assert not any(name.startswith("std_") for name in document), "what is not known is not there"
