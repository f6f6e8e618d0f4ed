"""Conversations in the ShareGPT format: reading files as they really are, and writing a set of our own.

The format is a JSON list of `{"id": str, "conversations": [{"from": "human" | "gpt", "value": str}, ...]}`. Copies of
the well-known file are often cut short, so the loader takes what is whole and says what it left out.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hybrid_ops.errors import InputError

DATA_FOLDER = Path(__file__).parent / "data"
SHIPPED_CONVERSATIONS = DATA_FOLDER / "conversations.json"


@dataclass(frozen=True)
class Conversations:
    """The usable conversations of a file, and how many entries were dropped for each reason."""

    conversations: list[dict[str, Any]]
    dropped: dict[str, int]

    def describe(self) -> str:
        """`94 conversations; dropped 3: 2 without an answer, 1 cut off`."""
        text = f"{len(self.conversations)} conversations"
        if self.dropped:
            reasons = ", ".join(f"{count} {reason}" for reason, count in self.dropped.items())
            text += f"; dropped {sum(self.dropped.values())}: {reasons}"
        return text


def load_conversations(path: Path) -> Conversations:
    """Every conversation of a ShareGPT file that `vllm bench serve` would take: one with two turns of text or more.

    Whoever speaks first, as there, so that a load drawn from the result is the load drawn from the file. A file that
    ends early gives all entries before the cut. Raises InputError for a file that cannot be read, is not
    a JSON list, or holds no usable conversation.
    """
    try:
        text = path.read_bytes().decode("utf-8", errors="replace")
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
    entries, cut = _decode_entries(text, path)
    kept: list[dict[str, Any]] = []
    dropped: Counter[str] = Counter()
    for entry in entries:
        turns = entry.get("conversations") if isinstance(entry, dict) else None
        reason = _fault(turns)
        if reason is None:
            kept.append(entry)
        else:
            dropped[reason] += 1
    if cut:
        dropped["cut off at the end of the file"] += 1
    if not kept:
        raise InputError(f"{path}: no usable conversation ({Conversations(kept, dict(dropped)).describe()})")
    return Conversations(kept, dict(dropped))


def _decode_entries(text: str, path: Path) -> tuple[list[Any], bool]:
    """The whole entries of a JSON list, and whether the text ends before the list does."""
    decoder = json.JSONDecoder()
    position = _skip(text, 0, "\ufeff \t\r\n")
    if text[position : position + 1] != "[":
        raise InputError(f"{path}: not a ShareGPT file: it does not begin with a JSON list")
    position += 1
    entries: list[Any] = []
    while True:
        position = _skip(text, position, ", \t\r\n")
        if position >= len(text):
            return entries, True
        if text[position] == "]":
            return entries, False
        try:
            entry, position = decoder.raw_decode(text, position)
        except json.JSONDecodeError:
            return entries, True
        entries.append(entry)


def _skip(text: str, position: int, characters: str) -> int:
    while position < len(text) and text[position] in characters:
        position += 1
    return position


def _fault(turns: Any) -> str | None:
    """Why a conversation is of no use as a request and its expected answer; None if it is of use."""
    if not isinstance(turns, list):
        return "without a list of turns"
    if len(turns) < 2:
        return "without an answer"
    if not all(isinstance(turn, dict) and isinstance(turn.get("value"), str) for turn in turns[:2]):
        return "with a turn that has no text"
    return None


def write_conversations(path: Path, conversations: list[dict[str, Any]]) -> None:
    """Write a ShareGPT file, one conversation a line."""
    lines = ",\n".join(json.dumps(conversation, ensure_ascii=False) for conversation in conversations)
    path.write_text(f"[\n{lines}\n]\n", encoding="utf-8")


SUBJECTS = (
    "a sourdough starter", "a vegetable garden", "a bicycle chain", "a weekly budget", "a chess opening",
    "a telescope", "a book club", "a rain barrel", "a train journey", "a small orchestra", "a pottery kiln",
    "a neighbourhood library", "a weather station", "a sailing boat", "a beehive", "a photo archive",
)  # fmt: skip
QUESTIONS = (
    "How do I look after {subject}?",
    "What should I know before I start with {subject}?",
    "Explain {subject} to someone who has never seen one.",
    "My friend gave me {subject} and I have one free weekend. What would you do first, and why?",
    "Give me a short plan for {subject}.",
    "What usually goes wrong with {subject}, and how would I notice early?",
)
SENTENCES = (
    "Start with {subject} as it is today and write down what you see.",
    "Most people change too many things at once, so change one and wait.",
    "Keep a short note of the date, the weather and what you did.",
    "If something sounds or smells wrong, stop and look before you go on.",
    "A little care every day does more than a long effort once a month.",
    "Ask someone nearby who has done this for years; they will be glad to help.",
    "Buy the simple tools first and the special ones when you miss them.",
    "Clean everything at the end, because the next time begins there.",
    "With {subject} the first attempt teaches you more than any book.",
    "Set a limit for time and money, and hold to it.",
    "Measure before and after, or you will not know whether it helped.",
    "Rest is part of the work, and patience is most of it.",
)


def make_conversations(count: int, seed: int = 42) -> list[dict[str, Any]]:
    """`count` made-up conversations, the same for the same seed.

    Lengths are spread as in real ones: most questions are short and some carry a long text, answers are longer than
    questions and vary by an order of magnitude.
    """
    generator = random.Random(f"conversations:{seed}")  # noqa: S311 - made-up text, no secret
    conversations = []
    for number in range(count):
        subject = generator.choice(SUBJECTS)
        question = generator.choice(QUESTIONS).format(subject=subject)
        if generator.random() < 0.3:
            question += " Here is what I have so far. " + _sentences(generator, subject, generator.randint(4, 30))
        turns = [("human", question), ("gpt", _sentences(generator, subject, _answer_length(generator)))]
        if generator.random() < 0.4:
            turns += [
                ("human", f"And later, with {subject}?"),
                ("gpt", _sentences(generator, subject, _answer_length(generator))),
            ]
        values = [{"from": speaker, "value": value} for speaker, value in turns]
        conversations.append({"id": f"made-{seed}-{number}", "conversations": values})
    return conversations


def _sentences(generator: random.Random, subject: str, count: int) -> str:
    return " ".join(generator.choice(SENTENCES).format(subject=subject) for _ in range(count))


def _answer_length(generator: random.Random) -> int:
    """Sentences of an answer: 4 in the middle, seldom above 20."""
    return max(1, min(24, round(generator.lognormvariate(1.4, 0.7))))
