"""Hypothesis profiles: `quick` (the default) draws few, fixed examples; `thorough` draws many new ones each time;
`first-failure` is quick and looks for no smaller failing example, as nobody reads one of a planted error."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings

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
settings.register_profile(
    "first-failure",
    settings.get_profile("quick"),
    phases=[Phase.explicit, Phase.generate],
    report_multiple_bugs=False,
)


def pytest_configure(config: pytest.Config) -> None:
    settings.load_profile(config.getoption("--hypothesis-profile") or "quick")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With --perf the performance tests alone are run, so the others need not be imported: that takes seconds."""
    is_folder_of_others = collection_path.parent == Path(__file__).parent and collection_path.name != "perf"
    return True if config.getoption("--perf", False) and is_folder_of_others else None
