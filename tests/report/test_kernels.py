"""The tables of kernels, held against what the attention benchmark printed for the same figures."""

from __future__ import annotations

import dataclasses

import pytest

from hybrid_ops.regression.statistics import median_interval
from hybrid_ops.report.kernels import KernelResult, block_mask_lines, table_lines

CAUSAL = """\
╔═════════════════════════════════════════════════════════════════════════════════════════╗
║                                       Causal Mask                                       ║
╚═════════════════════════════════════════════════════════════════════════════════════════╝
Correctness check passed ✅
+---------------+----------------+-------------------+----------------+-------------------+
| Operation     |   FW Time (ms) |   FW FLOPS (TF/s) |   BW Time (ms) |   BW FLOPS (TF/s) |
+===============+================+===================+================+===================+
| causal FA2    |         6.6376 |            331.3  |        20.3867 |            269.66 |
+---------------+----------------+-------------------+----------------+-------------------+
| F.sdpa + mask |        34.8769 |             64.04 |        99.9404 |             55.87 |
+---------------+----------------+-------------------+----------------+-------------------+
| flexattention |        10.0974 |            221.18 |        30.0158 |            186.02 |
+---------------+----------------+-------------------+----------------+-------------------+

Block Mask:
BlockMask(shape=(1, 1, 8192, 8192), sparsity=49.22%,
(0, 0)
░░
██░░
████░░
██████░░
████████░░
██████████░░
████████████░░
██████████████░░
████████████████░░
██████████████████░░
████████████████████░░
██████████████████████░░
████████████████████████░░
██████████████████████████░░
████████████████████████████░░
██████████████████████████████░░
)"""
FIGURES = {
    "causal_fa2": (6.63762, 331.3, 20.3867, 269.66),
    "f_sdpa_mask": (34.8769, 64.04, 99.9404, 55.87),
    "flexattention": (10.0974, 221.18, 30.01584, 186.02),
}
NAMES = ("forward_ms", "forward_tflops", "backward_ms", "backward_tflops")
RESULT = KernelResult(
    case="reference-layers/causal",
    told={"title": "Causal Mask", "shape": {"tokens": 8192}, "yardsticks": [], "is_attention": True, "absent": {}},
    medians={
        "block_sparsity": 49.21875,
        **{f"{name}@{slug}": value for slug, values in FIGURES.items() for name, value in zip(NAMES, values)},
    },
    samples={},
    picture="/".join("2" * row + "1" + "0" * (15 - row) for row in range(16)),
    failures={},
)


def test_the_table_is_the_benchmarks_own() -> None:
    assert table_lines(RESULT) == CAUSAL.splitlines()


def test_a_score_change_has_no_block_mask_and_a_layer_does_not_speak_of_one() -> None:
    assert block_mask_lines(dataclasses.replace(RESULT, picture=None)) == ["None"]
    layer = dataclasses.replace(RESULT, told={**RESULT.told, "is_attention": False})
    assert table_lines(layer)[-1].startswith("+---")


@pytest.mark.parametrize(("count", "left_out"), [(1, 0), (5, 0), (6, 0), (9, 1), (15, 3), (100, 39)])
def test_the_interval_of_a_median_leaves_out_as_many_on_both_sides(count: int, left_out: int) -> None:
    assert median_interval([float(value) for value in range(count, 0, -1)]) == (1 + left_out, count - left_out)
