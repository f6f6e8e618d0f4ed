"""Simulated measurements with the kinds of noise that real launches have: the material of the proof.

Times in milliseconds, less is better. A trace holds every iteration of every launch of every cell, so that each rule
may read it in its own way: launch medians, pooled iterations, or a history of nights.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class NoiseModel:
    """How launches and iterations vary; all deviations are of log values."""

    name: str
    launch: float = 0.0075
    """Between launches, beyond what the iterations' own noise leaves in a launch's median."""
    degrees: float = math.inf
    """Degrees of freedom of Student's t that launches follow: 3 is heavy-tailed, infinity is normal."""
    slow_mode: float = 0.0
    """By how much the slow mode of a bimodal launch is slower; the whole engine shares it."""
    slow_share: float = 0.2
    """The share of launches in the slow mode."""
    session: float = 0.0
    """Between sessions: each night of the history, the session of the stored baseline and that of the run."""
    drift: float = 0.0
    """Per launch, within a session: a machine that warms up."""
    iteration: float = 0.03
    """Between iterations of one launch."""
    autocorrelation: float = 0.0
    """Of successive iterations."""
    pair: float | None = None
    """Of the log-ratio of two arms that live at once and are interleaved; None: their launches are independent."""
    platform: str = "cuda"
    """Whose priors and default session noise the judge starts from."""

    def launch_offsets(self, source: np.random.Generator, engines: int, cells: int, launches: int) -> Array:
        """The log offsets (engines, cells, launches) of one session; half their variance is common to an engine."""
        shared = self._standard(source, (engines, 1, launches))
        own = self._standard(source, (engines, cells, launches))
        offsets = self.launch * math.sqrt(0.5) * (shared + own)
        modes = source.random((engines, 1, launches)) < self.slow_share
        session = self.session * source.standard_normal((engines, 1, 1))
        return offsets + self.slow_mode * modes + session + self.drift * np.arange(launches)

    def _standard(self, source: np.random.Generator, shape: tuple[int, ...]) -> Array:
        if math.isinf(self.degrees):
            return source.standard_normal(shape)
        return source.standard_t(self.degrees, shape) / math.sqrt(self.degrees / (self.degrees - 2))

    def iterations(self, source: np.random.Generator, offsets: Array, count: int) -> Array:
        """Times of `count` iterations of each launch; the last axis is the iteration."""
        shocks = source.standard_normal((*offsets.shape, count))
        logs = np.empty_like(shocks)
        logs[..., 0] = shocks[..., 0]
        fresh = math.sqrt(1 - self.autocorrelation**2)
        for index in range(1, count):
            logs[..., index] = self.autocorrelation * logs[..., index - 1] + fresh * shocks[..., index]
        return 10.0 * np.exp(offsets[..., None] + self.iteration * logs)


@dataclass(frozen=True)
class Trace:
    """One run: every cell of every engine. All arrays are (cells, launches, iterations), in milliseconds."""

    engines: int
    slowed: NDArray[np.bool_]
    """Which cells truly became slower."""
    history: Array
    """Nights before the change, one launch and one session each."""
    baseline: Array
    """Launches of the old code in one session of their own, the stored baseline."""
    before: Array
    """Launches of the old code in the session of the run."""
    after: Array
    """Launches of the new code in the session of the run, alternating with `before`."""
    interleaved: Array | None
    """Log-ratios of live interleaved launch pairs (cells, pairs), where they differ from independent launches."""

    @staticmethod
    def medians(launches: Array) -> Array:
        return np.median(launches, axis=-1)


def trace(
    model: NoiseModel,
    source: np.random.Generator,
    change: float,
    *,
    engines: int = 4,
    cells: int = 12,
    slowed_engines: int = 1,
    slowed_cells: int = 12,
    nights: int = 30,
    stored: int = 8,
    launches: int = 40,
    iterations: int = 30,
) -> Trace:
    """One run of `engines` × `cells` cells.

    The first `slowed_cells` cells of the first `slowed_engines` engines became slower by `change` (relative).
    """
    slowed = np.zeros((engines, cells), dtype=bool)
    slowed[:slowed_engines, :slowed_cells] = change != 0
    effect = math.log1p(change) * slowed[..., None]

    history = [model.launch_offsets(source, engines, cells, 1) for _ in range(nights)]
    baseline = model.launch_offsets(source, engines, cells, stored)
    # Old and new code alternate, so both drift alike: twice the launches in one series, dealt out in turn.
    series = model.launch_offsets(source, engines, cells, 2 * launches)
    before, after = series[..., 0::2], series[..., 1::2] + effect
    interleaved = None
    if model.pair is not None:
        interleaved = effect + model.pair * source.standard_normal((engines, cells, launches))

    def flat(values: Array) -> Array:
        return values.reshape(engines * cells, *values.shape[2:])

    return Trace(
        engines=engines,
        slowed=slowed.reshape(-1),
        history=flat(model.iterations(source, np.concatenate(history, axis=-1), iterations)),
        baseline=flat(model.iterations(source, baseline, iterations)),
        before=flat(model.iterations(source, before, iterations)),
        after=flat(model.iterations(source, after, iterations)),
        interleaved=None if interleaved is None else flat(interleaved),
    )


MODELS = (
    NoiseModel("normal launches"),
    NoiseModel("heavy tails (t, 3 degrees)", degrees=3),
    NoiseModel("bimodal launches (+2 %)", launch=0.0, slow_mode=0.02),
    NoiseModel("drift and sessions", launch=0.007, session=0.003, drift=0.0003),
    NoiseModel("autocorrelated iterations", launch=0.0, iteration=0.0145, autocorrelation=0.9),
    NoiseModel("bimodal launches (+6 %)", launch=0.0, slow_mode=0.06),
    NoiseModel("shared 2-core CPU", launch=0.04, session=0.04, iteration=0.06, pair=0.02, platform="cpu"),
)
"""The first five have a launch noise of 1 %; the last two are greater: wide modes, and what the shared CPU showed."""
