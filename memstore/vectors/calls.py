"""Calls to Milvus: what passes is tried again, what does not becomes one sentence that names the place.

All that memstore asks of Milvus may be asked twice (an upsert replaces, a deletion of nothing is nothing), so a call
that failed because the server is away or still waking is simply made again, for `PATIENCE_S` in all. A server that
was killed and started again needs about ten seconds until it answers, and then knows its collections but has not
loaded them: it is told to.

Milvus Lite runs in this process: it does not go away, and nothing is tried again there.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from memstore.errors import StoreError, StoreFullError
from memstore.vectors.lite import is_out_of_space, leave_logging_to_the_application

PATIENCE_S = 60.0
"""How long a call is tried again while the server is away."""
_CONNECT_S = 10.0
_CALL_S = 60.0
_PAUSE_S = 0.5
_REASON_CHARACTERS = 300
"""Of what the server says, so many: it may be a trace of many lines."""
_COLLECTION_NOT_FOUND = 100
_DATABASE_NOT_FOUND = re.compile(r"database[: ]?\S* not found")  # 2.3 gives it no number of its own
_NOT_LOADED = frozenset({101, 103, 201, 202})
_WAKING = frozenset({1, 2, 4, 5, 106, 400, 401, 500, 501, 503, 600, 601, 602, 901, 902, 903})
"""Not ready, unavailable, busy, recovering; replica, channel, segment or node that is not there yet. From 2.3 on
Milvus gives these numbers; 2 is also what the client calls a connection that cannot be had."""
_NODE_GONE = re.compile(r"node not match|node not found|session not found")
"""What a server that was started again says while it still looks for the nodes it had; 2.3 gives it various numbers."""
_NO_PINGS = {"grpc.keepalive_permit_without_calls": 0, "grpc.keepalive_time_ms": 2**31 - 1}
"""The client's own default pings an idle server every 10 s; after minutes of embedding Milvus Lite takes that for abuse
and hangs up, with a line of gRPC's on stderr."""

Result = TypeVar("Result")


def connect(uri: str, token: str | None) -> Any:
    """A client with a connection of its own.

    Raises:
        StoreError: nothing answers there, or it refuses the token.
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
        raise StoreError(f"no Milvus answers at {where}; start it, or correct milvus_uri") from error


def without_secrets(uri: str) -> str:
    """An address as it may be shown: without user and password."""
    scheme, mark, rest = uri.partition("://")
    return f"{scheme}{mark}{rest.rpartition('@')[2]}" if mark else uri


class Calls:
    """Makes the calls of one store."""

    def __init__(self, client: Any, where: str, collection: str, *, patient: bool) -> None:
        """
        Args:
            where: names the place in messages.
            patient: whether calls are tried again, as those to a server are.
        """
        self._client = client
        self._where = where
        self._collection = collection
        self._patience = PATIENCE_S if patient else 0.0
        self._timeout = {"timeout": _CALL_S} if patient else {}

    def call(self, doing: str, method: str, *arguments: Any, **options: Any) -> Any:
        """Call a method of the client on the collection; `doing` is the verb of the message when it fails."""
        made = getattr(self._client, method)
        return self.attempt(doing, lambda: made(self._collection, *arguments, **{**self._timeout, **options}))

    def attempt(self, doing: str, work: Callable[[], Result]) -> Result:
        """Do `work`, again and again while the server is away and patience lasts."""
        import grpc
        from pymilvus.exceptions import MilvusException

        give_up = time.monotonic() + self._patience
        while True:
            try:
                return work()
            except (MilvusException, grpc.RpcError) as error:
                if not passes(error) or time.monotonic() > give_up:
                    raise self._translated(doing, error) from error
                failure = error
            time.sleep(_PAUSE_S)
            if _code(failure) in _NOT_LOADED:
                with self._still_waking():
                    self._client.load_collection(self._collection, timeout=_CALL_S)

    @contextmanager
    def _still_waking(self) -> Iterator[None]:
        """What fails here for the server's absence is seen by the next attempt."""
        import grpc
        from pymilvus.exceptions import MilvusException

        try:
            yield
        except (MilvusException, grpc.RpcError) as error:
            if not passes(error):
                raise self._translated("load", error) from error

    def _translated(self, doing: str, error: Exception) -> StoreError:
        where = self._where
        if is_out_of_space(error):
            return StoreFullError(
                f"there is no space left where the vectors are ({where}); free some, open them again and "
                "repeat the command"
            )
        if _code(error) == _COLLECTION_NOT_FOUND:
            return StoreError(f"{where} has lost the collection {self._collection}; run `memstore verify --repair`")
        if _DATABASE_NOT_FOUND.search(str(error)):
            return StoreError(
                f"{where} names a database that Milvus does not have; make it there, or correct milvus_uri"
            )
        if _is_refusal(error):
            return _refused(where)
        if self._patience and passes(error):
            return StoreError(
                f"the Milvus at {where} went away and did not come back within {self._patience:.0f} s; start it and "
                "run the same command again: it goes on where this one stopped"
            )
        return StoreError(f"could not {doing} the vectors in {where}: {_reason(error)}")


def passes(error: Exception) -> bool:
    """Whether the same call may succeed in a while."""
    import grpc

    if isinstance(error, grpc.RpcError):
        return error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
    if _is_refusal(error):
        return False
    if _code(error) in _WAKING | _NOT_LOADED:
        return True
    return "StatusCode.UNAVAILABLE" in str(error) or _NODE_GONE.search(str(error)) is not None


def _refused(where: str) -> StoreError:
    return StoreError(f"the Milvus at {where} refuses this token or what it may do; correct MEMSTORE_MILVUS_TOKEN")


def _is_refusal(error: BaseException) -> bool:
    """Whether the server knows who asks and says no; the client wraps that into a failure to connect."""
    # The client raises errors from themselves: such a chain has no end.
    cause = error.__cause__ if error.__cause__ is not error else None
    words = f"{error} {cause}".lower()
    return any(text in words for text in ("unauthenticated", "auth check failure", "permission", "privilege"))


def _code(error: Exception) -> int | None:
    code = getattr(error, "code", None)
    return code if isinstance(code, int) else None


def _reason(error: Exception) -> str:
    text = " ".join(str(getattr(error, "message", None) or error).split())
    return text[:_REASON_CHARACTERS].rstrip(".")
