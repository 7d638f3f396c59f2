"""What requests will cost."""

from dataclasses import replace
from decimal import Decimal
from typing import Any, Final

import httpx2
import pytest
from sqlalchemy import insert
from uuid_utils.compat import uuid7

from fleek.domain.access import Scope
from fleek.domain.prices import Listed, Price, PriceList, Unit
from fleek.engine.access import create_key
from fleek.engine.runtime import Runtime
from fleek.store.tables import ChargeRow

PRICES: Final = PriceList(
    [Listed("placeholder", "*", Price(units={Unit.OUTPUT: Decimal("0.003")}))]
)


@pytest.fixture
def rt(rt: Runtime) -> Runtime:
    """Return a runtime whose models have a price."""
    return replace(rt, prices=PRICES)


async def _estimate(client: httpx2.AsyncClient, **fields: Any) -> Any:
    answer = await client.post("/api/v1/estimate", json={"prompt": "A cat", **fields})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_an_estimate_makes_nothing(client: httpx2.AsyncClient, rt: Runtime) -> None:
    """It says what the request would cost, where, and after how many others."""
    found = await _estimate(client, parameters={"num_outputs": 2})

    assert found == {
        "cost": "0.006",
        "route": {
            "provider": "placeholder",
            "model_name": rt.providers["placeholder"].default_model,
        },
        "queue_position": 0,
        "problems": [],
    }
    jobs = await client.get("/api/v1/jobs")
    assert jobs.json() == []


async def test_an_estimate_names_what_would_be_refused(client: httpx2.AsyncClient) -> None:
    """The price is known all the same."""
    wrong = await _estimate(client, parameters={"width": "wide"})
    nowhere = await _estimate(client, provider="nobody")

    assert wrong["cost"] == "0.003"
    assert wrong["queue_position"] is None
    assert [problem["pointer"] for problem in wrong["problems"]] == ["/parameters/width"]
    assert nowhere["cost"] is None
    assert nowhere["route"] is None
    assert nowhere["problems"][0]["code"] == "unknown_provider"


async def test_an_unknown_price_is_null_or_refused(rt: Runtime, client_of: Any) -> None:
    """As the operator chose."""
    unknown = replace(rt, prices=PriceList())
    refusing = replace(
        unknown, settings=rt.settings.model_copy(update={"price_unknown": "refuse"})
    )
    async with client_of(unknown) as client:
        accepted = await _estimate(client)
    async with client_of(refusing) as client:
        found = await _estimate(client)
        refused = await client.post("/api/v1/generate", json={"prompt": "A cat"})

    assert (accepted["cost"], accepted["problems"]) == (None, [])
    assert (found["cost"], found["problems"][0]["code"]) == (None, "price_unknown")
    assert (refused.status_code, refused.json()["code"]) == (422, "price_unknown")


class Callers:
    """Calls of two tenants and of an operator."""

    def __init__(self, client: httpx2.AsyncClient) -> None:
        self._client = client
        self.secrets: dict[str, str] = {}
        self.keys: dict[str, str] = {}  # ids

    async def call(self, who: str, method: str, path: str, **options: Any) -> httpx2.Response:
        """Send a request with a key of one of them."""
        headers = {"Authorization": f"Bearer {self.secrets[who]}", **options.pop("headers", {})}
        return await self._client.request(method, f"/api/v1/{path}", headers=headers, **options)


@pytest.fixture
async def callers(rt: Runtime, client: httpx2.AsyncClient) -> Callers:
    """Return callers, of whom both tenants have spent something."""
    made = Callers(client)
    user = [Scope.USAGE_READ, Scope.JOBS_WRITE]
    for name, scopes in {"acme": user, "other": user, "operator": [Scope.ADMIN]}.items():
        key, made.secrets[name] = await create_key(rt, name=name, tenant_id=name, scopes=scopes)
        made.keys[name] = key.id
    async with rt.db.write() as tx:
        for tenant_id in ("acme", "other"):
            key_id = made.keys[tenant_id]
            values = [
                _charge(tenant_id, key_id, "2026-11-03", "spent", 3000, model="a/one"),
                _charge(tenant_id, key_id, "2026-11-03", "spent", None, model="a/two"),
                _charge(tenant_id, None, "2026-11-04", "spent", 1_000_000, model="a/two"),
                _charge(tenant_id, key_id, "2026-11-04", "reserved", None, model="a/one"),
                _charge(tenant_id, key_id, "2026-11-04", "released", None, model="a/one"),
                _charge(tenant_id, key_id, "2026-10-31", "spent", 7, model="a/one"),
            ]
            await tx.execute(insert(ChargeRow), values)
    return made


def _charge(
    tenant_id: str, key_id: str | None, day: str, state: str, actual: int | None, *, model: str
) -> dict[str, Any]:
    return {
        "job_id": uuid7(),
        "number": 1,
        "tenant_id": tenant_id,
        "key_id": key_id,
        "provider": "placeholder",
        "model": model,
        "day": day,
        "estimate": 5000,
        "actual": actual,
        "state": state,
    }


NOVEMBER: Final = {"from": "2026-11-01", "to": "2026-11-30"}


async def test_usage_is_added_up_by_day(callers: Callers) -> None:
    """By the days of the month, those of the caller's tenant alone."""
    answer = await callers.call("acme", "GET", "usage", params={"to": "2026-11-30"})

    assert answer.json() == {
        "first": "2026-11-01",
        "last": "2026-11-30",
        "group_by": "day",
        "cost": "1.003",
        "rows": [
            {"name": "2026-11-03", "attempts": 2, "unknown": 1, "cost": "0.003", "reserved": "0"},
            {"name": "2026-11-04", "attempts": 1, "unknown": 0, "cost": "1", "reserved": "0.005"},
        ],
    }


