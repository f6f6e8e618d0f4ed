"""The pytest plugin. Only this folder knows pytest.

options.py    the command line
hooks.py      what pytest calls
fixtures.py   the cells of testcases
progress.py   what the terminal shows while a run goes on
state.py      what is kept of a session
"""

from hybrid_ops.plugin.fixtures import check, measured_case, measured_claims
from hybrid_ops.plugin.hooks import (
    pytest_addoption,
    pytest_collection_modifyitems,
    pytest_configure,
    pytest_configure_node,
    pytest_generate_tests,
    pytest_report_collectionfinish,
    pytest_runtest_setup,
    pytest_runtestloop,
    pytest_sessionfinish,
    pytest_terminal_summary,
)

__all__ = [
    "check",
    "measured_case",
    "measured_claims",
    "pytest_addoption",
    "pytest_collection_modifyitems",
    "pytest_configure",
    "pytest_configure_node",
    "pytest_generate_tests",
    "pytest_report_collectionfinish",
    "pytest_runtest_setup",
    "pytest_runtestloop",
    "pytest_sessionfinish",
    "pytest_terminal_summary",
]
