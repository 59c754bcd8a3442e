"""HTTP API: rewards, errors as one sentence with the right status, and robustness against bad input."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memstore_rl.rewards.reward import Group
from memstore_rl.service import wire
from memstore_rl.service.app import OPEN_ROUTES

Served = Callable[..., AbstractContextManager[str]]
JSON = {"Content-Type": "application/json"}
GROUP: dict[str, Any] = {"query": {"text": "1 + 1?"}, "rollouts": [{"response": "2"}, {"answer": "3"}]}


def test_rewards_come_in_order_and_rollouts_are_recorded_once(served: Served, make_group: Callable[..., Group]) -> None:
    groups = [make_group("a?", (1, 2, 3)), make_group("b?", (7,), expected=2, gold="4")]
    alone = make_group("c?", (9,))
    with served() as endpoint:
        responses = [
            wire.from_json(
                httpx.post(f"{endpoint}/v1/score", content=wire.request_json(groups, record=True), headers=JSON).content
            )
            for _ in range(2)
        ]
        body = wire.request_json([alone], record=False)
        silent = wire.from_json(httpx.post(f"{endpoint}/v1/score", content=body, headers=JSON).content)
        metrics = httpx.get(f"{endpoint}/metrics").text
    assert [(reward.silent, reward.by_votes) for reward in silent.rewards[0]] == [(True, 0.5)]
    for response in responses:
        assert [[reward.value for reward in rewards] for rewards in response.rewards] == [[1, 2, 3], [7]]
        assert [rewards[0].source for rewards in response.rewards] == ["predicted", "ground_truth"]
    assert [response.recorded for response in responses] == [4, 0]
    counts = dict(line.rsplit(" ", 1) for line in metrics.splitlines() if not line.startswith("#"))
    assert counts['memstore_rewards_total{source="predicted"}'] == "7.0"
    assert counts["memstore_silent_groups_total"] == "1.0"
    assert counts['memstore_rewards_total{source="ground_truth"}'] == "2.0"
    assert counts["memstore_short_groups_total"] == "2.0"
    assert counts["memstore_journal_entries"] == "4.0"
    assert counts['memstore_requests_total{status="200"}'] == "3.0"


def test_recorded_counts_only_new_rollouts(served: Served, make_group: Callable[..., Group]) -> None:
    first, second = make_group("a?", (1, 2, 3)), make_group("b?", (4, 5))
    with served() as endpoint:
        scored = [
            wire.from_json(
                httpx.post(f"{endpoint}/v1/score", content=wire.request_json(groups, record=True), headers=JSON).content
            )
            for groups in ([first], [second, first, second])
        ]
    assert [response.recorded for response in scored] == [3, 2]


def test_record_false_records_nothing(served: Served, make_group: Callable[..., Group]) -> None:
    with served() as endpoint:
        body = wire.request_json([make_group()], record=False)
        assert wire.from_json(httpx.post(f"{endpoint}/v1/score", content=body, headers=JSON).content).recorded == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rollouts": []}, "groups.0.rollouts"),
        ({"rollouts": [{"thinking": "hm"}]}, "a response, or an answer"),
        ({"rollouts": [{"response": "x", "reward": 1}]}, "groups.0.rollouts.0.reward"),
        ({"query": {"text": " \n "}}, "groups.0.query.text"),
        ({"query": {"text": "?", "domain": "maths"}}, "groups.0.query.domain"),
        ({"query": {"text": "?", "golden": "4"}}, "groups.0.query.golden"),
        ({"query": {"text": "?", "go\nld\0": "4"}}, "groups.0.query.go\\nld\\x00"),
        ({"expected": 0}, "groups.0.expected"),
        ({"mode": "orakel"}, "groups.0.mode"),
        ({"rollouts": [{"response": "x", "step": 2**63}]}, "groups.0.rollouts.0.step"),
        ({"rollouts": [{"response": "x", "sample_index": -1}]}, "groups.0.rollouts.0.sample_index"),
        ({"rollouts": [{"response": "x" * (wire.MAX_TEXT + 1)}]}, "groups.0.rollouts.0.response"),
    ],
)
def test_invalid_field_is_named(served: Served, change: dict[str, Any], message: str) -> None:
    with served() as endpoint:
        response = httpx.post(f"{endpoint}/v1/score", json={"groups": [GROUP | change]})
    assert response.status_code == 422
    assert message in response.json()["error"]
    assert "\n" not in response.json()["error"]


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'{"groups": 3}', b"\xff\xfe", b'{"groups": "\\ud800"}', b"[" * 100_000, b"1e400", b"NaN"],
)
def test_body_that_is_no_request_is_rejected(served: Served, content: bytes) -> None:
    with served() as endpoint:
        response = httpx.post(f"{endpoint}/v1/score", content=content, headers=JSON)
        assert (response.status_code, list(response.json())) == (422, ["error"])
        assert httpx.get(f"{endpoint}/health/ready").status_code == 200


def test_unscorable_group_does_not_fail_other_requests(served: Served, scorer: Any) -> None:
    scorer.broken = "broken"
    with served() as endpoint:
        broken = httpx.post(f"{endpoint}/v1/score", json={"groups": [GROUP | {"query": {"text": "broken"}}]})
        good = httpx.post(f"{endpoint}/v1/score", json={"groups": [GROUP]})
    assert (broken.status_code, broken.json()) == (422, {"error": "the query 'broken' cannot be scored"})
    assert good.status_code == 200


def test_body_over_the_limit_is_rejected(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MAX_BODY", 2**20)
    with served() as endpoint:
        response = httpx.post(f"{endpoint}/v1/score", content=(b" " * 2**16 for _ in range(100)), headers=JSON)
    assert response.status_code == 413
    assert "1 MiB" in response.json()["error"]


def test_overload_responds_503_with_retry_after(served: Served, scorer: Any) -> None:
    scorer.gate.clear()
    with served(max_batch=2, max_waiting=2) as endpoint, httpx.Client(timeout=200) as client:
        with ThreadPoolExecutor(12) as pool:
            futures = [pool.submit(client.post, f"{endpoint}/v1/score", json={"groups": [GROUP]}) for _ in range(12)]
            next(future for future in as_completed(futures) if future.result().status_code == 503)
            scorer.gate.set()
        responses = [future.result() for future in futures]
    rejected = [response for response in responses if response.status_code == 503]
    assert rejected
    assert {response.status_code for response in responses} == {200, 503}
    assert all(float(response.headers["retry-after"]) > 0 for response in rejected)


def test_token_is_required(served: Served) -> None:
    with served(token="secret-1") as endpoint:
        for given in ({}, {"Authorization": "Bearer secret-2"}, {"Authorization": "secret-1"}):
            response = httpx.post(f"{endpoint}/v1/score", json={"groups": [GROUP]}, headers=given)
            assert response.status_code == 401
            assert "secret" not in response.text
        assert httpx.get(f"{endpoint}/metrics").status_code == 401
        assert [httpx.get(endpoint + route).status_code for route in OPEN_ROUTES] == [200, 200]
        good = {"Authorization": "Bearer secret-1"}
        assert httpx.post(f"{endpoint}/v1/score", json={"groups": [GROUP]}, headers=good).status_code == 200
        assert httpx.get(f"{endpoint}/v1/info", headers=good).json() == {"model": "m1"}


def test_unknown_route_and_method(served: Served) -> None:
    with served() as endpoint:
        assert "POST /v1/score" in httpx.get(f"{endpoint}/score").json()["error"]
        assert httpx.get(f"{endpoint}/v1/score").status_code == 405


def test_openapi_document_describes_the_body(served: Served) -> None:
    with served() as endpoint:
        document = httpx.get(f"{endpoint}/openapi.json").json()
    schema = document["paths"]["/v1/score"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    reference = schema["properties"]["groups"]["items"]["$ref"]
    assert reference.rsplit("/", 1)[1] in document["components"]["schemas"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda x: st.lists(x) | st.dictionaries(st.text(), x),
)
texts = st.text(max_size=20)
near_requests = st.fixed_dictionaries(
    {
        "groups": st.lists(
            st.fixed_dictionaries(
                {
                    "query": st.fixed_dictionaries(
                        {"text": texts}, optional={"gold": texts, "domain": texts, "x": json_values}
                    ),
                    "rollouts": st.lists(
                        st.fixed_dictionaries(
                            {}, optional={"response": texts, "step": st.integers(), "answer": json_values}
                        ),
                        max_size=3,
                    ),
                },
                optional={"expected": st.integers(), "mode": texts, "record": json_values},
            ),
            max_size=3,
        )
    }
)


def test_whatever_is_sent_the_answer_is_a_sentence_or_rewards(served: Served) -> None:
    with served() as endpoint, httpx.Client() as client:

        @given(json_values | near_requests)
        @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
        def send(document: object) -> None:
            response = client.post(f"{endpoint}/v1/score", content=json.dumps(document), headers=JSON)
            assert response.status_code in (200, 422)
            assert list(response.json()) == (["rewards", "recorded"] if response.status_code == 200 else ["error"])

        send()
        assert client.get(f"{endpoint}/health/live").status_code == 200


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/score/", "/v1/scores"])
def test_unknown_route_names_the_right_one(served: Served, path: str) -> None:
    with served() as endpoint:
        response = httpx.post(endpoint + path, json={"groups": [GROUP]})
    assert (response.status_code, response.is_redirect) == (404, False)
    assert "POST /v1/score" in response.json()["error"]
