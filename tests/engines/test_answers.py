"""A worker's answer is read as the type of its operation says, and as nothing else."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import pytest

from hybrid_ops.engines.answers import AnswerError, read_answer
from hybrid_ops.engines.protocol import CacheFacts, CacheGroup, DeviceFacts, LoadFacts


@dataclass(frozen=True)
class Part:
    count: int


@dataclass(frozen=True)
class Answer:
    seconds: float
    name: str | None
    is_done: bool
    parts: list[Part]
    steps: list[tuple[float, int]]
    by_name: dict[str, Part]
    mixed: dict[str, float | int | str]


GOOD: dict[str, Any] = {
    "seconds": 0.5,
    "name": "n",
    "is_done": True,
    "parts": [{"count": 1}, {"count": 2}],
    "steps": [[0.1, 1], [2, 2]],
    "by_name": {"a": {"count": 3}},
    "mixed": {"whole": 1, "half": 0.5, "text": "t"},
}


def test_an_answer_is_read_whole() -> None:
    assert read_answer(Answer, GOOD) == Answer(
        seconds=0.5,
        name="n",
        is_done=True,
        parts=[Part(1), Part(2)],
        steps=[(0.1, 1), (2.0, 2)],
        by_name={"a": Part(3)},
        mixed={"whole": 1, "half": 0.5, "text": "t"},
    )


def test_null_stands_where_the_type_has_it() -> None:
    assert read_answer(Answer, {**GOOD, "name": None}).name is None


def test_a_whole_number_stands_for_a_float_and_stays_whole_where_both_may_stand() -> None:
    answer = read_answer(Answer, {**GOOD, "seconds": 1})
    assert (answer.seconds, type(answer.seconds)) == (1.0, float)
    assert type(answer.mixed["whole"]) is int


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seconds": None}, "has seconds = None, which is not of the type int or float"),
        ({"seconds": "1"}, "has seconds = '1', which is not of the type int or float"),
        ({"seconds": True}, "has seconds = True, which is not of the type int or float"),
        ({"is_done": 1}, "has is_done = 1, which is not of the type bool"),
        ({"name": 3}, "has name = 3, which is not of the type str"),
        ({"parts": None}, "has parts = None, which is not of the type list"),
        ({"parts": [{"count": 1}, {"count": 0.5}]}, "has parts[1].count = 0.5, which is not of the type int"),
        ({"parts": [{"count": 1}, {}]}, "lacks parts[1].count"),
        ({"parts": [3]}, "has parts[0] = 3, which is not of the type dict"),
        ({"by_name": {"a": {"count": 1, "size": 2}}}, "has by_name.a.size, which is no field of Part"),
        ({"steps": [[0.1]]}, "steps[0] has 1 parts, not 2"),
        ({"steps": [[0.1, "x"]]}, "has steps[0][1] = 'x', which is not of the type int"),
        ({"mixed": {"none": None}}, "has mixed.none = None, which is not of the type str"),
        ({"surplus": 1, "more": 2}, "has surplus, more, which is no field of Answer"),
    ],
)
def test_what_the_type_does_not_have_is_an_error_that_names_the_field(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(AnswerError) as raised:
        read_answer(Answer, {**GOOD, **changes})
    assert str(raised.value) == message


@pytest.mark.parametrize("name", GOOD)
def test_no_field_has_a_default(name: str) -> None:
    with pytest.raises(AnswerError, match=f"^lacks {name}$"):
        read_answer(Answer, {key: value for key, value in GOOD.items() if key != name})


def test_an_answer_that_is_no_object_is_an_error() -> None:
    with pytest.raises(AnswerError, match=r"^has the answer = None, which is not of the type dict$"):
        read_answer(Answer, None)


def test_the_facts_of_a_load_survive_the_way() -> None:
    facts = LoadFacts(
        load_seconds=1.5,
        model_bytes=None,
        cache=CacheFacts([CacheGroup("FullAttentionSpec", 2, 16, 4096)], 10, 16, 8192, 0, False, 1.0, 100),
        device=DeviceFacts("cpu", None, None, None, 1),
        reference_kernels=["scan"],
        versions={"engine": "1"},
        server=None,
    )
    assert read_answer(LoadFacts, asdict(facts)) == facts
    device = {**asdict(facts.device), "threads": "all"}
    # Of a union the last type is what the error speaks of.
    with pytest.raises(AnswerError, match=r"^has device\.threads = 'all', which is not of the type int$"):
        read_answer(LoadFacts, {**asdict(facts), "device": device})
