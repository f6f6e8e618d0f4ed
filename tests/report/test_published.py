"""Published figures: every digit, counted; what they are by our accounting; and a run beside them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from hybrid_ops.cli import main
from hybrid_ops.errors import InputError
from hybrid_ops.regression.results import RunResults, read_results
from hybrid_ops.report import write_reports
from hybrid_ops.report.published.accounting import accounts
from hybrid_ops.report.published.beside import PublishedBeside
from hybrid_ops.report.published.document import PACKAGED, read_documents
from hybrid_ops.report.published.layouts import document_lines
from hybrid_ops.report.report import Table

ROOT = Path(__file__).parents[2]
TEXTS = Path(__file__).parent / "published"
"""The documents' own tables as text, which were compared with the documents line by line."""
DOCUMENTS = read_documents()
FIGURES = {
    "generation_benchmark_log": 140,
    "hybrid_attention_suite": 29,
    "hybrid_vs_non_hybrid_results": 101,
    "olmo_hybrid_vllm_serving": 18,
    "rtx_pro_6000_benchmarks": 326,
}
"""Cells with a figure in the documents' tables, lists and result blocks, counted in the documents."""
NUMERIC = re.compile(r"[\d,.:]+(x|%|GB| ± [\d.]+| GiB| B| GB| tok/s| ms)?")


def printed_cells(line: str) -> Iterator[str]:
    """The cells of a line of any of the documents' layouts."""
    if line.startswith("|"):
        yield from (cell.strip() for cell in line.strip("|").split("|"))
    elif line.startswith("- "):
        yield line.partition(": ")[2]
    elif ":  " in line:
        yield line.rpartition("  ")[2].strip()
    elif re.search(r"\d tok/s", line):
        yield from (cell for cell in re.split(r"  +", line))


def counted(text: str) -> int:
    """Figures in a document's text, found without its data: numeric cells, and what only one layout has."""
    cells = [cell for line in text.splitlines() for cell in printed_cells(line)]
    numeric = sum(NUMERIC.fullmatch(cell) is not None for cell in cells)
    memory_of_gpus = sum(re.match(r"\d+GB \(", cell) is not None for cell in cells)
    groups = sum(re.match(r"\d \(\dx ", cell) is not None for cell in cells)
    masks = 2 * len(re.findall(r"^BlockMask\(shape=\([\d, ]+\), sparsity=[\d.]+%", text, re.MULTILINE))
    training = len(re.findall(r"^(\d+-\d+GB memory|bs=\d+|\d:\d\d-\d:\d\dh sft)$", text, re.MULTILINE))
    times = sum(re.fullmatch(r"[\d,]+(ms)", cell) is not None for cell in cells)
    lists = sum(re.fullmatch(r"`\d+(,\d+)+`|`[\d.]+`", cell) is not None for cell in cells)
    return numeric + memory_of_gpus + groups + masks + training + times + lists


