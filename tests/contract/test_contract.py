"""What the workers need of vLLM, held against every release that is supported and against the installed one.

A release's facts are made by `ci/vllm-contract --write VERSION` from its wheel; no vLLM code is kept here.
"""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest

from tests.contract import reader
from tests.contract.reader import FACTS, Sources, installed_sources, lacking, needs

ROOT = Path(__file__).parents[2]
RELEASES = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(FACTS.glob("*.json"))}


def test_every_supported_minor_release_has_facts() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    [requirement] = project["optional-dependencies"]["gpu"]
    oldest = re.fullmatch(r"vllm>=0\.(\d+)", requirement)
    assert oldest is not None, "which releases are supported?"
    minors = {int(version.split(".")[1]) for version in RELEASES}
    assert minors == set(range(int(oldest[1]), max(minors) + 1))


@pytest.mark.parametrize("version", RELEASES)
def test_a_release_has_all_that_the_workers_need(version: str) -> None:
    facts = RELEASES[version]
    assert facts["version"] == version and re.fullmatch("[0-9a-f]{64}", facts["sha256"])
    assert lacking(facts["found"]) == [], f"mend the workers, or look anew: ci/vllm-contract --write {version}"


def test_the_installed_release_has_all_that_the_workers_need() -> None:
    sources = installed_sources()
    assert lacking({need: sources.find(need) for need in needs()}) == []


MODULES = {
    "vllm/__init__.py": 'ATTRS = {"Engine": ".v1.engine:Engine"}\ndef __getattr__(name): ...\n',
    "vllm/v1/__init__.py": "",
    "vllm/v1/engine.py": """
from vllm.v1.base import Base as Parent
from .base import helper

class Engine(Parent[int]):
    limit: int = 3
    @property
    def depth(self): return 1
    def __init__(self): self.core, self.other = object(), 1
    def step(self, first, *, second=None): return self.core.step_fn()
    @classmethod
    def make(cls, args, **more): ...
""",
    "vllm/v1/base.py": """
class Base:
    def reset(self) -> None:
        self.state: int = 0

def helper(a, b): ...
""",
    "vllm/envs.py": 'environment_variables: dict = {"VLLM_A": lambda: 1}\n',
}


@pytest.mark.parametrize(
    ("need", "found"),
    [
        ("vllm:Engine", "present"),
        ("vllm:Engine.step", "(first, second)"),
        ("vllm:Engine.make", "(args, **more)"),
        ("vllm:Engine.limit", "present"),
        ("vllm:Engine.depth", "present"),
        ("vllm.v1.engine:Engine.core", "present"),
        ("vllm.v1.engine:Engine.reset", "()"),
        ("vllm.v1.engine:Engine.state", "present"),
        ("vllm.v1.engine:Engine.step>step_fn", "present"),
        ("vllm.v1.engine:Engine.step>other_fn", None),
        ("vllm.v1.engine:helper", "(a, b)"),
        ("vllm.v1:engine", "present"),
        ("vllm.v1.engine:Engine.gone", None),
        ("vllm.v2:Engine", None),
        ("vllm.envs:environment_variables[VLLM_A]", "present"),
        ("vllm.envs:environment_variables[VLLM_B]", None),
    ],
)
def test_a_name_is_found_where_it_stands_or_is_gone(need: str, found: str | None) -> None:
    assert Sources(MODULES.get).find(need) == found


def test_what_is_gone_or_takes_something_else_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = {"vllm:Engine.step": "(first, third)", "vllm:Engine.gone": "", "vllm:Engine.new": "", "vllm:Engine": ""}
    monkeypatch.setattr(reader, "needs", lambda: wanted)
    sources = Sources(MODULES.get)
    found = {need: sources.find(need) for need in wanted if need != "vllm:Engine.new"}
    assert lacking(found) == [
        "vllm:Engine.step: takes (first, second), and we give third",
        "vllm:Engine.gone: gone",
        "vllm:Engine.new: not looked for yet",
    ]


def test_what_our_files_import_is_needed_too() -> None:
    assert {"vllm:EngineArgs", "vllm.model_executor.models.interfaces:SupportsMambaPrefixCaching"} <= needs().keys()
    assert not [need for need in needs() if "cpu_model_runner" in need], "the fallbacks serve one release alone"
