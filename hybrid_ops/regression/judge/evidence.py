"""What is known of one cell before it is judged."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeGuard

from hybrid_ops.measure.metrics import Direction, Kind
from hybrid_ops.regression.statistics import Noise, mean

Value = float | int | str | None


@dataclass(frozen=True)
class Evidence:
    """All that is known of one cell. Values are per launch, in launch order, in the metric's unit."""

    kind: Kind
    direction: Direction
    current: Sequence[Value] = ()
    baseline: Sequence[Value] = ()
    tolerance: float = 0.0
    """Relative: 0.05 allows 5 %. Its log, log(1 + tolerance), is used on both sides of the baseline."""
    pairs: Sequence[float] | None = None
    """A/B: log(current arm / baseline arm) of each launch pair; `baseline` and `current` are then only shown."""
    launch_noise: Noise | None = None
    """The noise measured by A/A on this machine, in place of the kind's prior."""
    session_noise: Noise | None = None
    """The noise between sessions measured on this machine, in place of the kind's prior."""
    session_sizes: Sequence[int] = ()
    """How many of the baseline's launches each session made that recorded it, in order; empty for a single session."""
    bounds: Sequence[Value] = ()
    """What each launch's value is held against, for a metric that needs no baseline: at most that where lower is
    better, else at least that."""
    is_tokens: bool = False
    """Exact values that are token ids: they are alike if their generations begin alike."""
    rounding: float = 0.0
    """Exact values that are numbers: they are alike if they differ by no more than this, relative to the greater."""

    @property
    def baseline_sessions(self) -> int:
        """In how many sessions the baseline's launches were made."""
        return max(1, len(self.session_sizes))

    @property
    def sign(self) -> float:
        """1 where a greater value is worse, else -1: it turns a log-ratio into badness and back."""
        return 1.0 if self.direction is Direction.LOWER else -1.0


def is_measurement(value: Value) -> TypeGuard[float]:
    """Whether a value of a noisy metric may be judged: a number that is positive and finite."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value) and value > 0


def is_exact_value(value: Value) -> bool:
    """Whether a value of an exact metric may be compared: a text or a number that is finite."""
    return value is not None and (not isinstance(value, float) or math.isfinite(value))


def are_alike(values: Sequence[Value], is_tokens: bool, rounding: float = 0.0) -> bool:
    """Whether exact values are the same; of tokens, whether each generation begins with the same token in all of them;
    of numbers with a bound, whether none is further from the first than it allows.

    Kernels that are chosen by timing round in different ways, and after one token that rounding has changed no other
    need be the same. A wrong kernel changes the first one too.
    """
    if len(set(values)) <= 1:
        return True
    if rounding > 0:
        return all(distance(values[0], value) <= rounding for value in values[1:])
    return is_tokens and min(_leading(values[0], value) for value in values[1:]) > 0


def distance(one: Value, other: Value) -> float:
    """The largest relative difference of two numbers, or of the numbers in two texts place by place; infinite where
    the texts have not the same number of them."""
    firsts, seconds = ([float(number) for number in str(value).split()] for value in (one, other))
    if len(firsts) != len(seconds):
        return math.inf
    return max((abs(a - b) / max(abs(a), abs(b)) for a, b in zip(firsts, seconds) if a != b), default=0.0)


def _leading(first: Value, second: Value) -> int:
    """How many leading tokens agree, in the generation that agrees least. Token ids are separated by spaces, and
    generations by ` / `."""
    generations = (str(first).split(" / "), str(second).split(" / "))
    if len(generations[0]) != len(generations[1]):
        return 0
    counts = []
    for one, other in zip(*generations):
        pairs = list(zip(one.split(), other.split()))
        counts.append(next((place for place, (a, b) in enumerate(pairs) if a != b), len(pairs)))
    return min(counts)


def leading_tokens(values: Sequence[Value]) -> int:
    """How many leading tokens agree among all values, in the generation that agrees least."""
    return min(_leading(values[0], value) for value in values)


def logs(values: Sequence[Value]) -> list[float]:
    """The natural logarithms of measurements; a text or None among them is passed over."""
    return [math.log(value) for value in values if isinstance(value, int | float)]


def by_session(values: Sequence[float], sizes: Sequence[int]) -> list[list[float]]:
    """A baseline's values, grouped by the sessions that recorded them; no `sizes` say that it was one session."""
    own = iter(values)
    return [list(islice(own, size)) for size in sizes] if sizes else [list(own)]


def geometric_mean(values: Sequence[Value]) -> float | None:
    """The geometric mean of measurements, or None of none."""
    if not values:
        return None
    own = logs(values)
    # From the first value, so that equal launches give back exactly their value.
    return float(values[0] or 0) * math.exp(mean([log - own[0] for log in own]))