@pytest.mark.parametrize("name", FIGURES)
def test_every_table_is_printed_as_the_document_has_it(name: str) -> None:
    assert "\n".join(document_lines(DOCUMENTS[name])) + "\n" == (TEXTS / f"{name}.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_is_data(name: str) -> None:
    figures = list(DOCUMENTS[name].figures())
    assert len(figures) == FIGURES[name] == counted((TEXTS / f"{name}.txt").read_text(encoding="utf-8"))
    assert [figure.place for figure in figures if figure.facts.metric is None or figure.facts.unit is None] == []


def test_the_documents_ship_with_the_package() -> None:
    assert PACKAGED.resolve() == ROOT / "perf_baselines" / "published"
    assert list(DOCUMENTS) == sorted(FIGURES)


def test_a_number_keeps_its_digits() -> None:
    document = DOCUMENTS["rtx_pro_6000_benchmarks"]
    figures = {figure.place: figure for figure in document.figures(document.table("llama-bench llama2-7b 350W"))}
    rate = figures["llama 7B Q4_0, pp512, t/s"]
    assert [str(number) for number in rate.numbers] == ["14118.89", "2081.13"]
    assert (rate.facts.power, rate.facts.model, rate.facts.unit) == ("350W", "llama-2-7b", "tok/s")
    olmo = DOCUMENTS["olmo_hybrid_vllm_serving"].find(metric="mean_ttft_ms", device="a100-sxm-80gb")
    assert olmo is not None
    assert (olmo.text, olmo.value) == ("7,191ms", 7191)
    wanted = {"metric": "decode_throughput", "model": "gemma-3-1b", "workload": "full-pipe"}
    decode = DOCUMENTS["generation_benchmark_log"].find(**wanted)
    assert decode is not None
    assert str(decode.numbers[0]) == "61.0"


def test_failures_have_their_reasons() -> None:
    failures = [failure for table in DOCUMENTS["hybrid_vs_non_hybrid_results"].tables for failure in table.failures]
    assert len(failures) == 2
    assert "UnitaryKVCacheCoordinator" in failures[0].reason
    assert all(failure.link and failure.link.startswith("[01KH") for failure in failures)


def differences(name: str, quantity: str) -> list[str]:
    return [
        check.difference
        for _, account in accounts(name, DOCUMENTS[name])
        for check in account.checks
        if check.quantity == quantity
    ]


@pytest.mark.parametrize(
    ("name", "quantity", "count"),
    [
        ("generation_benchmark_log", "kv_cache_bytes", 15),
        ("hybrid_vs_non_hybrid_results", "max_concurrency", 10),
        ("hybrid_vs_non_hybrid_results", "kv_cache_blocks", 2),
        ("hybrid_vs_non_hybrid_results", "output_throughput", 15),
        ("rtx_pro_6000_benchmarks", "forward_flops", 21),
        ("rtx_pro_6000_benchmarks", "backward_flops", 21),
        ("rtx_pro_6000_benchmarks", "total_token_throughput", 6),
    ],
)
def test_figures_that_follow_from_others(name: str, quantity: str, count: int) -> None:
    """Each is the published one, to its last digit or as near as its rounded operands allow."""
    found = differences(name, quantity)
    assert len(found) == count
    assert set(found) <= {"equal", "within 0.1 %"}


def test_figures_that_cannot_all_be_true() -> None:
    told = {
        name: [text for _, account in accounts(name, document) for text in account.contradictions]
        for name, document in DOCUMENTS.items()
    }
    qwen = next(text for text in told["generation_benchmark_log"] if text.startswith("qwen3-1.7b"))
    assert "2 × 28 × 2 × 128 × 2 B = 28672 B a token" in qwen
    assert "114688 B" in qwen
    rollouts = told["hybrid_vs_non_hybrid_results"]
    assert any("2.56 / 1237.90 and 0.54 / 653.61, ×2.50, for ×1.00 the work a token" in text for text in rollouts)
    assert any("0.54 % of 8 devices" in text and "32.7 billion parameters" in text for text in rollouts)
    assert any("7430870688 (+6.2%)" in text for text in told["olmo_hybrid_vllm_serving"])
    assert any("756 tokens in flight" in text for text in told["hybrid_attention_suite"])
    cards = told["rtx_pro_6000_benchmarks"]
    assert any("4.41 bits a weight, and Q8_0 takes 8.5" in text for text in cards)
    assert any("107.3 GB, more than the device's 96 GB" in text for text in cards)
    assert any("×1.125 of the model's work" in text for text in cards)


def test_an_altered_figure_is_seen(tmp_path: Path) -> None:
    """The accounting does not repeat what is printed: another number of blocks or of tokens differs."""
    text = (PACKAGED / "hybrid_vs_non_hybrid_results.yaml").read_text(encoding="utf-8")
    (tmp_path / "altered.yaml").write_text(text.replace('"14449"', '"14450"').replace('"1361.13"', '"1371.13"'))
    document = read_documents(tmp_path)["altered"]
    found = {
        (check.quantity, check.published): check.difference
        for _, account in accounts("altered", document)
        for check in account.checks
    }
    assert found["kv_cache_blocks", "14450 blocks"] == "within 0.1 %"
    assert found["output_throughput", "1371.13 tok/s"] == "-0.7 %"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('rows:\n      - ["1024", ', "rows:\n      - ["), "has 5 cells for 6 columns"),
        (("unit: tok/s", "units: tok/s"), "facts.units: Extra inputs are not permitted"),
        (("schema_version: 1", "schema_version: 2"), "schema_version: this release reads version 1"),
    ],
)
def test_a_bad_document_is_refused(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    text = (PACKAGED / "hybrid_vs_non_hybrid_results.yaml").read_text(encoding="utf-8")
    (tmp_path / "bad.yaml").write_text(text.replace(*change, 1))
    with pytest.raises(InputError, match=re.escape(message)):
        read_documents(tmp_path)


def test_the_command_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["published", "olmo_hybrid_vllm_serving", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["olmo_hybrid_vllm_serving"]
    assert len(told["figures"]) == FIGURES["olmo_hybrid_vllm_serving"]
    assert told["figures"][0]["numbers"] == ["1765"]
    [recomputed] = told["recomputed"]
    assert {check["published"] for check in recomputed["checks"]} >= {"1765 tok/s", "1066 tok/s", "551 tok/s"}


def test_a_document_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "published").mkdir()
    (tmp_path / "published" / "mine.yaml").write_text((PACKAGED / "olmo_hybrid_vllm_serving.yaml").read_text())
    assert main(["published", "--baselines", str(tmp_path), "--list"]) == 0
    assert "| mine " in capsys.readouterr().out
    assert main(["published", "nothing"]) == 2
    assert "no document is named 'nothing'; there are generation_benchmark_log, " in capsys.readouterr().err


def test_a_run_is_shown_beside_what_was_published(measured: Path, tmp_path: Path) -> None:
    """A real run under the name of a published model, on a workload as it was published and on a shorter one."""
    text = measured.read_text()
    for own, published in (("steady/brief", "llama-3.2-1b/short"), ("steady/wide", "llama-3.2-1b/long")):
        text = text.replace(own, published)
    document = json.loads(text)
    for launch in document["launches"]:
        if "llama-3.2-1b/short" in launch["cases"]:
            launch["cases"]["llama-3.2-1b/short"]["values"]["output_tokens"] = 64
    run = RunResults.model_validate(document)
    section = PublishedBeside().section(run)
    assert section is not None
    table = section.blocks[0]
    assert isinstance(table, Table)
    shown = {row[1]: row for row in table.rows}
    assert {row[0] for row in table.rows} == {"llama-3.2-1b/short"}, "the other case has other lengths"
    now = next(cell.value for cell in run.cells if cell.cell == "llama-3.2-1b/short-output_throughput")
    assert shown["output_throughput"][2:5] == ("148.4 tok/s", f"{now:.4g} tok/s", f"×{now / 148.4:.3g}")
    assert shown["median_step_ms"][2] == "6.6 ms"
    assert all(row[5].startswith("NVIDIA GeForce RTX 5080") for row in table.rows)
    verdicts = {cell.cell: cell.verdict for cell in run.cells}
    write_reports(run, tmp_path)
    assert "## published beside now" in (tmp_path / "summary.md").read_text()
    assert {cell.cell: cell.verdict for cell in run.cells} == verdicts


def test_a_run_of_other_models_shows_nothing_published(measured: Path) -> None:
    assert PublishedBeside().section(read_results(measured)) is None


def test_the_training_line_stands_beside_what_our_accounting_says_it_must_take() -> None:
    document = DOCUMENTS["rtx_pro_6000_benchmarks"]
    told = {
        check.quantity: check.recomputed
        for table, account in accounts("rtx_pro_6000_benchmarks", document)
        if table.name.startswith("training")
        for check in account.checks
    }
    assert told["weights and optimizer, float32 weights, bfloat16 arithmetic"] == "14.8 GB"
    assert told["least at 1024 tokens, float32 weights, bfloat16 arithmetic"] == "96.9 GB"
    assert told["most tokens a sequence, all in bfloat16"] == "968 to 1006"
    assert told["most tokens in the time, sequences of 1024"] == "714 to 794 million"
