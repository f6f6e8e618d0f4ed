"""What an accounting says of a table: published beside recomputed, and what cannot be true together."""

from __future__ import annotations

from dataclasses import dataclass, field

from hybrid_ops.models.devices import DevicePeaks, find_device
from hybrid_ops.report.published.document import Figure

NOT_STATED = "—"
ROUNDED = 1e-3
"""A relative difference that the printed digits of what a figure is computed from explain."""


@dataclass(frozen=True)
class Check:
    """One figure as it was published and as we compute it from the others."""

    place: str
    """Row and column in the document's table."""
    quantity: str
    published: str
    recomputed: str
    difference: str = ""
    """Recomputed over published, less 1, or as a factor; empty where nothing was published."""


@dataclass
class Account:
    """What one kind of accounting says of one table."""

    how: str
    """What was computed from what."""
    checks: list[Check] = field(default_factory=list)
    contradictions: list[str] = field(default_factory=list)
    """Figures that cannot all be true, with the arithmetic."""

    def compare(self, figure: Figure, value: float, quantity: str | None = None) -> None:
        """Put our value beside a published figure, with as many decimals as were printed."""
        unit = f" {figure.facts.unit}" if figure.facts.unit else ""
        published, recomputed = (f"{number:.{figure.decimals}f}" for number in (figure.value, value))
        difference = "equal" if published == recomputed else _difference(value / figure.value)
        name = quantity or figure.facts.metric or ""
        self.checks.append(Check(figure.place, name, published + unit, recomputed + unit, difference))

    def add(self, figure: Figure, quantity: str, recomputed: str) -> None:
        """Put what a figure means beside it, where the document does not state that."""
        self.checks.append(Check(figure.place, quantity, NOT_STATED, recomputed))

    def refuse(self, text: str) -> None:
        """Say, once, what cannot be true together."""
        if text not in self.contradictions:
            self.contradictions.append(text)


def _difference(ratio: float) -> str:
    """`+1.7 %`, `×2.80`, or that it is no more than what rounded operands explain."""
    if abs(ratio - 1) < ROUNDED:
        return f"within {100 * ROUNDED:g} %"
    return f"×{ratio:.2f}" if not 0.5 < ratio < 2 else f"{ratio - 1:+.1%}".replace("%", " %")


def device_of(figure: Figure) -> DevicePeaks:
    """The device that a figure was measured on. Raises InputError where the file names none that is known."""
    return find_device(figure.facts.device or "not named")


def percent(share: float) -> str:
    """`12.3 %`, with three digits."""
    return f"{100 * share:.3g} %"
