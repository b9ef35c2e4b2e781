"""A name -> builder registry, the only global state of the package."""

import difflib
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

Builder = TypeVar("Builder", bound=Callable)


def nearest_name(name: str, known: Iterable[str]) -> str:
    """Return `" Did you mean 'x'?"` for the closest known name, or an empty string."""
    lowered = {candidate.lower(): candidate for candidate in known}
    close = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.5)
    return f" Did you mean {lowered[close[0]]!r}?" if close else ""


class Registry(Generic[Builder]):
    """Map the names that users type to builders, and answer a wrong name with the nearest right one."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._builders: dict[str, Builder] = {}

    def register(self, name: str) -> Callable[[Builder], Builder]:
        """Return a decorator that stores a builder under `name`; a name taken twice is a ValueError."""

        def decorate(builder: Builder) -> Builder:
            if name in self._builders:
                raise ValueError(f"{self.kind} {name!r} is registered twice")
            self._builders[name] = builder
            return builder

        return decorate

    def __getitem__(self, name: str) -> Builder:
        if name not in self._builders:
            known, hint = ", ".join(self.names()), nearest_name(name, self._builders)
            raise ValueError(f"unknown {self.kind} {name!r}; known: {known}.{hint}")
        return self._builders[name]

    def names(self) -> list[str]:
        """Return the registered names in alphabetical order."""
        return sorted(self._builders)
