"""Hypothesis profiles: `quick` (the default) draws few, fixed examples; `thorough` draws many new ones each time."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "quick",
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile(
    "thorough", max_examples=1000, deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)


def pytest_configure(config: pytest.Config) -> None:
    settings.load_profile(config.getoption("--hypothesis-profile") or "quick")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With --perf the performance tests alone are run, so the others need not be imported: that takes seconds."""
    is_folder_of_others = collection_path.parent == Path(__file__).parent and collection_path.name != "perf"
    return True if config.getoption("--perf", False) and is_folder_of_others else None