async def test_usage_is_added_up_by_other_things(
    callers: Callers, subtests: pytest.Subtests
) -> None:
    """An operator sees all tenants."""
    cases: dict[str, tuple[str, dict[str | None, str]]] = {
        "model": ("acme", {"a/one": "0.003", "a/two": "1"}),
        "provider": ("acme", {"placeholder": "1.003"}),
        "key": ("acme", {None: "1", callers.keys["acme"]: "0.003"}),
        "tenant": ("operator", {"acme": "1.003", "other": "1.003"}),
    }
    for group_by, (who, expected) in cases.items():
        with subtests.test(group_by=group_by):
            wanted = {**NOVEMBER, "group_by": group_by}
            tenant = {} if who == "acme" else {"tenant": "*"}
            answer = await callers.call(who, "GET", "usage", params=wanted | tenant)
            assert {row["name"]: row["cost"] for row in answer.json()["rows"]} == expected


async def test_usage_is_written_as_csv(callers: Callers) -> None:
    """For spreadsheets."""
    headers = {"Accept": "text/csv"}
    answer = await callers.call("acme", "GET", "usage", params=NOVEMBER, headers=headers)

    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.text.splitlines() == [
        "day,attempts,unknown,cost,reserved",
        "2026-11-03,2,1,0.003,0",
        "2026-11-04,1,0,1,0.005",
    ]


@pytest.mark.parametrize(
    ("params", "status"),
    [
        ({"from": "2026-11-31"}, 422),
        ({"from": "1"}, 422),
        ({"from": "2026-11-02", "to": "2026-11-01"}, 422),
        ({"group_by": "month"}, 422),
        ({"tenant": "**"}, 422),
        ({"tenant": "other"}, 403),
        ({"tenant": "*"}, 403),
        ({"since": "2026-11-01"}, 422),
    ],
)
async def test_usage_of_others_and_wrong_days_are_refused(
    callers: Callers, params: dict[str, str], status: int
) -> None:
    """Nothing is guessed, and nothing of another tenant is shown."""
    answer = await callers.call("acme", "GET", "usage", params=params)

    assert answer.status_code == status


async def test_a_budget_refuses_what_it_has_no_room_for(callers: Callers) -> None:
    """With 402; the tenant sees what is left, and nobody else does."""
    budget = {"tenant": "acme", "period": "day", "limit": "0.005"}
    made = await callers.call("operator", "POST", "budgets", json=budget)
    job = {"prompt": "A cat"}

    first = await callers.call("acme", "POST", "generate", json=job)
    second = await callers.call("acme", "POST", "generate", json=job)
    other = await callers.call("other", "POST", "generate", json=job)
    shown = await callers.call("acme", "GET", "budgets")
    hidden = await callers.call("other", "GET", "budgets")
    estimate = await callers.call("acme", "POST", "estimate", json=job)

    assert made.status_code == 200
    assert (first.status_code, first.json()["estimate"], first.json()["cost"]) == (
        201,
        "0.003",
        "0",
    )
    assert (second.status_code, second.json()["code"]) == (402, "budget_exceeded")
    assert other.status_code == 201
    (found,) = shown.json()
    assert (found["tenant"], found["key"], found["period"]) == ("acme", None, "day")
    assert (found["limit"], found["reserved"], found["left"]) == ("0.005", "0.003", "0.002")
    assert hidden.json() == []
    assert estimate.json()["problems"][0]["code"] == "budget_exceeded"


async def test_only_operators_set_budgets(callers: Callers, subtests: pytest.Subtests) -> None:
    """And only of what is there."""
    limit = {"period": "day", "limit": "1"}
    cases: list[tuple[str, dict[str, Any], int]] = [
        ("acme", limit, 403),
        ("operator", {**limit, "tenant": "nobody"}, 404),
        ("operator", {**limit, "key": "aaaaaaaaaaaa"}, 404),
        ("operator", {**limit, "key": callers.keys["acme"], "tenant": "other"}, 404),
        ("operator", {**limit, "limit": None}, 404),
        ("operator", {**limit, "limit": "-1"}, 422),
        ("operator", {**limit, "limit": "0.0000001"}, 422),
        ("operator", {**limit, "limit": 1}, 422),
        ("operator", {**limit, "period": "week"}, 422),
        ("operator", {"period": "day"}, 422),
        ("operator", limit, 200),
        ("operator", {**limit, "key": callers.keys["acme"]}, 200),
        ("operator", {**limit, "limit": None}, 200),
    ]
    for who, body, status in cases:
        with subtests.test(body=body):
            answer = await callers.call(who, "POST", "budgets", json=body)
            assert answer.status_code == status
    left = await callers.call("operator", "GET", "budgets", params={"tenant": "*"})
    assert [(one["tenant"], one["key"]) for one in left.json()] == [("acme", callers.keys["acme"])]


async def test_a_request_names_what_it_may_cost(client: httpx2.AsyncClient) -> None:
    """In dollars, as a decimal; the estimate says what would be refused, and makes nothing."""
    wanted = {"prompt": "A cat", "max_cost": "0.003"}

    estimated = await _estimate(client, max_cost="0.002")
    refused = await client.post("/api/v1/generate", json={**wanted, "max_cost": "0.002"})
    accepted = await client.post("/api/v1/generate", json=wanted)
    malformed = await client.post("/api/v1/generate", json={**wanted, "max_cost": "much"})

    assert [problem["code"] for problem in estimated["problems"]] == ["max_cost_exceeded"]
    assert (refused.status_code, refused.json()["code"]) == (402, "max_cost_exceeded")
    assert (accepted.status_code, accepted.json()["max_cost"]) == (201, "0.003")
    assert malformed.status_code == 422
