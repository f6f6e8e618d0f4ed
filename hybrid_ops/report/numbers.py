"""How numbers are shown to people."""

from __future__ import annotations

from hybrid_ops.measure.values import Value

_BINARY_PREFIXES = ("B", "KiB", "MiB", "GiB", "TiB")


def show(value: Value | None, unit: str) -> str:
    """A value with its unit: `214.8 tok/s`, `1.61 ms`, `64 MiB`, `—` for none."""
    if value is None:
        return "—"
    if isinstance(value, str):
        return value
    if unit == "B":
        return _bytes(float(value))
    number = f"{value:d}" if isinstance(value, int) else f"{value:.4g}"
    return number if unit in ("", "ratio") else f"{number} {unit}"


def show_change(change: float | None) -> str:
    """A relative change with its sign: `-33.3 %`."""
    return "" if change is None else f"{change:+.1%}".replace("%", " %")


def _bytes(value: float) -> str:
    """Bytes with a binary prefix; whole bytes below 1 KiB."""
    index = 0
    while value >= 1024 and index < len(_BINARY_PREFIXES) - 1:
        value /= 1024
        index += 1
    return f"{value:.0f} B" if index == 0 else f"{value:.4g} {_BINARY_PREFIXES[index]}"
