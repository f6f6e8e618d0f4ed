"""Which GPUs there are, in which order and of which class, with cards that a stub of NVML shows."""

from __future__ import annotations

import pytest

from hybrid_ops.engines.devices import alike, gpus, why_no_gpu
from hybrid_ops.errors import InputError
from hybrid_ops.measure.peaks import has_peaks, run_peaks
from hybrid_ops.models.devices import find_device
from tests.gpu.nvml_stub import DRIVER_MISMATCH, GPU_IS_LOST, StubCards

FIRST, SECOND, THIRD = "GPU-1f00aaaa-0000", "GPU-1f11bbbb-0000", "GPU-2222cccc-0000"


def uuids() -> list[str | None]:
    gpus.cache_clear()
    return [device.uuid for device in gpus()]


@pytest.fixture
def three(cards: StubCards) -> StubCards:
    for uuid in (FIRST, SECOND, THIRD):
        cards.add(uuid)
    return cards


@pytest.mark.parametrize(
    ("variable", "expected"),
    [
        (f"{THIRD},{FIRST}", [THIRD, FIRST]),
        ("GPU-1f11, GPU-2", [SECOND, THIRD]),
        ("2,0", [THIRD, FIRST]),
        ("0,2,-1,1", [FIRST, THIRD]),  # the CUDA programming guide's own example
        ("1,7,0", [SECOND]),
        ("GPU-dead,0", []),
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
    ],
)
def test_devices_are_those_of_cuda_visible_devices_in_its_order(
    three: StubCards, monkeypatch: pytest.MonkeyPatch, variable: str, expected: list[str]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", variable)
    assert uuids() == expected
    if not expected:
        assert why_no_gpu() == f"CUDA_VISIBLE_DEVICES={variable} shows none of {FIRST}, {SECOND}, {THIRD}"


@pytest.mark.parametrize(
    ("variable", "message"),
    [
        ("GPU-1f", rf"GPU-1f begins 2 names \({FIRST}, {SECOND}\): write more of it"),
        ("0,GPU-1f00", f"{FIRST} is named 2 times: name each device once"),
    ],
)
def test_what_is_not_clear_is_refused(
    three: StubCards, monkeypatch: pytest.MonkeyPatch, variable: str, message: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", variable)
    with pytest.raises(InputError, match=message):
        uuids()


def test_numbers_on_a_machine_of_different_cards_need_an_order_that_nvml_has_too(
    three: StubCards, monkeypatch: pytest.MonkeyPatch
) -> None:
    three.set("0", name="NVIDIA L4")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    with pytest.raises(InputError, match="CUDA numbers the fastest first: name UUIDs"):
        uuids()
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    assert uuids() == [FIRST]
    monkeypatch.delenv("CUDA_DEVICE_ORDER")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-1f00")
    assert uuids() == [FIRST]


def test_an_engine_is_shown_its_device_by_uuid(three: StubCards) -> None:
    assert [device.environment for device in gpus()] == [
        {"CUDA_VISIBLE_DEVICES": uuid} for uuid in (FIRST, SECOND, THIRD)
    ]


def test_only_cards_of_one_class_are_alike(three: StubCards) -> None:
    three.set("1", name="NVIDIA L4")
    first, second, third = gpus()
    assert (first.device_class, second.device_class) == ("nvidia-h100-80gb-hbm3", "nvidia-l4")
    assert alike(first) == (first, third) and alike(second) == (second,)


@pytest.fixture
def cut(cards: StubCards) -> StubCards:
    """A whole card, and one that is cut into two instances."""
    cards.add(FIRST)
    card = cards.add(SECOND)
    cards.add_instance(card, "MIG-aaaa-1", "1g.10gb", 16)
    cards.add_instance(card, "MIG-bbbb-2", "3g.40gb", 60)
    return cards


@pytest.mark.parametrize(
    ("variable", "expected"),
    [
        (None, [FIRST, "MIG-aaaa-1", "MIG-bbbb-2"]),
        ("MIG-bbbb-2,MIG-aaaa-1", ["MIG-bbbb-2", "MIG-aaaa-1"]),
        ("MIG-b", ["MIG-bbbb-2"]),
        (f"MIG-{SECOND}/8/0,GPU-1f00", ["MIG-bbbb-2", FIRST]),  # as drivers before 470 name them
        (f"MIG-{SECOND}/1/0", []),
        ("0", [FIRST]),
    ],
)
def test_mig_instances_are_devices_and_their_card_is_none(
    cut: StubCards, monkeypatch: pytest.MonkeyPatch, variable: str | None, expected: list[str]
) -> None:
    if variable is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", variable)
    assert uuids() == expected


@pytest.mark.parametrize("name", ["1", SECOND])
def test_a_card_in_mig_mode_is_no_device(cut: StubCards, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", name)
    with pytest.raises(InputError, match=f"{name} is in MIG mode: name one of its instances: MIG-aaaa-1, MIG-bbbb-2"):
        uuids()


def test_a_mig_instance_has_a_class_and_peaks_of_its_own(cut: StubCards, tmp_path: object) -> None:
    whole, small, large = gpus()
    assert small.device_class == "nvidia-h100-80gb-hbm3-mig-1g.10gb"
    assert small.name == "NVIDIA H100 80GB HBM3 MIG 1g.10gb"
    assert len({device.device_class for device in (whole, small, large)}) == 3
    card = find_device(whole.name)
    peaks = run_peaks(large, {"bfloat16"}, tmp_path, record=False)  # type: ignore[arg-type]
    assert peaks.name == "h100-sxm MIG 3g.40gb"
    assert peaks.flops["bfloat16"] == pytest.approx(card.flops["bfloat16"] * 60 / 132)
    assert peaks.bandwidth == pytest.approx(card.bandwidth / 2)
    assert peaks.source.endswith("60 of 132 multiprocessors, 0.5 of the memory")
    assert run_peaks(small, {"bfloat16"}, tmp_path, record=False).bandwidth == card.bandwidth / 8  # type: ignore[arg-type]


def test_a_mig_instance_whose_name_does_not_tell_its_size_is_named_by_what_it_has(cards: StubCards) -> None:
    card = cards.add(FIRST, name="NVIDIA H200", memory_total=143771 << 20)
    cards.add_instance(card, "MIG-1", multiprocessors=16, memory_mb=16384, name="NVIDIA H200", gpu_slices=1)
    cards.add_instance(
        card, "MIG-2", multiprocessors=16, memory_mb=71424, name="NVIDIA H200", gpu_slices=3, compute_slices=1
    )
    assert [device.device_class for device in gpus()] == ["nvidia-h200-mig-1g.18gb", "nvidia-h200-mig-1c.3g.71gb"]


def test_an_instance_of_a_card_whose_size_is_not_in_the_table_has_no_peaks(cards: StubCards) -> None:
    card = cards.add(FIRST, name="NVIDIA Imaginary 9000")
    cards.add_instance(card, "MIG-1")
    [device] = gpus()
    assert not has_peaks(device)


def test_why_there_is_no_gpu_is_told(cards: StubCards) -> None:
    assert uuids() == [] and why_no_gpu() == "NVML shows no GPU on this machine"
    cards.add(FIRST)
    cards.refuse("0", GPU_IS_LOST, "handle")
    assert uuids() == []
    assert why_no_gpu() == "NVML shows no GPU on this machine; card 0 cannot be read (GPU is lost)"
    cards.add(SECOND, mig_mode=1)
    assert uuids() == [] and f"{SECOND} is in MIG mode and has no instance" in why_no_gpu()
    cards.refuse("system", DRIVER_MISMATCH, "init")
    assert uuids() == []
    assert why_no_gpu() == "NVML does not start (RM has detected an NVML/RM version mismatch.)"


def test_a_lost_card_does_not_hide_the_others(three: StubCards) -> None:
    three.refuse("1", GPU_IS_LOST, "handle")
    assert uuids() == [FIRST, THIRD]
