"""A stub of NVML for rehearsals on machines without a GPU: `nvml_stub.c`, built here, and the cards that it shows.

`build_stub(folder)` compiles it to `folder/libnvidia-ml.so.1`. A program that is started with `StubCards.environment`
loads it as the real library, through the real nvidia-ml-py, and sees the cards. Changes show at the next call.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

SOURCE = Path(__file__).with_name("nvml_stub.c")
LIBRARY = "libnvidia-ml.so.1"
STATE = "NVML_STUB_STATE"
NO_COMPILER = "the stub of NVML needs a C compiler: install gcc (Debian: apt-get install gcc libc6-dev)"
MIB = 1 << 20

NO_PERMISSION, GPU_IS_LOST, DRIVER_MISMATCH, NOT_SUPPORTED, NOT_FOUND, UNKNOWN = 4, 15, 18, 3, 6, 999
"""NVML's errors, for `refuse`."""
POWER_CAP, HARDWARE_SLOWDOWN, THERMAL_SLOWDOWN = 0x04, 0x08, 0x40
"""NVML's reasons for held-down clocks, for `clocks_event_reasons`."""

H100 = {
    "name": "NVIDIA H100 80GB HBM3",
    "compute_capability": 90,
    "memory_total": 81559 * MIB,
    "memory_used": 0,
    "temperature": 41,
    "power_usage": 312_000,  # milliwatts, as NVML has all power
    "power_limit": 700_000,
    "enforced_power_limit": 700_000,
    "default_power_limit": 700_000,
    "least_power_limit": 200_000,
    "most_power_limit": 700_000,
    "set_power_limit": 700_000,  # the highest that is enforced, whatever is set; None: not supported
    "draw": None,  # what it takes without a limit: then power and energy follow from both
    "sm_clock": 1980,
    "memory_clock": 2619,
    "max_sm_clock": 1980,
    "max_memory_clock": 2619,
    "application_sm_clock": 1980,
    "application_memory_clock": 2619,
    "default_application_sm_clock": 1980,
    "default_application_memory_clock": 2619,
    "clocks_event_reasons": 0,
    "total_energy": 1_000_000,
    "persistence_mode": 1,
    "ecc_mode": 1,
    "mig_mode": 0,
    "max_mig_devices": 7,
    "processes": "",
}
"""Every field of an idle card, with the values that an H100 might show."""


class NoCompiler(RuntimeError):
    """There is nothing here to build the stub with."""


def build_stub(folder: Path) -> Path:
    """Compile the stub into `folder`, and return the library's path. Raises NoCompiler, RuntimeError."""
    compiler = shutil.which("gcc")
    if compiler is None:
        raise NoCompiler(NO_COMPILER)
    library = folder / LIBRARY
    # Without a `soname`: a process that has loaded it by its path can still load the real library by its name.
    command = [compiler, "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-o", str(library), str(SOURCE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{SOURCE.name} does not compile: {done.stderr}")
    return library


class StubCards:
    """The cards that the stub shows. A card is known by its number, a MIG instance by both, such as `0/1`.

    Parameters
    ----------
    library: the built stub
    state: the file that the cards are written into, at once and whole at each change
    """

    def __init__(self, library: Path, state: Path) -> None:
        self.library = library
        self.state = state
        self._cards = 0
        self._fields: dict[str, dict[str, object]] = {
            "system": {"driver_version": "580.65.06", "nvml_version": "13.580.65.06", "cuda_version": 13000}
        }
        self._write()

    @property
    def environment(self) -> dict[str, str]:
        """What a program must be started with to see these cards."""
        others = os.environ.get("LD_LIBRARY_PATH")
        path = str(self.library.parent)
        return {STATE: str(self.state), "LD_LIBRARY_PATH": f"{path}:{others}" if others else path}

    def add(self, uuid: str, **fields: object) -> str:
        """Add a card, an idle H100 but for `fields`, and return what it is known by. None: a field not supported."""
        device = str(self._cards)
        self._cards += 1
        self._fields[device] = {name: value for name, value in H100.items() if value is not None} | {"uuid": uuid}
        self.set(device, **fields)
        return device

    def shown(self, device: str, name: str) -> str:
        """What a field of the device is now: programs that see the cards may set it."""
        lines = self.state.read_text().splitlines()
        return next(line.split(maxsplit=2)[2] for line in lines if line.startswith(f"{device} {name} "))

    def add_instance(
        self, card: str, uuid: str, profile: str = "1g.10gb", multiprocessors: int = 16, **fields: object
    ) -> str:
        """Add a MIG instance to a card, which gets MIG mode, and return what the instance is known by.

        As NVML does, it tells of an instance its name, size and processes; power, clocks and temperature are the
        card's alone.
        """
        number = sum(device.startswith(f"{card}/") for device in self._fields)
        device = f"{card}/{number}"
        slices, memory = profile.split("c.")[-1].split("+")[0].removesuffix("gb").split("g.")
        self._fields[card]["mig_mode"] = 1
        self._fields[device] = {
            "uuid": uuid,
            "name": f"{self._fields[card]['name']} MIG {profile}",
            "multiprocessors": multiprocessors,
            "gpu_slices": slices,
            "compute_slices": slices,
            "memory_mb": int(memory) * 1000,
            "gpu_instance": number + 7,
            "compute_instance": 0,
            "processes": "",
        }
        self.set(device, **fields)
        return device

    def set(self, device: str, **fields: object) -> None:
        """Give fields of a device, or of `system`, new values; one that is None is not supported from now on."""
        for name, value in fields.items():
            if value is None:
                self._fields[device].pop(name, None)
            else:
                self._fields[device][name] = value
        self._write()

    def refuse(self, device: str, error: int, *fields: str) -> None:
        """Let NVML refuse these fields with an error; `handle` refuses the card, `init` of `system` the library."""
        self.set(device, **dict.fromkeys(fields, f"!{error}"))

    def _write(self) -> None:
        self._fields["system"]["count"] = self._cards
        lines = [
            f"{device} {name} {value}\n" for device, fields in self._fields.items() for name, value in fields.items()
        ]
        # Beside it and then in its place: whoever reads it meanwhile sees the old cards or the new, never half of them.
        with tempfile.NamedTemporaryFile("w", dir=self.state.parent, delete=False) as file:
            file.writelines(lines)
        Path(file.name).chmod(0o644)
        Path(file.name).replace(self.state)
