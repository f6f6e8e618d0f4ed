"""Device peaks and what is made of them."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_ops.errors import InputError
from hybrid_ops.models.cost import generation_cost
from hybrid_ops.models.devices import DevicePeaks, device_table, find_device, measure_cpu
from hybrid_ops.models.families import load_model
from hybrid_ops.models.roofline import generation_utilisation, roofline_bound, utilisation

DEVICE = DevicePeaks("test", {"bfloat16": 1e12}, 1e11, 1e9, "invented")


@pytest.mark.parametrize(
    ("driver_name", "short"),
    [
        ("NVIDIA A100-SXM4-80GB", "a100-sxm-80gb"),
        ("NVIDIA A100-SXM4-40GB", "a100-sxm-40gb"),
        ("NVIDIA A100 80GB PCIe", "a100-pcie-80gb"),
        ("NVIDIA H100 80GB HBM3", "h100-sxm"),
        ("NVIDIA H100 PCIe", "h100-pcie"),
        ("NVIDIA H100 NVL", "h100-nvl"),
        ("NVIDIA H200", "h200"),
        ("NVIDIA H200 NVL", "h200-nvl"),
        ("NVIDIA GH200 480GB", "gh200-96gb"),
        ("NVIDIA GH200 144G HBM3e", "gh200-144gb"),
        ("NVIDIA B300 SXM6 AC", "b300"),
        ("NVIDIA GeForce RTX 5090", "rtx-5090"),
        ("NVIDIA L4", "l4"),
        ("NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition", "rtx-pro-6000-blackwell-max-q"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "rtx-pro-6000-blackwell-server"),
        ("NVIDIA B200", "b200"),
        ("NVIDIA GeForce RTX 5080", "rtx-5080"),
        ("NVIDIA RTX PRO 6000 Blackwell Workstation Edition", "rtx-pro-6000-blackwell"),
        ("NVIDIA L40S", "l40s"),
        ("AMD Instinct MI300X", "mi300x"),
        ("H100-SXM", "h100-sxm"),
    ],
)
def test_devices_are_found_by_either_name(driver_name, short):
    device = find_device(driver_name)
    assert device.name == short
    assert device.source
    assert 1e14 < device.peak_flops("bfloat16") < 1e16
    assert device.bandwidth < device.peak_flops("bfloat16") / 50


def test_every_device_of_the_table_is_found():
    assert [find_device(short).name for short in device_table()] == list(device_table())


@pytest.mark.parametrize(
    "name", ["NVIDIA RTX PRO 6000 Blackwell Laptop GPU", "NVIDIA GeForce RTX 5080 Laptop GPU", "toaster"]
)
def test_other_devices_are_not_guessed(name):
    with pytest.raises(InputError, match=r"no peaks are known; known devices: cpu, a100"):
        find_device(name)


def test_a_data_type_without_a_peak():
    with pytest.raises(InputError, match=r"a100-sxm-80gb: flops\.float8_e4m3fn: no peak"):
        find_device("a100-sxm-80gb").peak_flops("float8_e4m3fn")


def test_this_cpu():
    device = measure_cpu("float32", threads=1, seconds=0.01)
    short = measure_cpu("bfloat16", threads=1, seconds=0.01)
    assert short.peak_flops("bfloat16") > 0.3 * device.peak_flops("float32"), "what float32 reaches is reached"
    assert device.flops["float32"] > 1e8
    assert device.bandwidth > 1e8
    assert device.source == "measured here, 1 threads"


@given(
    seconds=st.floats(1e-3, 1e5),
    batch=st.integers(1, 100),
    prompt=st.integers(1, 3000),
    generation=st.integers(1, 3000),
    devices=st.integers(1, 8),
)
def test_what_holds_between_the_figures(seconds, batch, prompt, generation, devices):
    cost = generation_cost(load_model("nemotron-h-8b"), batch, prompt, generation)
    used = utilisation(cost, seconds, DEVICE, devices=devices)
    assert used.mfu / used.mbu == pytest.approx(used.arithmetic_intensity / used.ridge_intensity)
    # Each phase is bound by the slower of the two, so the share is at least the larger utilisation and at most the sum.
    assert max(used.mfu, used.mbu) <= used.roofline_share * (1 + 1e-9)
    assert used.roofline_share <= (used.mfu + used.mbu) * (1 + 1e-9)
    assert used.roofline_share * seconds == pytest.approx(used.bound_seconds)


def test_the_roofline_itself_is_a_share_of_one():
    cost = generation_cost(load_model("olmo-hybrid-7b"), 64, 2048, 1024)
    bound = sum(roofline_bound(phase, DEVICE).seconds for phase in (cost.prefill, cost.decode))
    assert utilisation(cost, bound, DEVICE).roofline_share == pytest.approx(1)


def test_prefill_is_bound_by_compute_and_decode_by_memory():
    cost = generation_cost(load_model("llama-3.2-1b"), 1, 4096, 128)
    h100 = find_device("h100-sxm")
    assert roofline_bound(cost.prefill, h100).by == "compute"
    assert roofline_bound(cost.decode, h100).by == "memory"


def test_figures_by_hand():
    """One sequence of Llama-2-7B on a device of 1 TFLOP/s and 100 GB/s: 2 FLOPs and 2 bytes a parameter a token."""
    used = generation_utilisation(
        load_model("llama-2-7b"), batch=1, prompt=1, generation=2, elapsed_seconds=1.0, device=DEVICE
    )
    weights = 6_738_415_616 - 32_000 * 4096  # the embedding's table is looked up, not read
    matrices = weights - (2 * 32 + 1) * 4096  # norms are no products
    attention = 32 * 4 * 4096 * (1 + 2)
    assert used.mfu == pytest.approx((2 * 2 * matrices + attention) / 1e12, rel=1e-12)
    cache = 524_288 * (1 + 1 + 2 + 1)  # read and written in the prefill, then two read and one written
    assert used.mbu == pytest.approx((2 * 2 * (weights + 4096) + cache) / 1e11, rel=1e-12)


@pytest.mark.parametrize("seconds", [0.0, -1.0, math.nan, math.inf])
def test_no_measurement_no_figure(seconds):
    with pytest.raises(ValueError, match="is not a measurement"):
        utilisation(generation_cost(load_model("llama-tiny"), 1, 1, 2), seconds, DEVICE)
