"""Settings of the similarity links. The memory records them: other settings give another graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from memstore.errors import InputError


@dataclass(frozen=True)
class LinkSettings:
    """Settings of the similarity links."""

    k: int = 5
    """Neighbours per node, for queries and for thinkings."""
    floor: float = 0.0
    """Lowest cosine of an edge, in [-1, 1]."""
    exact_up_to: int = 200_000
    """Most rows that are linked exactly. A call that compares more pairs than its square uses an inverted file, and
    its lists are approximate."""

    def __post_init__(self) -> None:
        if self.k < 1:
            raise InputError(f"links need k of at least 1, got {self.k}")
        if not -1.0 <= self.floor <= 1.0:
            raise InputError(f"the floor of links is a cosine between -1 and 1, got {self.floor:g}")
        if self.exact_up_to < 0:
            raise InputError(f"exact_up_to is a number of rows, 0 or more, got {self.exact_up_to}")

    def __str__(self) -> str:
        return f"k={self.k} floor={float(self.floor)!r} exact_up_to={self.exact_up_to}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the settings that `str` wrote.

        Raises:
            InputError: the text has another format.
        """
        try:
            values = dict(part.split("=", 1) for part in text.split())
            return cls(int(values["k"]), float(values["floor"]), int(values["exact_up_to"]))
        except (KeyError, ValueError) as error:
            raise InputError(f"{text!r} are not link settings; expected 'k=5 floor=0.0 exact_up_to=200000'") from error
