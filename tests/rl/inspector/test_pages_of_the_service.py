"""The reward service has the pages under /inspect, with a login of their own, beside its API."""

from __future__ import annotations

import httpx
from pydantic import SecretStr

from memstore.memory import Memory
from memstore_rl.inspector.app import NAVIGATION, make_pages
from memstore_rl.inspector.site import PREFIX
from memstore_rl.inspector.source import MemorySource
from memstore_rl.service.app import make_app
from memstore_rl.service.service import RewardService

from .conftest import query_with, serving


class NoScorer:
    """Scores nothing."""

    def verify(self, groups: object) -> list[object]:
        return []

    def score_verified(self, groups: object) -> list[object]:
        return []


def test_pages_beside_the_api(looked_at: Memory) -> None:
    token, source = SecretStr("secret"), MemorySource(looked_at)
    service = RewardService(NoScorer(), None)  # type: ignore[arg-type]
    app = make_app(service, token=token, pages={PREFIX: make_pages(source, token=token)})
    with serving(source, app=app) as address, httpx.Client(base_url=address.removesuffix(PREFIX)) as web:
        assert web.get("/v1/info").status_code == 401
        assert web.get("/inspectors").status_code == 401
        assert web.get("/inspect/").headers["location"].startswith("/inspect/login")
        login = web.post("/inspect/login", data={"token": "secret"})
        assert login.status_code == 303
        query = query_with(looked_at, "Mia has 4")
        below = ["/", "/queries", "/queue", "/disagreements", "/training", "/evaluation", "/cypher"]
        assert {item.path for item in NAVIGATION} == set(below)
        for path in (*below, f"/query/{query}", f"/query/{query}/timeline", f"/propagation?node={query}"):
            assert web.get(f"/inspect{path}").status_code == 200, path
        assert web.get("/v1/info").status_code == 401  # the cookie of the pages opens no other route
        assert web.get("/v1/info", headers={"authorization": "Bearer secret"}).status_code == 200
