"""The noise that earlier runs have shown is what the judge reckons with."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from pathlib import Path

import pytest

from hybrid_ops.measure.metrics import Direction, Kind
from hybrid_ops.regression.history.noise import FEWEST_STEPS, night_noise
from hybrid_ops.regression.history.store import History
from hybrid_ops.regression.judge import PRIORS, Evidence, Settings, judge_cell, tolerance_from_launches
from hybrid_ops.regression.learnt import KnownNoise, LearntNoise, NightNoise, Session
from hybrid_ops.regression.results import RunResults
from hybrid_ops.regression.statistics import Noise
from hybrid_ops.regression.verdicts import Verdict
from tests.regression.history.nights import cell, results

PRIOR = PRIORS["cpu"][Kind.ABSOLUTE]
SETTINGS = Settings.for_platform("cpu")


def known(learnt: LearntNoise, baseline: list[list[float]], kind: Kind = Kind.ABSOLUTE) -> KnownNoise:
    return learnt.of("llama/short-itl", "abc", kind, baseline, PRIOR)


def sessions(count: int, moves: float, launches: int = 3, noise: float = 0.005) -> list[list[float]]:
    """Sessions of launches on a machine that moves by `moves` between them."""
    source = random.Random(f"{count} {moves}")
    shifts = [source.gauss(0, moves) for _ in range(count)]
    return [[100 * math.exp(shift + source.gauss(0, noise)) for _ in range(launches)] for shift in shifts]


def test_nothing_measured_leaves_the_priors():
    assert known(LearntNoise(), [[100.0, 101.0, 99.0]]) == KnownNoise()


def test_a_a_sessions_tell_of_launches_and_of_sessions_and_those_of_another_definition_do_not():
    apart = [Session("abc", launches) for launches in sessions(6, 0.08)]
    noise = known(LearntNoise({"llama/short-itl": apart}), [[100.0]])
    assert noise.launch is not None and noise.launch.degrees == 12
    assert noise.launch.deviation == pytest.approx(0.005, rel=0.5)
    assert noise.session is not None and noise.session.deviation == pytest.approx(0.08, rel=0.5)
    others = [replace(session, definition="def") for session in apart]
    assert known(LearntNoise({"llama/short-itl": others}), [[100.0]]) == KnownNoise()


def test_the_sessions_of_a_baseline_tell_how_far_the_machine_moves():
    calm, moving = (known(LearntNoise(), sessions(6, moves)).session for moves in (0.0, 0.08))
    assert calm is not None and moving is not None
    assert calm.deviation < PRIOR.session < 0.04 < moving.deviation
    assert calm.degrees == 5 + PRIOR.degrees


def test_a_ratio_is_never_believed_to_move_less_than_machines_differ():
    ratio = PRIORS["cpu"][Kind.RATIO]
    noise = LearntNoise().of("c", "abc", Kind.RATIO, sessions(6, 0.0), ratio)
    assert noise.session is not None and noise.session.deviation == ratio.session


def test_launches_are_taken_off_what_nights_show():
    alone = NightNoise(Noise(0.05, 10), launch_share=1.0)
    exact_launches = [[100.0] * 40]
    noise = known(LearntNoise(nights={"llama/short-itl": alone}), exact_launches)
    noisy = known(LearntNoise(nights={"llama/short-itl": alone}), sessions(1, 0.0, 40, noise=0.04))
    assert noise.session is not None and noisy.session is not None
    assert noisy.session.deviation < noise.session.deviation < 0.05


def test_a_machine_that_moved_as_its_sessions_say_has_not_become_slower():
    """Eight launches 12 % above a baseline, on a machine whose sessions lie 8 % apart."""
    moved = [112.0 + step / 10 for step in range(8)]
    recorded = sessions(4, 0.08)
    flat = [launch for session in recorded for launch in session]
    scale = 100 / math.exp(sum(map(math.log, flat)) / len(flat))
    flat = [launch * scale for launch in flat]
    told = Evidence(Kind.ABSOLUTE, Direction.LOWER, moved, flat, 0.02)
    grouped = [flat[start : start + 3] for start in range(0, 12, 3)]
    learnt = replace(told, session_sizes=(3, 3, 3, 3), session_noise=known(LearntNoise(), grouped).session)
    assert judge_cell(replace(told, baseline=[100.0, 100.2, 99.8]), SETTINGS).verdict is Verdict.SLOWER
    assert judge_cell(learnt, SETTINGS).verdict is Verdict.INCONCLUSIVE


def test_launches_of_different_sessions_do_not_make_a_launch_noisy():
    flat = [100.0, 100.5, 99.5, 120.0, 120.5, 119.5]
    evidence = Evidence(Kind.ABSOLUTE, Direction.LOWER, [110.0], flat, 0.1)
    apart = judge_cell(replace(evidence, session_sizes=(3, 3)), SETTINGS)
    together = judge_cell(evidence, SETTINGS)
    assert apart.noise is not None and together.noise is not None
    assert apart.noise < 0.04 < 0.05 < together.noise


def test_a_tolerance_has_room_for_the_sessions():
    flat = [launch for session in sessions(4, 0.08) for launch in session]
    between = known(LearntNoise(), sessions(4, 0.08)).session
    assert tolerance_from_launches(flat, PRIOR, between, (3, 3, 3, 3)) > tolerance_from_launches(flat[:3], PRIOR)


def nights(tmp_path: Path, values: list[float], baselines: list[float] | None = None) -> dict[str, NightNoise]:
    with History(tmp_path / "history.sqlite", create=True) as history:
        for night, value in enumerate(values):
            baseline = 1.0 if baselines is None else baselines[night]
            cells = [cell(value) | {"baseline": baseline}, cell(7, metric="blocks", kind="exact")]
            history.add(RunResults.model_validate(results(night, cells)))
        [device] = {series.device for series in history.series()}
        assert night_noise(history, "another-device") == {}
        return night_noise(history, device)


def test_nights_tell_their_noise_and_a_regression_that_stays_is_none_of_it(tmp_path):
    source = random.Random(3)
    values = [math.exp(source.gauss(0, 0.02)) for _ in range(60)]
    for name, series in (("flat", values), ("stepped", [v * (1.5 if i > 30 else 1) for i, v in enumerate(values)])):
        (tmp_path / name).mkdir()
        [noise] = nights(tmp_path / name, series).values()
        assert noise.noise.deviation == pytest.approx(0.02, rel=0.35)
        assert noise.noise.degrees == pytest.approx(59 / 4)
        assert noise.launch_share == 1.0


def test_an_accepted_change_is_no_noise_and_few_nights_say_nothing(tmp_path):
    (tmp_path / "few").mkdir()
    assert nights(tmp_path / "few", [1.0, 1.1] * (FEWEST_STEPS // 2) + [1.0] * (FEWEST_STEPS % 2)) == {}
    (tmp_path / "accepted").mkdir()
    values = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0]
    assert nights(tmp_path / "accepted", values, baselines=values) == {}
