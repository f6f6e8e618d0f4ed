"""The rule of who gets which devices, over random requests, ends and deaths in any order."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from hybrid_ops.engines.devices.allocation import MOST_OVERTAKEN, Grant, Request, grant

DEVICES = tuple(f"device-{number}" for number in range(6))


@dataclass
class Launch:
    """One that asks, as its own process sees it."""

    request: Request
    younger_before: list[int] = field(default_factory=list)
    """How many devices each younger request took of its candidates before it was served."""


class Machine(RuleBasedStateMachine):
    """A machine on which launches ask, look again, end and die."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[Launch] = []
        self.holding: dict[int, tuple[str, ...]] = {}
        self.granted = 0

    @property
    def free(self) -> set[str]:
        return set(DEVICES) - {name for held in self.holding.values() for name in held}

    @rule(candidates=st.lists(st.sampled_from(DEVICES), min_size=1, max_size=len(DEVICES), unique=True), data=st.data())
    def ask(self, candidates: list[str], data: st.DataObject) -> None:
        request = Request(tuple(candidates), data.draw(st.integers(1, len(candidates))))
        launch = Launch(request)
        if not self.look(launch, self.waiting):
            self.waiting.append(launch)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def look_again(self, data: st.DataObject) -> None:
        place = data.draw(st.integers(0, len(self.waiting) - 1))
        if self.look(self.waiting[place], self.waiting[:place]):
            del self.waiting[place]

    @precondition(lambda self: self.holding)
    @rule(data=st.data())
    def end_or_die_while_it_holds(self, data: st.DataObject) -> None:
        del self.holding[data.draw(st.sampled_from(sorted(self.holding)))]

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def die_while_it_waits(self, data: st.DataObject) -> None:
        del self.waiting[data.draw(st.integers(0, len(self.waiting) - 1))]

    def look(self, launch: Launch, older: list[Launch]) -> bool:
        free = self.free
        granted = grant([one.request for one in older], launch.request, free)
        if granted is None:
            return False
        assert len(granted.devices) == launch.request.count, "all or nothing"
        assert set(granted.devices) <= free & set(launch.request.candidates)
        for place, one in enumerate(older):
            taken = set(granted.devices) & set(one.request.candidates)
            left = free - set(granted.devices)
            if taken and one.request.fitting(free) and not one.request.fitting(left):
                # It fits by itself; whoever is still older may have the devices that it would take.
                assert any(first.request.fitting(free) for first in older[:place])
            if place in granted.overtakes:
                one.request = replace(one.request, overtaken=one.request.overtaken + 1)
                one.younger_before.append(len(taken))
        self.granted += 1
        self.holding[self.granted] = granted.devices
        return True

    @invariant()
    def no_device_is_held_twice(self) -> None:
        held = [name for devices in self.holding.values() for name in devices]
        assert len(held) == len(set(held))

    @invariant()
    def nobody_is_overtaken_without_end(self) -> None:
        assert all(len(one.younger_before) <= MOST_OVERTAKEN for one in self.waiting)

    @invariant()
    def the_oldest_gets_what_is_free(self) -> None:
        if self.waiting and self.waiting[0].request.fitting(self.free):
            assert grant([], self.waiting[0].request, self.free) is not None

    def teardown(self) -> None:
        """However it stands: as launches end, all that wait are served, each with the oldest still waiting first."""
        while self.waiting:
            before = len(self.waiting)
            self.holding.clear()
            for one in self.waiting[::-1]:  # the youngest looks first, and takes nothing from the oldest
                if self.look(one, self.waiting[: self.waiting.index(one)]):
                    self.waiting.remove(one)
            assert len(self.waiting) < before, "all devices are free, and nobody is served"


TestMachine = Machine.TestCase


def test_requests_of_mixed_sizes_are_packed() -> None:
    """Three of four devices are taken by two requests, and a third that needs two waits; one more that needs one does
    not wait behind it, a few times."""
    free = {DEVICES[3]}
    two = Request(DEVICES[:4], 2)
    for _ in range(MOST_OVERTAKEN):
        assert grant([two], Request(DEVICES[:4], 1), free) == Grant((DEVICES[3],), [0])
        two = replace(two, overtaken=two.overtaken + 1)
    assert grant([two], Request(DEVICES[:4], 1), free) is None
    assert grant([two], Request(DEVICES, 1), {*free, DEVICES[5]}) == Grant((DEVICES[5],))
    assert grant([], two, {*free, DEVICES[0]}) == Grant((DEVICES[0], DEVICES[3]))


@pytest.mark.parametrize("count", [1, 3])
def test_what_an_older_request_can_have_is_left_to_it(count: int) -> None:
    older = Request(DEVICES, count)
    assert grant([older], Request(DEVICES, 6 - count), set(DEVICES)) == Grant(DEVICES[count:])
    assert grant([older], Request(DEVICES, 7 - count), set(DEVICES)) is None
