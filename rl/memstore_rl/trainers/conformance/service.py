"""A reward service for checks that notes what a hook sends.

It answers by itself, or forwards to a real service, there without recording. Its own rewards can be told apart: ground
truth by the last `\\boxed{...}` of a response, a prediction by the whole group and the response.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, NamedTuple, Self

from pydantic import ValidationError

from memstore.errors import MemstoreError
from memstore_rl.rewards.reward import Group, Reward, Rollout
from memstore_rl.service import wire
from memstore_rl.service.client import RewardClient


class Noted(NamedTuple):
    """A group as a hook sent it, and the rewards that it got."""

    group: Group
    record: bool
    rewards: list[Reward]


class NotingService:
    """The service, on a free port of loopback; a context manager.

    Example:
        with NotingService() as service:
            group_reward(["what is 2 + 3 ?"], ["5"], golds=["5"], endpoint=service.address)
            service.noted
    """

    def __init__(self, forward: RewardClient | None = None) -> None:
        """Create a service.

        Args:
            forward: a client of the service that gives the rewards; None: this one does.
        """
        self.noted: list[Noted] = []
        """The groups in the order of arrival."""
        self._forward = forward
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def address(self) -> str:
        """The address, such as `http://127.0.0.1:41001`."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def answer(self, body: bytes) -> tuple[int, bytes]:
        """Status and body of the response to a request for rewards."""
        try:
            request = wire.ScoreRequest.model_validate_json(body)
            groups = [one.to_group() for one in request.groups]
            rewards = self._rewards(groups)
        except ValidationError as error:
            return 422, _error(wire.sentence(error))
        except MemstoreError as error:
            return 500, _error(str(error))
        records = [one.record for one in request.groups]
        with self._lock:
            self.noted += [Noted(*one) for one in zip(groups, records, rewards, strict=True)]
        return 200, wire.to_json(wire.ScoreResponse(rewards, 0))

    def info(self) -> dict[str, Any]:
        """The response of `/v1/info`."""
        return {"shaping": "probability"} if self._forward is None else self._forward.info()

    def _rewards(self, groups: Sequence[Group]) -> list[list[Reward]]:
        if self._forward is not None:
            return self._forward.score_groups(groups, record=False)
        return [[_reward(group, rollout) for rollout in group.rollouts] for group in groups]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                if self.path == "/v1/info":
                    self._send(200, json.dumps(service.info()).encode())
                else:
                    self._send(404, _error("there is no such route"))

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.path == "/v1/score":
                    self._send(*service.answer(body))
                else:
                    self._send(404, _error("there is no such route"))

            def _send(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *arguments: Any) -> None:
                """Log nothing; a check prints what it found."""

        return Handler


def _error(sentence: str) -> bytes:
    return json.dumps({"error": sentence}).encode()


def _reward(group: Group, rollout: Rollout) -> Reward:
    labelled, size = group.query.labelled, len(group.rollouts)
    scored = labelled or group.mode not in ("oracle", "budget")
    predicted = scored and not labelled
    value = None
    if labelled:
        value = float(f"\\boxed{{{group.query.gold}}}" in (rollout.response or ""))
    elif predicted:
        value = _share([rollout.response, *(other.response for other in group.rollouts)])
    return Reward(
        value=value,
        source="ground_truth" if labelled else "predicted" if predicted else "unscored",
        probability=value if predicted else None,
        group_size=size,
        short=group.expected is not None and size < group.expected,
        model="m-check" if predicted else None,
        known=False,
        latency_s=0.0,
        reason=None if scored else "the query has no gold answer",
    )


def _share(texts: Sequence[str | None]) -> float:
    """A number in 0..1 that differs for other texts."""
    digest = hashlib.sha256(json.dumps(texts).encode()).digest()
    return int.from_bytes(digest[:6]) / 2**48
