"""Who gets which devices: the rule alone, without files or clocks, so that any order of events can be tested."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

MOST_OVERTAKEN = 4
"""How many later requests may take devices before an older one that needs more than are free. Without any, devices lie
idle while a large request waits; without a bound, small requests keep a large one waiting for ever."""


@dataclass(frozen=True)
class Request:
    """What one launch asks for: `count` devices at once, of `candidates`, which are named in order of preference."""

    candidates: tuple[str, ...]
    count: int
    overtaken: int = 0
    """How many later requests have taken some of its candidates while it waited."""

    def fitting(self, free: Collection[str]) -> tuple[str, ...] | None:
        """The devices that it takes of those that are free; None where they are too few."""
        found = tuple(name for name in self.candidates if name in free)[: self.count]
        return found if len(found) == self.count else None


@dataclass(frozen=True)
class Grant:
    """The devices that a request gets now."""

    devices: tuple[str, ...]
    overtakes: list[int] = field(default_factory=list)
    """Which older requests it overtakes, by their place in the queue."""


def grant(older: Sequence[Request], request: Request, free: Collection[str]) -> Grant | None:
    """What `request` gets now, all or nothing; None where it has to wait.

    `older` are the requests that wait since before it, the oldest first. What one of them can have is left to it. One
    that was overtaken often enough keeps what is free of its candidates, until there is enough for it.
    """
    left = set(free)
    passed_over: list[int] = []
    for place, other in enumerate(older):
        if (devices := other.fitting(left)) is not None:
            left.difference_update(devices)
        elif other.overtaken >= MOST_OVERTAKEN:
            left.difference_update(other.candidates)
        else:
            passed_over.append(place)
    own = request.fitting(left)
    if own is None:
        return None
    return Grant(own, [place for place in passed_over if not set(own).isdisjoint(older[place].candidates)])
