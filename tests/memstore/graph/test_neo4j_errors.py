"""Server errors as sentences, including errors that the Community edition does not raise."""

from __future__ import annotations

import ssl

import pytest
from neo4j.exceptions import AuthError, ConfigurationError, Neo4jError, ServiceUnavailable, UnsupportedServerProduct

from memstore.errors import InputError, LocationError, MemstoreError, SchemaError, StoreError, StoreFullError
from memstore.graph.neo4j.errors import translate

WHERE = "bolt://graph:7687 (database neo4j, namespace lab)"
READER = "Create node with labels 'Thinking' on database 'neo4j' is not allowed for user 'reader' with roles [PUBLIC]."


def server_error(code: str, message: str) -> Neo4jError:
    return Neo4jError._hydrate_neo4j(code=code, message=message)


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (server_error("Neo.ClientError.Security.Forbidden", READER), StoreError, "reader.*grant the right to write"),
        (server_error("Neo.ClientError.Security.Unauthorized", "no"), StoreError, "correct the user and the password"),
        (
            server_error("Neo.ClientError.Security.AuthenticationRateLimit", "no"),
            StoreError,
            "wait, and correct the password",
        ),
        (server_error("Neo.ClientError.Database.DatabaseNotFound", "no"), LocationError, "correct its name"),
        (server_error("Neo.DatabaseError.Transaction.TransactionLogError", "no"), StoreFullError, "free some"),
        (
            server_error("Neo.DatabaseError.General.UnknownError", "No space left on device"),
            StoreFullError,
            "free some",
        ),
        (server_error("Neo.ClientError.Transaction.TransactionTimedOut", "no"), StoreError, "raise timeout_s"),
        (server_error("Neo.TransientError.General.MemoryPoolOutOfMemoryError", "no"), StoreError, "a larger heap"),
        (server_error("Neo.ClientError.Transaction.Terminated", "no"), StoreError, "the server's administrator"),
        (server_error("Neo.ClientError.Transaction.LockClientStopped", "no"), StoreError, "run the same command again"),
        (
            server_error("Neo.ClientError.Schema.ConstraintAlreadyExists", "theirs"),
            LocationError,
            "another project.*theirs",
        ),
        (server_error("Neo.TransientError.General.DatabaseUnavailable", "no"), StoreError, "read the server's log"),
        (server_error("Neo.ClientError.Statement.SyntaxError", "first\nsecond"), StoreError, "failed: first"),
        (AuthError("no"), StoreError, "correct the user and the password"),
        (ServiceUnavailable("Couldn't connect to graph:7687"), StoreError, "start it, or correct the address"),
        (ServiceUnavailable("Connection to x closed with incomplete handshake response"), StoreError, "start it, or"),
        (ssl.SSLError("certificate verify failed"), StoreError, "correct the certificate"),
        (UnsupportedServerProduct("Neo4j/3.5"), SchemaError, "upgrade the server"),
        (ConfigurationError("no such option"), InputError, "cannot be opened"),
    ],
)
def test_each_failure_is_one_sentence_that_names_the_location(
    error: BaseException, kind: type[MemstoreError], words: str
) -> None:
    found = translate(error, WHERE)
    assert type(found) is kind
    assert WHERE in str(found)
    assert "\n" not in str(found)
    with pytest.raises(kind, match=words):
        raise found


def test_an_unrelated_exception_is_raised_unchanged() -> None:
    with pytest.raises(KeyError):
        translate(KeyError("a bug"), WHERE)
