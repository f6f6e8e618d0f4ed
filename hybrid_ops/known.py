"""What the suite knows by name: engines, procedures and reports, those that ship with it and those registered."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Generic, Protocol, TypeVar

from hybrid_ops.errors import InputError


class Named(Protocol):
    """Anything with a name."""

    @property
    def name(self) -> str: ...


NamedT = TypeVar("NamedT", bound=Named)


class Known(Generic[NamedT]):
    """Things of one kind by their names, in order.

    Parameters
    ----------
    kind: what an error calls one of them, such as `an engine`
    shipped: those that ship with the suite
    """

    def __init__(self, kind: str, shipped: Iterable[NamedT]) -> None:
        self._kind = kind
        self._by_name = {one.name: one for one in shipped}
        self._clashes: list[str] = []

    def register(self, one: NamedT) -> None:
        """Make a further one known. A name that another class has is an error that `check` raises.

        It is not raised here, because plugins register while pytest imports them, and pytest shows an exception from
        there below a page of its own calls.
        """
        known = self._by_name.setdefault(one.name, one)
        first, second = type(known), type(one)
        if first is not second:
            self._clashes.append(
                f"{self._kind} is named {one.name!r} twice: {first.__module__}.{first.__qualname__} and "
                f"{second.__module__}.{second.__qualname__}; rename one of them"
            )

    def check(self) -> None:
        """Raise InputError if two have one name."""
        if self._clashes:
            raise InputError("; ".join(self._clashes))

    def get(self, name: str) -> NamedT | None:
        """The one of this name, if there is one."""
        return self._by_name.get(name)

    def __iter__(self) -> Iterator[NamedT]:
        return iter(self._by_name.values())
