"""How numbers are shown to people."""

from __future__ import annotations

from hybrid_ops.measure.values import Value

_BINARY_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


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


def show_short(value: Value | None, unit: str, letters: int = 40) -> str:
    """The same, a text such as token ids cut to so many letters."""
    text = show(value, unit)
    return text if len(text) <= letters else f"{text[: letters - 1]}…"


def show_time(seconds: float | None) -> str:
    """A time that something took: `12.4 min`, `48 s`, `1.4 s`, `0 min`, `—` for an unknown one."""
    if seconds is None:
        return "—"
    if seconds < 0.05:
        return "0 min"
    if seconds < 59.5:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min"


def show_change(change: float | None) -> str:
    """A relative change with its sign: `-33.3 %`."""
    return "" if change is None else f"{change:+.1%}".replace("%", " %")


def binary_unit(value: float) -> tuple[float, str]:
    """(bytes of the unit, its name) of the binary unit in which so many bytes read well."""
    index = 0
    while value >= 1024 and index < len(_BINARY_UNITS) - 1:
        value /= 1024
        index += 1
    return float(1024**index), _BINARY_UNITS[index]


def _bytes(value: float) -> str:
    """Bytes with a binary unit; whole bytes below 1 KiB."""
    divisor, unit = binary_unit(value)
    return f"{value:.0f} B" if divisor == 1 else f"{value / divisor:.4g} {unit}"
