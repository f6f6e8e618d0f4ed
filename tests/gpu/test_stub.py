"""The stub shows what is written for it, to this process and to others, through the real nvidia-ml-py."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pynvml
import pytest

from tests.gpu import nvml_stub
from tests.gpu.nvml_stub import GPU_IS_LOST, NO_PERMISSION, NoCompiler, StubCards, build_stub

CHILD = """
import pynvml
pynvml.nvmlInit()
for index in range(pynvml.nvmlDeviceGetCount()):
    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    print(pynvml.nvmlDeviceGetUUID(handle), pynvml.nvmlDeviceGetName(handle), pynvml.nvmlDeviceGetPowerUsage(handle))
"""


def test_another_process_sees_the_cards(cards: StubCards) -> None:
    cards.add("GPU-1")
    cards.add("GPU-2", name="NVIDIA L4", power_usage=70_000)
    done = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["GPU-1 NVIDIA H100 80GB HBM3 312000", "GPU-2 NVIDIA L4 70000"]


def test_a_change_shows_at_the_next_call_and_a_refusal_is_nvmls_error(cards: StubCards) -> None:
    card = cards.add("GPU-1")
    pynvml.nvmlInit()
    handle = pynvml.nvmlDeviceGetHandleByUUID("GPU-1")
    assert pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM) == 1980
    cards.set(card, sm_clock=345, processes="7 11", temperature=None)
    cards.refuse(card, GPU_IS_LOST, "power_usage")
    assert pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM) == 345
    assert [process.pid for process in pynvml.nvmlDeviceGetComputeRunningProcesses(handle)] == [7, 11]
    with pytest.raises(pynvml.NVMLError_NotSupported):
        pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU)
    with pytest.raises(pynvml.NVMLError_GpuIsLost):
        pynvml.nvmlDeviceGetPowerUsage(handle)
    pynvml.nvmlShutdown()


def test_mig_instances_are_found_by_card_and_by_uuid(cards: StubCards) -> None:
    card = cards.add("GPU-1")
    cards.add_instance(card, "MIG-1")
    cards.add_instance(card, "MIG-2", profile="3g.40gb", multiprocessors=60)
    pynvml.nvmlInit()
    parent = pynvml.nvmlDeviceGetHandleByIndex(0)
    instance = pynvml.nvmlDeviceGetMigDeviceHandleByIndex(parent, 1)
    assert pynvml.nvmlDeviceGetUUID(instance) == "MIG-2"
    assert pynvml.nvmlDeviceGetName(pynvml.nvmlDeviceGetHandleByUUID("MIG-2")) == "NVIDIA H100 80GB HBM3 MIG 3g.40gb"
    assert pynvml.nvmlDeviceGetAttributes(instance).multiprocessorCount == 60
    assert pynvml.nvmlDeviceGetUUID(pynvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(instance)) == "GPU-1"
    with pytest.raises(pynvml.NVMLError_NotFound):
        pynvml.nvmlDeviceGetMigDeviceHandleByIndex(parent, 2)
    with pytest.raises(pynvml.NVMLError_NotSupported):
        pynvml.nvmlDeviceGetPowerUsage(instance)
    pynvml.nvmlShutdown()


def test_the_library_can_refuse_to_start_and_is_not_called_before(cards: StubCards) -> None:
    with pytest.raises(pynvml.NVMLError_Uninitialized):
        pynvml.nvmlDeviceGetCount()
    cards.refuse("system", NO_PERMISSION, "init")
    with pytest.raises(pynvml.NVMLError_NoPermission):
        pynvml.nvmlInit()


def test_a_missing_compiler_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvml_stub.shutil, "which", lambda name: None)
    with pytest.raises(NoCompiler, match="install gcc"):
        build_stub(tmp_path)
