"""Performance regression suite for hybrid language models. See README.md for the tour; `docs/` for the rules."""

__version__ = "0.1.0"
