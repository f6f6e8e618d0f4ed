"""Lets pytest read command lines up to where tests would start: JSON in on standard input, JSON out on standard output.

One process for all of them, because that imports torch once.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from functools import cache

import pytest

from hybrid_ops import yaml_files


def main() -> None:
    """For each list of words: the exit status of pytest, and what it said."""
    yaml_files.load_yaml = cache(yaml_files.load_yaml)  # the shipped files are half of the time of each line
    ended = []
    for words in json.load(sys.stdin):
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            status = pytest.main([*words, "--collect-only", "-q", "-p", "no:cacheprovider"])
        ended.append((int(status), said.getvalue()[-3000:]))
    json.dump(ended, sys.stdout)


if __name__ == "__main__":
    main()
