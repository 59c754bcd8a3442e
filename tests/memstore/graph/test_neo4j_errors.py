"""What a server says, as a sentence of ours: also what the Community edition, which has no roles, never says."""

from __future__ import annotations

import ssl

import pytest
from neo4j.exceptions import AuthError, ConfigurationError, Neo4jError, ServiceUnavailable, UnsupportedServerProduct

from memstore.errors import InputError, LocationError, MemstoreError, SchemaError, StoreError, StoreFullError
from memstore.graph.neo4j.errors import translate

WHERE = "bolt://graph:7687 (database neo4j, namespace lab)"
READER = "Create node with labels 'Thinking' on database 'neo4j' is not allowed for user 'reader' with roles [PUBLIC]."


def said(code: str, message: str) -> Neo4jError:
    return Neo4jError._hydrate_neo4j(code=code, message=message)


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (said("Neo.ClientError.Security.Forbidden", READER), StoreError, "reader.*give it the right to write"),
        (said("Neo.ClientError.Security.Unauthorized", "no"), StoreError, "correct the user and the password"),
        (said("Neo.ClientError.Security.AuthenticationRateLimit", "no"), StoreError, "wait, and correct the password"),
        (said("Neo.ClientError.Database.DatabaseNotFound", "no"), LocationError, "correct its name"),
        (said("Neo.DatabaseError.Transaction.TransactionLogError", "no"), StoreFullError, "free some"),
        (said("Neo.DatabaseError.General.UnknownError", "No space left on device"), StoreFullError, "free some"),
        (said("Neo.ClientError.Transaction.TransactionTimedOut", "no"), StoreError, "raise timeout_s"),
        (said("Neo.TransientError.General.MemoryPoolOutOfMemoryError", "no"), StoreError, "a larger heap"),
        (said("Neo.ClientError.Transaction.Terminated", "no"), StoreError, "the server's administrator"),
        (said("Neo.ClientError.Transaction.LockClientStopped", "no"), StoreError, "do the same again"),
        (said("Neo.ClientError.Schema.ConstraintAlreadyExists", "theirs"), LocationError, "another project.*theirs"),
        (said("Neo.TransientError.General.DatabaseUnavailable", "no"), StoreError, "look into the server's log"),
        (said("Neo.ClientError.Statement.SyntaxError", "first\nsecond"), StoreError, "failed: first"),
        (AuthError("no"), StoreError, "correct the user and the password"),
        (ServiceUnavailable("Couldn't connect to graph:7687"), StoreError, "start it, or correct the address"),
        (ServiceUnavailable("Connection to x closed with incomplete handshake response"), StoreError, "start it, or"),
        (ssl.SSLError("certificate verify failed"), StoreError, "correct the certificate"),
        (UnsupportedServerProduct("Neo4j/3.5"), SchemaError, "upgrade the server"),
        (ConfigurationError("no such option"), InputError, "cannot be opened"),
    ],
)
def test_each_failure_is_one_sentence_that_names_the_place(
    error: BaseException, kind: type[MemstoreError], words: str
) -> None:
    found = translate(error, WHERE)
    assert type(found) is kind
    assert WHERE in str(found)
    assert "\n" not in str(found)
    with pytest.raises(kind, match=words):
        raise found


def test_what_is_no_failure_of_a_server_stays_what_it_is() -> None:
    with pytest.raises(KeyError):
        translate(KeyError("a bug"), WHERE)
