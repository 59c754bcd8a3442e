"""Errors of several rows, raised as one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from memstore.errors import InputError

_SHOWN = 3
"""Errors that a message lists."""


class Problems:
    """Collects the errors of rows.

    Example:
        >>> problems = Problems()
        >>> for row in ["1", "2"]:
        ...     with problems.collect():
        ...         print(row)
        1
        2
        >>> problems.check()
    """

    def __init__(self) -> None:
        self._errors: list[InputError] = []

    @contextmanager
    def collect(self) -> Iterator[None]:
        """Keep an `InputError` of the block for `check`."""
        try:
            yield
        except InputError as error:
            self.add(error)

    def add(self, error: InputError) -> None:
        """Keep an error for `check`."""
        self._errors.append(error)

    def check(self) -> None:
        """Raise what was collected as one error.

        Raises:
            InputError: the only error, or their number and the first few; its type is that of the first.
        """
        if len(self._errors) == 1:
            raise self._errors[0]
        if self._errors:
            shown = "; ".join(str(error) for error in self._errors[:_SHOWN])
            more = f"; and {len(self._errors) - _SHOWN:,} more" if len(self._errors) > _SHOWN else ""
            raise type(self._errors[0])(f"{len(self._errors):,} rows are refused: {shown}{more}")
