"""The noise of a cell as earlier runs have shown it: A/A comparisons, the sessions of its baseline, earlier nights."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hybrid_ops.measure.metrics import Kind
from hybrid_ops.regression.judge import Prior
from hybrid_ops.regression.statistics import Noise, between_session_noise, noise_within, pooled_noise


@dataclass(frozen=True)
class Session:
    """The launches of one cell in one A/A session."""

    definition: str
    """Hash of what was measured: sessions that measured something else say nothing of it."""
    launches: Sequence[float]


@dataclass(frozen=True)
class NightNoise:
    """How much a cell's values move from night to night."""

    noise: Noise
    """Of the log of one night's value. It has the noise of that night's launches in it."""
    launch_share: float
    """The share of a launch's variance that is in it: the mean of 1 / launches."""


@dataclass(frozen=True)
class KnownNoise:
    """What is known of a cell's noise. None where nothing was measured, so that the platform's prior holds."""

    launch: Noise | None = None
    """Between the launches of one session."""
    session: Noise | None = None
    """Between sessions, beyond what the launches explain."""


@dataclass(frozen=True)
class LearntNoise:
    """What earlier runs on one device class have shown, by cell."""

    sessions: Mapping[str, Sequence[Session]] = field(default_factory=dict)
    """Of A/A comparisons."""
    nights: Mapping[str, NightNoise] = field(default_factory=dict)
    """Of the history."""

    def of(
        self, cell: str, definition: str, kind: Kind, baseline: Sequence[Sequence[float]], prior: Prior
    ) -> KnownNoise:
        """What is known of a cell whose baseline has these values, grouped by the sessions that recorded them."""
        alike = [one.launches for one in self.sessions.get(cell, ()) if one.definition == definition]
        launch = noise_within([[math.log(value) for value in launches] for launches in alike])
        found = [between_session_noise(groups) for groups in (alike, baseline) if sum(map(bool, groups)) > 1]
        if (night := self.nights.get(cell)) is not None:
            own = [[math.log(value) for value in group] for group in baseline]
            belief = pooled_noise(own, launch or Noise(prior.launch, prior.degrees))
            beyond = night.noise.deviation**2 - night.launch_share * belief.deviation**2
            found.append(Noise(math.sqrt(max(0.0, beyond)), night.noise.degrees))
        return KnownNoise(launch, _together(found, kind, prior))


def _together(found: Sequence[Noise], kind: Kind, prior: Prior) -> Noise | None:
    """One noise between sessions from all that was measured of it, moderated by the prior; None where nothing was.

    The prior counts for a few degrees of freedom here, for now there is something to put in its place.
    """
    if not found:
        return None
    parts = [*found, Noise(prior.session, prior.degrees)]
    degrees = sum(part.degrees for part in parts)
    deviation = math.sqrt(sum(part.degrees * part.deviation**2 for part in parts) / degrees)
    # A ratio's baseline holds on other machines too, of which the sessions of this one tell nothing.
    return Noise(max(deviation, prior.session) if kind is Kind.RATIO else deviation, degrees)
