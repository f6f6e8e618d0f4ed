"""`hybrid-perf capacity` and `hybrid-perf cost`, as they are typed."""

import json
import subprocess
import sys
from pathlib import Path
from textwrap import indent

import pytest

from hybrid_ops.cli import main
from hybrid_ops.models.sizes import format_quantity, format_table, parse_bytes
from hybrid_ops.report.published.document import read_documents


def published_table(name):
    """(cache memory, concurrency over lengths) of a model as they were published, in the command's own layout."""
    found = [one for one in read_documents()["hybrid_vs_non_hybrid_results"].figures() if one.facts.model == name]
    [memory] = [one.text for one in found if one.facts.metric == "kv_cache_memory_bytes"]
    rows = [one.row for one in found if one.facts.metric == "sequence_tokens"]
    return memory, format_table([["Sequence Length", "Max Concurrency"], *map(list, rows)]) + "\n"


@pytest.mark.parametrize("name", ["nemotron-h-8b", "falcon-h1-7b"])
def test_the_published_tables_by_command(capsys, name):
    memory, table = published_table(name)
    size = memory.replace(" ", "")
    assert main(["capacity", name, "--tp", "2", "--cache-memory", size, "--state-dtype", "bfloat16"]) == 0
    output = capsys.readouterr().out
    assert output.endswith(table)
    document = Path(__file__).parents[2] / "docs" / "capacity.md"
    assert indent(output, "    ") in document.read_text(encoding="utf-8")
    assert f"- Available KV cache memory: {memory}\n" in output


def test_capacity_as_json(capsys):
    arguments = ["--tp", "2", "--cache-memory", "62.5GB", "--state-dtype", "bfloat16", "--lengths", "1024,4096"]
    assert main(["capacity", "nemotron-h-8b", *arguments, "--no-prefix-caching", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["block_size"] == 528
    assert plan["num_blocks"] == 14449
    assert len(plan["groups"]) == 7
    assert plan["max_concurrency"] == {"1024": 14449 / 8, "4096": 14449 / 14}


def test_capacity_of_a_gpu_and_an_older_engine(capsys):
    options = ["--gpu-memory", "80GB", "--gpu-memory-utilization", "0.9", "--engine-version", "0.15", "--json"]
    assert main(["capacity", "nemotron-h-8b", *options, "--prefix-caching", "--platform", "cuda"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["state_dtype"] == "float16"
    assert plan["cache_bytes"] == 72_000_000_000 - 2 * 8_100_852_736
    assert {group["states"] for group in plan["groups"]} == {0, 2}


def test_cost_as_json(capsys):
    options = ["--batch", "64", "--prompt", "2048", "--generation", "1024", "--device", "h100-sxm", "--seconds", "40"]
    assert main(["cost", "falcon-h1-7b", *options, "--devices", "2", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["parameters"] == 7_585_513_568
    assert report["kv_bytes_per_token"] == 45_056
    assert report["decode"]["steps"] == 1023
    assert report["prefill"]["bound"]["by"] == "compute"
    assert 0 < report["utilisation"]["mfu"] < report["utilisation"]["roofline_share"] < 1


@pytest.mark.parametrize("extra", [[], ["--device", "h200"], ["--device", "h200", "--seconds", "1e3"]])
@pytest.mark.parametrize("name", ["gemma-3-1b", "qwen3-next-tiny"])
def test_cost_as_a_table(capsys, name, extra):
    assert main(["cost", name, *extra]) == 0
    output = capsys.readouterr().out
    assert "| Quantity " in output
    assert ("| Roofline " in output) == bool(extra)
    assert ("- MFU " in output) == (len(extra) == 4)


def test_cost_on_this_cpu(capsys):
    assert main(["cost", "llama-tiny", "--device", "cpu"]) == 0
    assert "1x cpu, " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["capacity", "llama-9t", "--cache-memory", "1GB"], "llama-9t: no such file"),
        (
            ["capacity", "nemotron-h-8b", "--tp", "5", "--cache-memory", "1GB"],
            "nemotron-h-8b.json: num_attention_heads: 32 cannot be divided over 5 devices",
        ),
        (
            ["capacity", "nemotron-h-8b", "--cache-memory", "1MB"],
            "nemotron-h-8b.json: cache memory: 1000000 bytes hold no block",
        ),
        (
            ["capacity", "llama-2-7b", "--cache-memory", "1GB"],
            "llama-2-7b.json: cache memory: 1000000000 bytes hold no sequence of 4096 tokens",
        ),
        (["cost", "llama-tiny", "--device", "toaster"], "device 'toaster': no peaks are known"),
        (["cost", "llama-tiny", "--seconds", "1"], "--seconds: needs --device"),
        (["cost", "llama-tiny", "--device", "h200", "--seconds", "nan"], "--seconds: needs --device and a time that"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(capsys, arguments, message):
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("hybrid-perf: error: ")
    assert message in captured.err
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["capacity", "llama-tiny"],
        ["capacity", "llama-tiny", "--cache-memory", "much"],
        ["capacity", "llama-tiny", "--cache-memory", "1XB"],
        ["capacity", "llama-tiny", "--cache-memory", "1GB", "--lengths", "0"],
        ["capacity", "llama-tiny", "--cache-memory", "1GB", "--tp", "0"],
        ["capacity", "llama-tiny", "--gpu-memory", "1GB", "--gpu-memory-utilization", "1.5"],
        ["capacity", "llama-tiny", "--cache-memory", "1GB", "--gpu-memory", "1GB"],
        ["cost", "llama-tiny", "--state-dtype", "int3"],
    ],
)
def test_bad_options_exit_with_2(capsys, arguments):
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2
    assert "error: " in capsys.readouterr().err


def test_the_commands_start_without_what_is_slow_to_import():
    script = "import sys; from hybrid_ops.cli import build_parser; build_parser({}); print('{}' in sys.modules)"
    for asked, module in (("", "torch"), ("'cost'", "scipy")):
        command = [sys.executable, "-c", script.format(asked, module)]
        assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "False\n"


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("62.5GB", 62_500_000_000),
        ("62.89 GB", 62_890_000_000),
        ("1KiB", 1024),
        ("1.5GiB", 3 << 29),
        ("7", 7),
        ("7B", 7),
    ],
)
def test_sizes(text, size):
    assert parse_bytes(text) == size


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0 B"), (999, "999 B"), (16_384, "16.38 kB"), (8.1e9, "8.1 GB"), (3e21, "3000 EB")]
)
def test_quantities(value, text):
    assert format_quantity(value, "B") == text


def test_tables():
    assert format_table([["Name", "N"], ["a", "10"]]) == "| Name |  N |\n|------|---:|\n| a    | 10 |"
