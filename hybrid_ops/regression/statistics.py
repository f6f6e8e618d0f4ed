"""The mathematics behind the judge: pooled noise, tails, exact recurrence tests, false-discovery control.

Everything works on natural logarithms of positive measurements, so that a noise of 0.01 is one percent, a ratio is a
difference, and nothing depends on a metric's unit. Pure functions, no I/O.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.special import bdtr, digamma, ndtr, polygamma, stdtr, stdtrit


@dataclass(frozen=True)
class Noise:
    """A standard deviation of log values, with the degrees of freedom that it is known with."""

    deviation: float
    degrees: float


def mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def sum_of_squares(values: Sequence[float]) -> float:
    """The sum of squared distances from the mean."""
    centre = mean(values)
    return math.fsum((value - centre) ** 2 for value in values)


def noise_within(groups: Sequence[Sequence[float]]) -> Noise | None:
    """The noise that groups of log values show within themselves; None where no group has two values."""
    degrees = sum(len(group) - 1 for group in groups if group)
    if not degrees:
        return None
    return Noise(math.sqrt(sum(sum_of_squares(group) for group in groups if group) / degrees), degrees)


def pooled_noise(groups: Sequence[Sequence[float]], prior: Noise) -> Noise:
    """The noise common to several groups of log values, moderated by what was known before.

    The variance is the average of the groups' own variances and the prior's, each weighted by its degrees of freedom
    (the posterior of a scaled inverse chi-squared prior: Smyth 2004, "Linear models and empirical Bayes methods",
    the moderated t). A variance from two launches, alone, is not to be believed: it is below a quarter of the truth
    38 % of the time.
    """
    squares = prior.degrees * prior.deviation**2
    degrees = prior.degrees
    for group in groups:
        if len(group) > 1:
            squares += sum_of_squares(group)
            degrees += len(group) - 1
    return Noise(math.sqrt(squares / degrees), degrees)


def combined_noise(parts: Sequence[tuple[float, Noise]]) -> Noise:
    """The noise of a sum of independent parts, each scaled in variance by its factor.

    The degrees of freedom follow Welch and Satterthwaite (Satterthwaite 1946).
    """
    terms = [(factor * noise.deviation**2, noise.degrees) for factor, noise in parts]
    variance = math.fsum(term for term, _ in terms)
    if variance == 0:
        return Noise(0.0, math.fsum(degrees for _, degrees in terms))
    degrees = variance**2 / math.fsum(term**2 / degrees for term, degrees in terms if term)
    return Noise(math.sqrt(variance), degrees)


def fitted_prior(sample: Sequence[Noise], fallback: Noise, most_degrees: float) -> Noise:
    """The prior noise that the cells of one run share, by the method of moments (Smyth 2004, section 6.2).

    The log of a sample variance has a known mean and variance beyond the cells' own differences; what is left over says
    how much the cells differ, and so how many degrees of freedom the common value is worth. Metrics of one
    launch are correlated, which makes cells look more alike than they are: `most_degrees` bounds the belief.
    Returns `fallback` when fewer than eight cells have a variance.
    """
    usable = [noise for noise in sample if noise.deviation > 0 and noise.degrees >= 1]
    if len(usable) < 8:
        return fallback
    logs = [2 * math.log(n.deviation) - float(digamma(n.degrees / 2)) + math.log(n.degrees / 2) for n in usable]
    centre = mean(logs)
    excess = sum_of_squares(logs) / (len(logs) - 1) - mean([float(polygamma(1, n.degrees / 2)) for n in usable])
    degrees = 2 * _inverse_trigamma(excess) if excess > 0 else most_degrees
    degrees = min(degrees, most_degrees)
    log_variance = centre + float(digamma(degrees / 2)) - math.log(degrees / 2)
    return Noise(math.exp(log_variance / 2), degrees)


def _inverse_trigamma(value: float) -> float:
    """The argument at which the trigamma function has this value (Newton's method on its reciprocal, Smyth 2004)."""
    argument = 0.5 + 1 / value
    for _ in range(50):
        trigamma = float(polygamma(1, argument))
        step = trigamma * (1 - trigamma / value) / float(polygamma(2, argument))
        argument += step
        if -step / argument < 1e-8:
            break
    return argument


def between_session_noise(sessions: Sequence[Sequence[float]]) -> Noise:
    """How far a machine moves between sessions beyond what its launches explain, from values grouped by session.

    One-way random effects by the analysis of variance (Searle, Casella, McCulloch 1992, chapter 3). Values are
    positive measurements. Raises ValueError for fewer than two sessions with values.
    """
    logs = [[math.log(value) for value in session] for session in sessions if session]
    if len(logs) < 2:
        raise ValueError("the noise between sessions needs the launches of at least two sessions")
    total = sum(len(session) for session in logs)
    centre = mean([value for session in logs for value in session])
    between = sum(len(session) * (mean(session) - centre) ** 2 for session in logs) / (len(logs) - 1)
    inner_degrees = total - len(logs)
    within = sum(sum_of_squares(session) for session in logs) / inner_degrees if inner_degrees else 0.0
    size = (total - sum(len(session) ** 2 for session in logs) / total) / (len(logs) - 1)
    return Noise(math.sqrt(max(0.0, (between - within) / size)), len(logs) - 1)


def upper_tail(statistic: float, degrees: float) -> float:
    """The probability that Student's t exceeds the statistic."""
    return float(stdtr(degrees, -statistic))


def quantile(probability: float, degrees: float) -> float:
    """The value that Student's t exceeds with this probability (an upper quantile)."""
    return -float(stdtrit(degrees, probability))


@cache
def look_level(error: float, first: int, last: int) -> float:
    """The level at which to look after each of `first` … `last` launches so that all looks together err this often.

    Pocock's group-sequential boundary (1977), by the numerical integration of Armitage, McPherson and Rowe (1969) for
    independent launches. Looks that share a baseline or a session resemble each other more, so that they err less.
    The level found for the normal distribution serves for Student's t (Jennison and Turnbull 2000, chapter 3.8).
    """
    if first == last:
        return error
    # It takes long to import, and every command would wait for it.
    from scipy.optimize import brentq

    grid = np.linspace(-8 * math.sqrt(last), 8 * math.sqrt(last), 1201)
    step = float(grid[1] - grid[0])
    move = np.exp(-0.5 * (grid[:, None] - grid[None, :]) ** 2) * (step / math.sqrt(2 * math.pi))

    def excess(bound: float) -> float:
        density = np.exp(-0.5 * grid**2 / first) * (step / math.sqrt(2 * math.pi * first))
        for launches in range(first, last + 1):
            # A cell of the grid that the bound cuts keeps the share that lies below it.
            density = density * np.clip((bound * math.sqrt(launches) - grid) / step + 0.5, 0, 1)
            if launches < last:
                density = move @ density
        return 1 - float(density.sum()) - error

    return float(ndtr(-brentq(excess, 0.0, 7.0, xtol=1e-6)))


@cache
def _rank_sum_tails(left: int, right: int) -> tuple[float, ...]:
    """P(U >= u) for u = 0, 1, … of the Mann-Whitney statistic of two groups without a difference."""
    counts = _rank_sum_counts(left, right)
    total = math.comb(left + right, left)
    tails, above = [], 0
    for count in reversed(counts):
        above += count
        tails.append(above / total)
    return tuple(reversed(tails))


@cache
def _rank_sum_counts(left: int, right: int) -> tuple[int, ...]:
    """How many orderings of two groups give each value of U (Mann and Whitney 1947, the recurrence)."""
    if left == 0 or right == 0:
        return (1,)
    counts = [0] * (left * right + 1)
    for value, count in enumerate(_rank_sum_counts(left - 1, right)):
        counts[value + right] += count
    for value, count in enumerate(_rank_sum_counts(left, right - 1)):
        counts[value] += count
    return tuple(counts)


def rank_sum_tail(reference: Sequence[float], values: Sequence[float]) -> float:
    """The exact one-sided p of Mann and Whitney that `values` lie above `reference`; ties count against.

    Distribution-free: it holds for heavy tails and for launches that fall into two modes.
    """
    above = sum(value > other for value in values for other in reference)
    return _rank_sum_tails(len(reference), len(values))[above]


@cache
def _signed_rank_tails(count: int) -> tuple[float, ...]:
    counts = [1]
    for rank in range(1, count + 1):
        grown = counts + [0] * rank
        for value, ways in enumerate(counts):
            grown[value + rank] += ways
        counts = grown
    tails, above = [], 0
    for ways in reversed(counts):
        above += ways
        tails.append(above / 2**count)
    return tuple(reversed(tails))


def signed_rank_tail(differences: Sequence[float]) -> float:
    """The exact one-sided p of Wilcoxon's signed ranks that the differences lie above zero; zeros count against.

    Distribution-free: without a difference between the arms, exchanging them changes nothing, so every sign is as
    likely as its opposite.
    """
    ordered = sorted(range(len(differences)), key=lambda index: (abs(differences[index]), differences[index]))
    positive = sum(rank for rank, index in enumerate(ordered, 1) if differences[index] > 0)
    return _signed_rank_tails(len(differences))[positive]


def false_discovery_threshold(p_values: Sequence[float], rate: float) -> float:
    """The largest p-value level at which hypotheses may be rejected with the given false-discovery rate.

    Benjamini and Hochberg 1995; valid for the positive dependence of metrics of one launch (Benjamini and Yekutieli
    2001) and for p-values that stay valid when the sample size depends on the data (Johari et al. 2022). With nothing
    to reject it is the level that the single smallest p-value would have had to reach.
    """
    count = len(p_values)
    rejected = 1
    for position, p_value in enumerate(sorted(p_values), 1):
        if p_value <= rate * position / count:
            rejected = position
    return rate * rejected / max(count, 1)


def median_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """An interval that holds the median of what the values were drawn from, whatever its distribution.

    From order statistics: how many of n values lie below the median follows the binomial distribution of n and 1/2
    (Conover, "Practical Nonparametric Statistics", 3rd ed., 1999, §3.2). Fewer than six values give their range, which
    holds it less often than in 95 % of cases.
    """
    ordered, count = sorted(values), len(values)
    below = sum(bdtr(k, count, 0.5) <= (1 - confidence) / 2 for k in range(count // 2))
    left_out = max(0, below - 1)
    return ordered[left_out], ordered[-1 - left_out]
