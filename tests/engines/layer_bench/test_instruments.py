"""The benchmark's own instruments: the memory follower, the interleaving, the ratios. Not its times."""

import json
from types import SimpleNamespace

import pytest
import torch

from hybrid_ops.engines.layer_bench import __main__ as program
from hybrid_ops.engines.layer_bench import cases, timing
from hybrid_ops.engines.layer_bench.agreement import Agreed, Check
from hybrid_ops.engines.layer_bench.memory import live_storages, peak_memory
from hybrid_ops.engines.layer_bench.tables import table
from hybrid_ops.engines.layer_bench.timing import measure, summarise, time_round

FLOATS = 1_000_000


def test_the_memory_follower_counts_what_is_alive_together():
    with live_storages() as peak:
        a = torch.zeros(FLOATS)
        b = a + 1
        del a
        c = b * 2  # a is gone: two alive, not three
        view = c.view(10, -1)[1:].t()  # no memory of its own
        del b, c
        assert view.shape[1] == 9
        d = [torch.zeros(FLOATS) for _ in range(3)]  # with what the view keeps alive: four
        del d
    assert peak[0] == 4 * 4 * FLOATS


@pytest.mark.parametrize("layer", ["delta_rule", "ssd", "window"])
def test_memory_is_linear_in_the_length(layer):
    """Twice the tokens take at most twice the bytes: no T × T matrix anywhere."""
    short, long = (peak_memory(layer, tokens=tokens) for tokens in (2048, 4096))
    assert long <= 2 * short


def test_contenders_are_interleaved_and_counted():
    calls: list[str] = []
    named = {name: (lambda name=name: calls.append(name)) for name in ("ours", "a", "b")}
    samples = measure(named, repeats=4, warmups=1)
    assert {name: len(times) for name, times in samples.items()} == {"ours": 4, "a": 4, "b": 4}
    rounds = [calls[i : i + 3] for i in range(0, 15, 3)]
    assert all(sorted(names) == ["a", "b", "ours"] for names in rounds)
    assert len({tuple(names) for names in rounds}) > 1


def test_the_order_of_a_round_follows_its_seed():
    def order(seed: int) -> list[str]:
        calls: list[str] = []
        time_round({name: (lambda name=name: calls.append(name)) for name in "abcdef"}, seed)
        return calls

    assert order(1) == order(1) != order(2)


def test_ratios_are_taken_within_a_round():
    summary = summarise({"ours": [1.0, 10.0, 2.0], "peer": [2.0, 20.0, 4.0]})
    assert summary["peer"] == {"min": 2.0, "median": 4.0, "ratio": 2.0}
    shown = summary | {"transformers": summary["peer"]}
    assert "met" in table("delta_rule/forward", shown, Agreed())
    on_gpu = table("delta_rule/forward", shown, Agreed(), "cuda")  # a goal of the CPU is none there
    assert "met" not in on_gpu and "missed" not in on_gpu


def test_a_gpu_is_timed_by_its_own_events_after_its_cache_was_cleared(monkeypatch):
    """The order of what is put into the stream, with the CUDA functions replaced: there is no GPU here."""
    log: list[str] = []

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing

        def record(self) -> None:
            log.append("record")

        def synchronize(self) -> None:
            log.append("wait")

        def elapsed_time(self, end: "Event") -> float:
            return 1.5  # milliseconds

    class Buffer:
        def add_(self, number: int) -> None:
            log.append("clear")

    sizes: list[int] = []
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: SimpleNamespace(L2_cache_size=1000))
    monkeypatch.setattr(torch, "zeros", lambda size, dtype, device: sizes.append(size) or Buffer())
    timing._clock.cache_clear()
    calls = {"ours": lambda: log.append("call"), "peer": lambda: log.append("call")}
    assert time_round(calls, 0, "cuda") == {"ours": 0.0015, "peer": 0.0015}
    timing._clock.cache_clear()
    assert log == 2 * ["clear", "record", "call", "record", "wait"]
    assert sizes == [2000]


def test_the_table_shows_errors_and_the_refused():
    summary = summarise({"ours": [1.0], "floor": [0.5]})
    agreed = Agreed(checks={"ours": Check(2e-7, 8e-6, "output")}, refused={"peer": "it is wrong"})
    floor, ours, peer = table("ssd/forward", summary, agreed).splitlines()
    assert floor.split() == ["ssd/forward", "floor", "500.00", "500.00", "0.50"]
    assert ours.split() == ["ssd/forward", "ours", "2.0e-07", "8.0e-06", "1000.00", "1000.00", "1.00"]
    assert peer.endswith(" refused: it is wrong")


def test_the_program_agrees_times_and_keeps_every_sample(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(program, "MEMORY_LENGTHS", (64,))
    chosen = ["ssd/forward", "window/forward"]
    options = ["--cases", *chosen, "--tokens", "64", "--repeats", "2", "--json", str(tmp_path / "samples.json")]
    assert program.main(options) == 0
    record = json.loads((tmp_path / "samples.json").read_text())
    assert set(record["samples_s"]) == set(record["checks"]) == set(chosen)
    assert all(len(times) == 2 for case in record["samples_s"].values() for times in case.values())
    assert set(record["checks"]["window/forward"]["ours"]) == {"error", "bound", "where"}
    assert record["refused"] == {"ssd/forward": {}, "window/forward": {}}
    assert set(record["peak_bytes"]) == {"delta_rule", "ssd", "selective_scan", "window"}
    assert "theirs/ours" in capsys.readouterr().out


def test_the_first_contender_is_ours():
    assert all(layer.contenders[0].name == "ours" for layer in cases.LAYERS.values())
