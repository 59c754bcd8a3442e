"""The error for a page about something that is not there."""

from __future__ import annotations

from memstore.errors import InputError


class NotThere(InputError):
    """There is no such query, rollout or policy; the page has status 404."""
