"""Calls to a Milvus server: retries, and errors translated into one sentence that names the server.

Everything memstore asks of Milvus is idempotent (an upsert replaces, deleting nothing does nothing), so a call that
failed because the server is away or starting is repeated, for 60 s in all. A server that was killed and restarted
needs about ten seconds until it responds, and then has its collections but has not loaded them.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

from memstore.errors import StoreError, StoreFullError
from memstore.runtime.retry import RetryPolicy

RETRY = RetryPolicy(deadline_s=60.0, first_pause_s=0.5, longest_pause_s=0.5, jitter=0.0)
_CONNECT_S = 10.0
_CALL_S = 60.0
_REASON_CHARACTERS = 300
"""Most characters of a server's message, which may be a stack trace."""
_COLLECTION_NOT_FOUND = 100
_DATABASE_NOT_FOUND = re.compile(r"database[: ]?\S* not found")  # Milvus 2.3 gives it no code of its own
_NOT_LOADED = frozenset({101, 103, 201, 202})
_STARTING = frozenset({1, 2, 4, 5, 106, 400, 401, 500, 501, 503, 600, 601, 602, 901, 902, 903})
"""Codes, from Milvus 2.3 on, of a server that is not ready, unavailable, busy or recovering, or lacks a replica,
channel, segment or node so far. The client also uses 2 for a failed connection."""
_NODE_GONE = re.compile(r"node not match|node not found|session not found")
"""Messages of a restarted server that still looks for its old nodes; Milvus 2.3 gives them various codes."""
_NO_SPACE = ("No space left on device", "Disk quota exceeded")
_NO_PINGS = {"grpc.keepalive_permit_without_calls": 0, "grpc.keepalive_time_ms": 2**31 - 1}
"""By default the client pings an idle server every 10 s. A server may treat that as abuse after minutes of embedding
and close the connection, which gRPC reports on stderr."""

Result = TypeVar("Result")


def connect(uri: str, token: str | None) -> Any:
    """Connect to a server; the client has a connection of its own.

    Raises:
        StoreError: the server does not respond, or refuses the token.
    """
    import grpc  # type: ignore[import-untyped]
    from pymilvus import MilvusClient
    from pymilvus.exceptions import MilvusException

    leave_logging_to_the_application()
    try:
        # Dedicated: clients that share a connection keep it after they are closed, also when it is dead.
        return MilvusClient(uri, token=token or "", timeout=_CONNECT_S, grpc_options=_NO_PINGS, dedicated=True)
    except (MilvusException, grpc.RpcError) as error:
        where = without_secrets(uri)
        if _is_refusal(error):
            raise _refused(where) from error
        raise StoreError(f"no Milvus server answers at {where}; start it, or correct milvus_uri") from error


@cache
def leave_logging_to_the_application() -> None:
    """Remove the client's own stderr handlers, so that its records go to the application's logging."""
    import pymilvus  # noqa: F401  (it installs its handlers when it is imported)

    for name in ("pymilvus", "pymilvus.milvus_client"):
        logger = logging.getLogger(name)
        logger.handlers = [logging.NullHandler()]
        logger.propagate = True


def without_secrets(uri: str) -> str:
    """An address without user and password, for messages."""
    scheme, mark, rest = uri.partition("://")
    return f"{scheme}{mark}{rest.rpartition('@')[2]}" if mark else uri


class Calls:
    """Client calls of one store, retried and with translated errors."""

    def __init__(self, client: Any, where: str, collection: str) -> None:
        """
        Args:
            where: the server's address, for messages.
        """
        self._client = client
        self._where = where
        self._collection = collection
        self._retry = RETRY

    def call(self, action: str, method: str, *arguments: Any, **options: Any) -> Any:
        """Call a method of the client on the collection; `action` is the verb of the error message."""
        bound = getattr(self._client, method)
        return self.attempt(action, lambda: bound(self._collection, *arguments, **{"timeout": _CALL_S, **options}))

    def attempt(self, action: str, work: Callable[[], Result]) -> Result:
        """Call `work`, and again while the server is away or has not loaded the collection.

        Raises:
            StoreError: the server stayed away, or the call failed for another reason.
        """
        import grpc
        from pymilvus.exceptions import MilvusException

        def once() -> Result:
            try:
                return work()
            except MilvusException as error:
                if _code(error) in _NOT_LOADED:
                    self._client.load_collection(self._collection, timeout=_CALL_S)
                raise

        try:
            return self._retry.call(once, retryable=is_transient)
        except (MilvusException, grpc.RpcError) as error:
            raise self._translated(action, error) from error

    def _translated(self, action: str, error: Exception) -> StoreError:
        where = self._where
        if any(words in str(error) for words in _NO_SPACE):
            return StoreFullError(f"no space left on the disk of {where}; free some and run the same command again")
        if _code(error) == _COLLECTION_NOT_FOUND:
            return StoreError(f"{where} has lost the collection {self._collection}; run `memstore verify --repair`")
        if _DATABASE_NOT_FOUND.search(str(error)):
            return StoreError(f"the database in {where} does not exist; create it, or correct milvus_uri")
        if _is_refusal(error):
            return _refused(where)
        if is_transient(error):
            return StoreError(
                f"the Milvus at {where} went away and did not come back within {self._retry.deadline_s:.0f} s; start "
                "it and run the same command again, which continues where this one stopped"
            )
        return StoreError(f"could not {action} the vectors in {where}: {_reason(error)}")


def is_transient(error: Exception) -> bool:
    """Whether the same call may succeed later."""
    import grpc
    from pymilvus.exceptions import MilvusException

    if isinstance(error, grpc.RpcError):
        return error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
    if not isinstance(error, MilvusException) or _is_refusal(error):
        return False
    if _code(error) in _STARTING | _NOT_LOADED:
        return True
    return "StatusCode.UNAVAILABLE" in str(error) or _NODE_GONE.search(str(error)) is not None


def _refused(where: str) -> StoreError:
    return StoreError(
        f"the Milvus at {where} refuses this token or does not permit this action; correct MEMSTORE_MILVUS_TOKEN"
    )


def _is_refusal(error: BaseException) -> bool:
    """Whether the server rejected the credential; the client wraps that into a connection failure."""
    # The client raises errors from themselves, so the chain of causes has no end.
    cause = error.__cause__ if error.__cause__ is not error else None
    words = f"{error} {cause}".lower()
    return any(text in words for text in ("unauthenticated", "auth check failure", "permission", "privilege"))


def _code(error: Exception) -> int | None:
    code = getattr(error, "code", None)
    return code if isinstance(code, int) else None


def _reason(error: Exception) -> str:
    text = " ".join(str(getattr(error, "message", None) or error).split())
    return text[:_REASON_CHARACTERS].rstrip(".")
