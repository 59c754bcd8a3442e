"""Errors of the Neo4j driver and server as store errors, one sentence each that names the location.

Errors are classified by the server's status codes and the driver's exception types. The messages contain no password;
the driver's own messages contain none, and server messages are cut to one line.
"""

from __future__ import annotations

import re
import ssl

from neo4j.exceptions import (
    AuthError,
    ConfigurationError,
    DriverError,
    IncompleteCommit,
    Neo4jError,
    ServiceUnavailable,
    SessionExpired,
    UnsupportedServerProduct,
)

from memstore.errors import InputError, LocationError, MemstoreError, SchemaError, StoreError, StoreFullError

OLDEST = (5, 7)
"""The first server version whose protocol (Bolt 5.2) has every feature that is used here."""
_FULL = re.compile(r"No space left|File too large|Disk quota|not enough space|OutOfDiskSpace|disk space", re.IGNORECASE)
_PANIC = ("Neo.DatabaseError.", "Neo.TransientError.General.DatabaseUnavailable", "Neo.TransientError.Database.")
_OLD = re.compile(r"does not support communication with this driver|Notification filtering is not supported")
_TLS = re.compile(r"certificate|SSL|TLS", re.IGNORECASE)


def one_line(error: BaseException) -> str:
    """The message of an error as one line, without the server's status codes."""
    text = (isinstance(error, Neo4jError) and error.message) or str(error)
    lines = [line.strip() for line in text.splitlines() if line.strip()] or [type(error).__name__]
    return lines[0].rstrip(".: ")


def translate(error: BaseException, where: str) -> MemstoreError:
    """The store error for an error of the driver or the server at this location."""
    if isinstance(error, AuthError):
        return StoreError(f"{where} rejected this user or password; correct the user and the password of the profile")
    if isinstance(error, Neo4jError):
        return _from_server(error, where)
    if _is_old(error):
        return old_server("an older server", where)
    if isinstance(error, IncompleteCommit):
        return StoreError(
            f"the connection to {where} was lost during a commit, and the last write may or may not have been kept; "
            "run the same command again"
        )
    if isinstance(error, (ServiceUnavailable, SessionExpired, OSError)):
        return _unreachable(error, where)
    if isinstance(error, (ConfigurationError, ValueError, TypeError)):
        return InputError(f"{where} cannot be opened: {one_line(error)}")
    if isinstance(error, DriverError):
        return StoreError(f"{where} failed: {one_line(error)}")
    raise error


def old_server(found: str, where: str) -> SchemaError:
    """The error for a server version that memstore does not support."""
    oldest = ".".join(str(part) for part in OLDEST)
    return SchemaError(f"{where} is served by {found}, but memstore needs Neo4j {oldest} or newer; upgrade the server")


def _from_server(error: Neo4jError, where: str) -> MemstoreError:
    code, text = error.code or "", one_line(error)
    if code.endswith("AuthenticationRateLimit"):
        return StoreError(
            f"{where} locked this user out after too many wrong passwords; wait, and correct the password"
        )
    if code.endswith("DatabaseNotFound"):
        return LocationError(f"there is no such database at {where}; correct its name (every server has `neo4j`)")
    if code.endswith(("ForbiddenOnReadOnlyDatabase", "Security.Forbidden", "WriteOnReadOnlyAccessDatabase")):
        return StoreError(f"this user may not write to {where} ({text}); grant the right to write, or use another user")
    if code.endswith("Transaction.TransactionLogError") or _FULL.search(text):
        return StoreFullError(
            f"the server of {where} cannot write its log, probably because its disk is full, and the last write was "
            "undone; free some space, restart the server and run the same command again, which continues"
        )
    if code.endswith(("TransactionTimedOut", "TransactionTimedOutClientConfiguration")):
        return StoreError(f"a transaction at {where} exceeded its time limit; write smaller blocks, or raise timeout_s")
    if code.endswith("LockClientStopped"):
        return StoreError(
            f"a transaction at {where} was ended while it waited for another writer, by its time limit (timeout_s) or "
            "the server's administrator, and was undone; run the same command again"
        )
    if code.endswith("Transaction.Terminated"):
        return StoreError(f"a transaction at {where} was ended by the server's administrator and undone; try again")
    if "MemoryPoolOutOfMemory" in code or "OutOfMemory" in code:
        return StoreError(f"{where} has too little memory for this transaction ({text}); give the server a larger heap")
    if code.startswith("Neo.ClientError.Schema.") and not code.endswith("ConstraintValidationFailed"):
        return LocationError(
            f"{where} has an index or constraint of another project ({text}); use a separate database for memstore"
        )
    if code.startswith(_PANIC):
        return StoreError(f"{where} does not work ({text}); read the server's log, and restart it")
    return StoreError(f"{where} failed: {text}")


def _is_old(error: BaseException) -> bool:
    """Whether driver and server share no protocol version, or the server lacks a feature that memstore needs."""
    return isinstance(error, UnsupportedServerProduct) or bool(_OLD.search(str(error)))


def _unreachable(error: BaseException, where: str) -> StoreError:
    causes = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None and cause not in causes:
        causes.append(cause)
    if any(isinstance(cause, ssl.SSLError) for cause in causes) or _TLS.search(str(error)):
        return StoreError(
            f"the TLS connection to {where} failed ({one_line(causes[-1])}); correct the certificate, or use +ssc for "
            "a self-signed one, or bolt:// for a server without TLS"
        )
    return StoreError(f"no Neo4j server responds at {where} ({one_line(error)}); start it, or correct the address")
