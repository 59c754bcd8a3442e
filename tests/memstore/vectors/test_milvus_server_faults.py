"""Faults of a Milvus server: absent, refusing, killed and restarted, or without its collection."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from pymilvus import MilvusClient
from pymilvus.exceptions import MilvusException

from memstore.errors import EmbedderError, StoreError
from memstore.testing.conformance.vectors import names, unit_vectors
from memstore.testing.servers.milvus import MilvusServer
from memstore.vectors import calls
from memstore.vectors.milvus import MilvusVectors

DEADLINE_S = 250.0
"""Generous: the server recovers in seconds on an idle machine."""
FINGERPRINT = "faults_8_c0ffee00"
ROOT_TOKEN, WRONG_TOKEN = "root:Milvus", "root:a-wrong-secret"


def open_vectors(uri: str, **options: object) -> MilvusVectors:
    return MilvusVectors.open(uri, **{"fingerprint": FINGERPRINT, "dimension": 8, **options})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def guarded(milvus_can_run: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MilvusServer]:
    """A server that wants a password, and that may be killed."""
    settings = {"common.security.authorizationEnabled": "true"}
    with MilvusServer(tmp_path_factory.mktemp("guarded"), settings=settings) as server:
        yield server


def sentence(raised: pytest.ExceptionInfo[StoreError], uri: str) -> str:
    text = str(raised.value)
    assert uri in text
    assert "\n" not in text
    assert "secret" not in text
    return text


def test_no_server_responds() -> None:
    with pytest.raises(StoreError, match="no Milvus server answers at") as raised:
        open_vectors("http://127.0.0.1:9")
    sentence(raised, "http://127.0.0.1:9")


def test_a_secret_in_the_address_is_not_shown() -> None:
    with pytest.raises(StoreError) as raised:
        open_vectors("http://root:a-wrong-secret@127.0.0.1:9")
    sentence(raised, "http://127.0.0.1:9")


@pytest.mark.parametrize("token", [WRONG_TOKEN, None], ids=["wrong", "none"])
def test_a_wrong_token_is_refused_at_once(
    guarded: MilvusServer, token: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(StoreError, match="refuses this token") as raised:
        open_vectors(guarded.uri, token=token)
    sentence(raised, guarded.uri)
    assert "a-wrong-secret" not in caplog.text


def test_a_database_that_is_not_there(milvus_uri: str) -> None:
    with pytest.raises(StoreError, match="does not exist; create it") as raised:
        open_vectors(f"{milvus_uri}/nowhere")
    sentence(raised, milvus_uri)


def test_a_collection_of_another_dimension(milvus_uri: str) -> None:
    open_vectors(milvus_uri).close()
    with pytest.raises(EmbedderError, match="holds vectors of 8 dimensions"):
        open_vectors(milvus_uri, dimension=4)


def test_a_collection_that_was_dropped_meanwhile(milvus_uri: str) -> None:
    with open_vectors(milvus_uri, fingerprint="dropped_8_c0ffee00") as store:
        admin = MilvusClient(milvus_uri, dedicated=True)
        admin.drop_collection("memstore_dropped_8_c0ffee00")
        admin.close()
        with pytest.raises(StoreError, match="has lost the collection memstore_dropped_8_c0ffee00") as raised:
            store.upsert("query", names(1), unit_vectors(1))
        sentence(raised, milvus_uri)
    with open_vectors(milvus_uri, fingerprint="dropped_8_c0ffee00") as again:
        assert again.count() == 0


def test_a_write_is_retried_when_the_server_is_killed_and_started_again(
    guarded: MilvusServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "RETRY", replace(calls.RETRY, deadline_s=DEADLINE_S))
    vectors = unit_vectors(4000)
    with open_vectors(guarded.uri, token=ROOT_TOKEN, namespace="killed") as store:
        store.upsert("thinking", names(1000), vectors[:1000])
        guarded.kill()
        restart = threading.Timer(0.5, guarded.start)
        restart.start()
        store.upsert("thinking", names(4000)[1000:], vectors[1000:])
        restart.join()
        assert store.count("thinking") == 4000
        assert np.array_equal(store.fetch(names(4000)).vectors, vectors)
        assert store.search("thinking", vectors[:2], 1).ids.tolist() == [[names(1)[0]], [names(2)[1]]]


def test_a_server_that_stays_away_is_reported_after_the_deadline(
    guarded: MilvusServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as impatient:
        impatient.setattr(calls, "RETRY", replace(calls.RETRY, deadline_s=1.0))
        store = open_vectors(guarded.uri, token=ROOT_TOKEN, namespace="away")
    with store:
        guarded.kill()
        with pytest.raises(StoreError, match="did not come back within 1 s") as raised:
            store.upsert("thinking", names(3), unit_vectors(3))
        sentence(raised, guarded.uri)
        guarded.start()
        monkeypatch.setattr(store._calls, "_retry", replace(calls.RETRY, deadline_s=DEADLINE_S))
        store.upsert("thinking", names(3), unit_vectors(3))
        assert store.missing(names(3)) == []


def test_an_error_about_old_nodes_is_transient_and_a_trace_becomes_one_line() -> None:
    message = (
        "flush failed: node not match[expectedNodeID=1][actualNodeID=2]\n/go/src/github.com/milvus.go:12\nmore "
        + "x" * 999
    )
    error = MilvusException(65535, message)
    assert calls.is_transient(error)
    assert not calls.is_transient(MilvusException(65535, "field vector not found"))
    shown = calls._reason(error)
    assert "\n" not in shown
    assert len(shown) <= 300
