"""How nodes are linked; recorded in the memory, since a graph under other settings is another graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from memstore.errors import InputError


@dataclass(frozen=True)
class LinkSettings:
    """How nodes are linked."""

    k: int = 5
    """Neighbours a node, for queries and thinkings alike."""
    floor: float = 0.0
    """No edge below this cosine, in [-1, 1]."""
    exact_up_to: int = 200_000
    """Rows that are linked to each other exactly. A call that would compare more pairs than the square of it takes
    its candidates from an inverted file, and then the lists are approximate."""

    def __post_init__(self) -> None:
        if self.k < 1:
            raise InputError(f"Links need k of at least 1, and k is {self.k}.")
        if not -1.0 <= self.floor <= 1.0:
            raise InputError(f"The floor of links is a cosine between -1 and 1, and it is {self.floor:g}.")
        if self.exact_up_to < 0:
            raise InputError(f"exact_up_to counts rows, from 0 on, and it is {self.exact_up_to}.")

    def __str__(self) -> str:
        return f"k={self.k} floor={float(self.floor)!r} exact_up_to={self.exact_up_to}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """The settings that `str` wrote.

        Raises:
            InputError: it did not write this.
        """
        try:
            values = dict(part.split("=", 1) for part in text.split())
            return cls(int(values["k"]), float(values["floor"]), int(values["exact_up_to"]))
        except (KeyError, ValueError) as error:
            raise InputError(f"{text!r} are no link settings, as in 'k=5 floor=0.0 exact_up_to=200000'") from error
