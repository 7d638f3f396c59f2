"""What requests will cost."""

from dataclasses import replace
from decimal import Decimal
from typing import Any, Final

import httpx2
import pytest

from fleek.domain.prices import Listed, Price, PriceList, Unit
from fleek.engine.runtime import Runtime

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
