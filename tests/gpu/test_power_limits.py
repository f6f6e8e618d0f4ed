"""Sweeps over power limits on a stub of NVML: refused, clamped, unsupported, killed; the limit is restored."""

from __future__ import annotations

import fcntl
import getpass
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from hybrid_ops.engines.devices import cpu, gpus
from hybrid_ops.errors import InputError
from hybrid_ops.measure.power_limit import PowerLimitError, check_power_limits, parse_power_limits, power_limit
from tests.gpu.nvml_stub import NO_PERMISSION, StubCards
from tests.plugin.suite import Suite

ROOT = Path(__file__).parents[2]
FAKE = ROOT / "tests" / "engines" / "fake_llama_bench.py"
UUID = "GPU-stub"
LIMITS = (600, 450, 300, 200)
PUBLISHED = (600, 500, 450, 400, 350, 300, 250, 200)
"""Power limits of the published llama-bench tables of this model."""
WORKLOADS = """
schema_version: 1
workloads:
  brief: {description: a few tokens, prompt_tokens: 8, generation_tokens: 4}
llama_bench:
  tg128: {description: a generation, generation_tokens: 128}
suites:
  quick: [tg128, brief]
"""
TEST_FILE = """
import pytest
from hybrid_ops.plugin import check

@pytest.mark.perf
def test_generation(generation_cell):
    check(generation_cell)

@pytest.mark.perf
def test_cell(cell):
    check(cell)
"""


