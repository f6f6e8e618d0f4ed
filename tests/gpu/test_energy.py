"""The energy of timed iterations: from readings, from a processor's counters, and from NVML's in whole runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from hybrid_ops.engines.devices import cpu, gpus, server
from hybrid_ops.measure import energy_sources
from hybrid_ops.measure.energy import ENERGY_METRICS, CaseEnergy, EnergyMeter, readable_metrics, used_over
from hybrid_ops.measure.energy_sources import CannotRead, Reading, open_source
from tests.gpu.nvml_stub import NOT_SUPPORTED, StubCards


@pytest.fixture(autouse=True)
def forgotten() -> None:
    readable_metrics.cache_clear()


def counter(*points: tuple[float, float]) -> list[Reading]:
    return [Reading(at, joules, None) for at, joules in points]


def test_only_the_timed_stretches_count() -> None:
    readings = counter((0.0, 100), (1.0, 150), (2.0, 350), (3.0, 360))
    used = used_over(readings, [(0.5, 1.0), (1.5, 2.5)])
    assert used.joules == pytest.approx(25 + 100 + 5)
    assert (used.seconds, used.covered_seconds) == pytest.approx((1.5, 1.5))


def test_power_is_integrated_and_clocks_are_weighted_by_time() -> None:
    readings = [Reading(0.0, None, 100.0, 1000.0), Reading(0.5, None, 300.0, 2000.0), Reading(1.0, None, 300.0, 2000.0)]
    used = used_over(readings, [(0.0, 1.0)])
    assert used.joules == pytest.approx(100 + 150)
    assert used.clock_seconds / used.seconds == pytest.approx(1500)


def test_a_time_without_readings_is_not_covered() -> None:
    readings = counter((0.0, 0), (0.5, 5), (9.5, 95), (10.0, 100))
    assert used_over(readings, [(0.0, 10.0)]).covered_seconds == pytest.approx(1.0)
    assert used_over(readings, [(11.0, 12.0)]).covered_seconds == 0.0


def summarized(readings: list[Reading], stretch: tuple[float, float]) -> tuple[dict[str, object], str | None]:
    """What a case says whose meter has seen `readings`."""

    class Seen(EnergyMeter):
        facts = {"source": "a counter", "reason": None}

    case = CaseEnergy(Seen(cpu()), [(used_over(readings, [stretch]), 10)])
    return case.summarize()


def test_what_cannot_be_told_has_a_reason_and_no_value() -> None:
    values, reason = summarized(counter((0, 0), (0.5, 5), (1, 10)), (0.0, 1.0))
    assert reason is None
    assert (values["energy_joules"], values["joules_per_token"], values["mean_power_watts"]) == pytest.approx(
        (10, 1, 10)
    )
    assert summarized(counter((0, 7), (0.5, 7)), (0.0, 0.5)) == (
        {},
        "a counter did not move in the 0.5 s that were timed",
    )
    sparse = summarized(counter((0, 0), (9, 90)), (0.0, 9.0))
    assert sparse == ({}, "the readings of a counter cover only 0% of the timed seconds")


@pytest.fixture
def rapl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Counters as Linux shows them: two packages, a part of one, and the sum of all."""
    for zone, name in {"intel-rapl:0": "package-0", "intel-rapl:1": "package-1", "intel-rapl:0:0": "core",
                       "intel-rapl:2": "psys"}.items():  # fmt: skip
        folder = tmp_path / zone
        folder.mkdir()
        (folder / "name").write_text(f"{name}\n")
        (folder / "max_energy_range_uj").write_text("1000000\n")
        (folder / "energy_uj").write_text("900000\n")
    monkeypatch.setattr(energy_sources, "RAPL", tmp_path)
    return tmp_path


def test_the_packages_of_a_processor_are_added_and_wrap_around(rapl: Path) -> None:
    with open_source(cpu()) as source:
        before = source.read().joules
        (rapl / "intel-rapl:0" / "energy_uj").write_text("950000\n")
        (rapl / "intel-rapl:1" / "energy_uj").write_text("100000\n")  # past its range of 1 J
        (rapl / "intel-rapl:2" / "energy_uj").write_text("999999\n")
        after = source.read().joules
    assert before is not None and after is not None
    assert after - before == pytest.approx(0.05 + 0.2)
    assert [metric.name for metric in readable_metrics("cpu")] == [metric.name for metric in ENERGY_METRICS[:-1]]


def test_why_nothing_can_be_read(rapl: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (rapl / "intel-rapl:0" / "energy_uj").write_text("no number")
    with pytest.raises(CannotRead, match=r"intel-rapl:0/energy_uj: invalid literal"), open_source(cpu()):
        pass
    monkeypatch.setattr(energy_sources, "RAPL", rapl / "nothing")
    with pytest.raises(CannotRead, match="this processor shows no energy counter"), open_source(cpu()):
        pass
    with pytest.raises(CannotRead, match="is not known here"), open_source(server("http://127.0.0.1:1")):
        pass
    with EnergyMeter(cpu()) as meter, meter.iteration() as timed:
        pass
    assert meter.used(timed) is None
    assert meter.facts["source"] is None and "no energy counter" in meter.facts["reason"]
    assert readable_metrics("cpu") == ()


def test_a_gpus_counter_and_without_one_its_power(cards: StubCards) -> None:
    card = cards.add("GPU-1", draw=300_000)
    for field, source in ((None, "NVML's energy counter"), ("total_energy", "NVML's power, integrated")):
        if field is not None:
            cards.refuse(card, NOT_SUPPORTED, field)
        with EnergyMeter(gpus()[0]) as meter:
            case = CaseEnergy(meter)
            with meter.iteration() as timed:
                sum(range(3_000_000))
            case.add(timed, 5)
        assert meter.facts["source"] == source
        values, reason = case.summarize()
        assert reason is None
        # The stub counts milliseconds of 300 W, whatever the machine was doing meanwhile.
        assert values["mean_power_watts"] == pytest.approx(300, rel=0.2)
        assert values["mean_sm_clock_mhz"] == pytest.approx(1980)
    cards.refuse(card, NOT_SUPPORTED, "power_usage")
    assert readable_metrics("cuda") == ()
    with pytest.raises(CannotRead, match="NVML's power, integrated: NVML: Not Supported"), open_source(gpus()[0]):
        pass