@pytest.fixture
def card(cards: StubCards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A card of 600 W that takes all of it, and a folder for guards of this test alone."""
    monkeypatch.setattr(tempfile, "tempdir", None)
    (tmp_path / "leases").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "leases"))
    return cards.add(UUID, draw=600_000, power_limit=600_000, enforced_power_limit=600_000, most_power_limit=600_000,
                     set_power_limit=600_000)  # fmt: skip


@pytest.fixture(autouse=True)
def own_temporary_folder() -> Iterator[None]:
    yield
    tempfile.tempdir = None


def guard_folder() -> Path:
    return Path(os.environ["TMPDIR"]) / f"hybrid-ops-{getpass.getuser()}"


def wait_for_the_guard(folder: Path) -> None:
    """Return when no guard holds the card: each keeps the lock until it has restored the limit."""
    with (folder / f"power-{UUID}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)


def test_a_limit_holds_and_the_old_one_comes_back(cards: StubCards, card: str) -> None:
    with power_limit(gpus()[0], 450):
        assert cards.shown(card, "enforced_power_limit") == "450000"
        assert (guard_folder() / f"power-{UUID}.json").read_text() == '{"limit": 600000}'
    assert cards.shown(card, "power_limit") == "600000"
    assert not (guard_folder() / f"power-{UUID}.json").exists()
    with pytest.raises(ZeroDivisionError), power_limit(gpus()[0], 300):
        1 / 0  # noqa: B018 - whatever happens in the block
    assert cards.shown(card, "power_limit") == "600000"


def test_what_the_card_does_not_hold_is_not_measured(cards: StubCards, card: str) -> None:
    cards.set(card, set_power_limit=500_000)
    clamped = pytest.raises(PowerLimitError, match="the GPU enforces 500 W, not 550 W: it was clamped")
    with clamped, power_limit(gpus()[0], 550):
        pytest.fail("the block must not run")
    assert cards.shown(card, "power_limit") == "600000"


@pytest.mark.parametrize("refused", ["permission", "unsupported"])
def test_a_refusal_is_one_line_before_anything_is_measured(cards: StubCards, card: str, refused: str) -> None:
    if refused == "permission":
        cards.refuse(card, NO_PERMISSION, "set_power_limit")
    else:
        cards.set(card, set_power_limit=None)
    words = "Insufficient Permissions" if refused == "permission" else "Not Supported"
    with pytest.raises(InputError, match=f"does not let its power limit be set: {words}; nothing was changed"):
        check_power_limits(gpus()[0], [500])


def test_limits_out_of_range_and_a_processor_are_refused(cards: StubCards, card: str) -> None:
    with pytest.raises(InputError, match="takes 200 to 600 W, not 700, 100; nothing was changed"):
        check_power_limits(gpus()[0], [700, 500, 100])
    with pytest.raises(InputError, match="only a GPU has a power limit to set"):
        check_power_limits(cpu(), [500])
    assert cards.shown(card, "power_limit") == "600000"


@pytest.mark.parametrize("text", ["", "600,", "600,x", "600,600", "-5", "0", "450.5"])
def test_limits_are_whole_watts(text: str) -> None:
    with pytest.raises(InputError, match="--perf-power-limits: different whole numbers of watts"):
        parse_power_limits(text)


HOLDER = """
import signal, sys
from hybrid_ops.engines.devices import gpus
from hybrid_ops.measure.power_limit import power_limit
# A shell's background job may have been told to ignore them.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
with power_limit(gpus()[0], 300):
    print("held", flush=True)
    sys.stdin.read()
"""


def holder() -> subprocess.Popen[str]:
    """A process that holds 300 W until it is told to end."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_killed_run_leaves_the_old_limit(cards: StubCards, card: str, how: signal.Signals) -> None:
    with holder() as process:
        assert cards.shown(card, "power_limit") == "300000"
        os.killpg(process.pid, how)
        process.wait()
    wait_for_the_guard(guard_folder())
    assert cards.shown(card, "power_limit") == "600000"


def test_where_the_guard_was_killed_too_the_next_one_restores(cards: StubCards, card: str) -> None:
    with holder() as process:
        [guard] = [int(path.parent.name) for path in Path("/proc").glob("[0-9]*/cmdline")
                   if b"power_guard.py" in path.read_bytes() and UUID.encode() in path.read_bytes()]  # fmt: skip
        os.kill(guard, signal.SIGKILL)
        process.kill()
    wait_for_the_guard(guard_folder())
    assert cards.shown(card, "power_limit") == "300000"
    check_power_limits(gpus()[0], [500])
    assert cards.shown(card, "power_limit") == "600000"
    assert not (guard_folder() / f"power-{UUID}.json").exists()


class CardSuite(Suite):
    """llama-bench (a fake) and the no-op engine on the stub's card."""

    def __init__(self, pytester: pytest.Pytester, cards: StubCards) -> None:
        super().__init__(pytester)
        pytester.makepyfile(test_suite=TEST_FILE)
        (self.root / "workloads.yaml").write_text(WORKLOADS)
        (self.root / "small.gguf").write_bytes(b"GGUF")
        for name, value in {
            **cards.environment, "HYBRID_OPS_LLAMA_BENCH": str(FAKE), "FAKE_LLAMA_BENCH_BACKEND": "CUDA",
            "FAKE_LLAMA_BENCH_REAL_TIME": "1",
        }.items():  # fmt: skip
            pytester._monkeypatch.setenv(name, value)
        self.add_model("llama-2-7b", gguf="small.gguf", engine="llama-bench", platforms=["cuda"])
        self.add_model("plain", platforms=["cuda"])

    @property
    def arguments(self) -> list[str]:
        return [word.replace("--perf-device=cpu", "--perf-device=cuda") for word in super().arguments]


@pytest.fixture
def suite(pytester: pytest.Pytester, cards: StubCards, card: str) -> CardSuite:
    return CardSuite(pytester, cards)


@pytest.mark.long
def test_a_sweep_is_a_table_a_curve_and_a_knee(suite: CardSuite, cards: StubCards, card: str) -> None:
    limits = ",".join(map(str, LIMITS))
    result = suite.run("-k", "llama-2-7b", f"--perf-power-limits={limits}", "--perf-launches=1")
    lines = re.findall(r"^llama-2-7b/tg128 +(\d+) +([\d.]+ ± [\d.]+) +(.+)$", str(result.stdout), re.M)
    assert [(int(watts), printed) for watts, printed, _ in lines if watts in ("600", "200")] == [
        (600, "278.95 ± 0.23"),
        (200, "189.82 ± 2.81"),
    ]
    assert [int(watts) for watts, _, _ in lines] == list(PUBLISHED)
    measured = {int(watts): now.split() for watts, _, now in lines if "—" not in now}
    assert list(measured) == list(LIMITS)
    for watts, (rate, joules, per_joule, power, clock) in measured.items():
        assert clock == "1980"
        # The stub's card draws its limit, so the joules of a token are the limit over the rate.
        assert float(power) == pytest.approx(watts, rel=0.1)
        assert float(joules) == pytest.approx(1 / float(per_joule), rel=0.01)
        assert float(joules) == pytest.approx(watts / float(rate), rel=0.2)
    assert "llama-2-7b/tg128: the knee is at 450 W: 100.0% of the most tok/s at" in str(result.stdout)
    [plot] = (suite.root / "perf_results").glob("*/plots/power_llama-2-7b_tg128.png")
    assert plot.stat().st_size > 10_000
    assert cards.shown(card, "power_limit") == "600000"
    found = suite.results()
    assert found["power_limits"]["llama-2-7b@450W/tg128"]["watts"] == 450
    assert {launch["conditions"]["gpu"]["power_limit_w"] for launch in found["launches"]} == set(LIMITS)


@pytest.mark.long
def test_a_sweep_takes_other_engines_and_leaves_a_clamped_limit_out(
    suite: CardSuite, cards: StubCards, card: str
) -> None:
    cards.set(card, set_power_limit=500_000)
    result = suite.run("-k", "plain", "--perf-power-limits=550,400", "--perf-launches=1")
    verdicts = suite.verdicts()
    assert verdicts["plain@400W/brief-output_tokens"] == "missing-baseline"
    assert verdicts["plain@550W/brief-output_tokens"] == "failed-to-run"
    result.stdout.fnmatch_lines(["*plain@550W/brief*the GPU enforces 500 W, not 550 W: it was clamped*"])
    assert cards.shown(card, "power_limit") == "600000"


def test_a_run_that_may_not_set_limits_ends_before_it_measures(suite: CardSuite, cards: StubCards, card: str) -> None:
    cards.refuse(card, NO_PERMISSION, "set_power_limit")
    result = suite.run("-k", "plain", "--perf-power-limits=550,400")
    result.stderr.fnmatch_lines(["ERROR: --perf-power-limits: *Insufficient Permissions; nothing was changed*"])
    assert not (suite.root / "perf_results").exists()


def test_a_run_killed_in_a_sweep_leaves_the_old_limit(suite: CardSuite, cards: StubCards, card: str) -> None:
    suite.add_model("hanging", platforms=["cuda"], arguments={"fail": {"on": "generate", "how": "hang"}})
    command = [sys.executable, "-m", "pytest", *suite.arguments, "-k", "hanging", "--perf-power-limits=250"]
    with subprocess.Popen(
        command, cwd=suite.root, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"}
    ) as process:
        assert process.stdout is not None
        assert any("brief (1 of 1)" in line for line in process.stdout), "it ended before it measured"
        assert cards.shown(card, "enforced_power_limit") == "250000"
        process.kill()
    wait_for_the_guard(guard_folder())
    assert cards.shown(card, "power_limit") == "600000"
