"""Creating predictions: accepted requests, refused requests, and responses."""

from typing import Any

import httpx2
import pytest

from fleek.emulator.replicate.models import BY_NAME
from fleek.emulator.server import Emulator

MODEL = "black-forest-labs/flux-schnell"
SDXL = BY_NAME["stability-ai/sdxl"]


@pytest.mark.parametrize(
    ("path", "version", "shown"),
    [
        ("/v1/predictions", SDXL.version, SDXL.version),
        ("/v1/predictions", f"{SDXL.name}:{SDXL.version}", SDXL.version),
        ("/v1/predictions", MODEL, "hidden"),
        (f"/v1/models/{MODEL}/predictions", None, "hidden"),
        ("/v1/v1/predictions", MODEL, "hidden"),
        ("/v1/predictions", "0" * 64, "0" * 64),
    ],
    ids=["version", "owner/name:version", "owner/name", "model", "twice v1", "unknown version"],
)
async def test_three_routes_create(
    api: httpx2.AsyncClient, path: str, version: str | None, shown: str
) -> None:
    """A version is never null: the official client refuses that."""
    body = {"version": version, "input": {"prompt": "a cat"}}

    response = await api.post(path, json=body)

    assert response.status_code == 201
    assert response.json()["version"] == shown


async def test_a_deployment_is_named_in_its_prediction(api: httpx2.AsyncClient) -> None:
    """The third route."""
    path = "/v1/deployments/acme/pictures/predictions"

    response = await api.post(path, json={"input": {"prompt": "a cat"}})

    assert response.json()["deployment"] == "acme/pictures"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"version": MODEL}, 422),
        ({"input": {"prompt": "x"}}, 422),
        ({"version": MODEL, "input": {}}, 422),
        ({"version": MODEL, "input": {"prompt": 7}}, 422),
        ({"version": MODEL, "input": {"prompt": "x", "num_outputs": 9}}, 422),
        ({"version": MODEL, "input": {"prompt": "x", "num_outputs": 0}}, 422),
        ({"version": MODEL, "input": {"prompt": "x", "output_format": "bmp"}}, 422),
        ({"version": MODEL, "input": {"prompt": "x"}, "webhook": "ftp://x"}, 422),
        ({"version": MODEL, "input": {"prompt": "x"}, "webhook_events_filter": ["end"]}, 422),
        ({"version": f"{MODEL}:{'0' * 64}", "input": {"prompt": "x"}}, 422),
        ({"version": "nonsense", "input": {"prompt": "x"}}, 422),
        ({"version": "a/b", "input": {"prompt": "[[emu:no_such_fault]]"}}, 422),
        ({"version": "a/b", "input": {"prompt": "[[emu:queue=soon]]"}}, 422),
        ({"version": "a/b", "input": {"prompt": "[[emu:output=cube]]"}}, 422),
        ([], 422),
    ],
)
async def test_invalid_requests_are_refused_and_not_billed(
    emulator: Emulator, api: httpx2.AsyncClient, body: Any, status: int
) -> None:
    """Clients rely on a 4xx costing nothing."""
    response = await api.post("/v1/predictions", json=body)

    assert response.status_code == status
    assert {"title", "detail", "status"} <= set(response.json())
    assert emulator.totals()["predictions"] == 0


async def test_invalid_json_is_400(api: httpx2.AsyncClient) -> None:
    """As at Replicate."""
    response = await api.post("/v1/predictions", content=b"{")

    assert response.status_code == 400


async def test_a_community_model_needs_its_version(
    emulator: Emulator, api: httpx2.AsyncClient
) -> None:
    """Only official models run by name; the mistake is easy to make."""
    emulator.replan(any_model=False)

    response = await api.post(
        f"/v1/models/{SDXL.name}/predictions", json={"input": {"prompt": "a cat"}}
    )

    assert response.status_code == 404


@pytest.mark.parametrize(
    "headers",
    [{"authorization": ""}, {"authorization": "Bearer other"}, {"authorization": "Basic good"}],
    ids=["none", "unknown", "wrong scheme"],
)
async def test_an_unknown_token_is_401(
    emulator: Emulator, api: httpx2.AsyncClient, headers: dict[str, str]
) -> None:
    """The ledger records it, to show whether a foreign token was ever used."""
    emulator.replan(tokens=("good",))

    response = await api.get("/v1/account", headers=headers)

    assert response.status_code == 401
    assert [row["auth_ok"] for row in emulator.ledger.rows("request")] == [False]


@pytest.mark.parametrize("scheme", ["Bearer", "Token"])
async def test_both_schemes_are_accepted(
    emulator: Emulator, api: httpx2.AsyncClient, scheme: str
) -> None:
    """Old clients send Token."""
    emulator.replan(tokens=("good",))

    response = await api.get("/v1/account", headers={"authorization": f"{scheme} good"})

    assert response.status_code == 200


async def test_prefer_wait_returns_the_end(create: Any) -> None:
    """One request is enough for a quick model."""
    response = await create("[[emu:predict=0.2]]", prefer="wait")

    assert response.status_code == 201
    assert response.json()["status"] == "succeeded"
    assert response.json()["metrics"]["predict_time"] == pytest.approx(0.2)


@pytest.mark.usefixtures("_full_suite")  # takes a second
async def test_a_wait_that_times_out_returns_starting(create: Any) -> None:
    """Clients take any other status for the end, and return nothing."""
    response = await create("[[emu:predict=600]]", prefer="wait=1")

    assert response.json()["status"] == "starting"
    assert response.headers["location"] == response.json()["urls"]["get"]


@pytest.mark.parametrize("duration", ["4s", "soon", ""], ids=["short", "words", "empty"])
async def test_an_invalid_deadline_is_refused(api: httpx2.AsyncClient, duration: str) -> None:
    """If it were ignored, a prediction would keep running."""
    response = await api.post(
        "/v1/predictions",
        json={"version": MODEL, "input": {"prompt": "a cat"}},
        headers={"cancel-after": duration},
    )

    assert response.status_code == 422


async def test_the_rate_limit_returns_429(
    emulator: Emulator, api: httpx2.AsyncClient, create: Any
) -> None:
    """With the headers and the text of Replicate."""
    emulator.replan(creates_per_minute=1)
    emulator.account.clock.advance(60 - emulator.account.now() % 60)  # a new minute

    responses = [await create(), await create(), await api.get("/v1/account")]

    assert [response.status_code for response in responses] == [201, 429, 200]
    assert int(responses[1].headers["retry-after"]) > 0
    assert "Request was throttled" in responses[1].json()["detail"]


async def test_two_runs_never_share_ids(create: Any) -> None:
    """Databases with ids of an earlier run must not see them again after a restart."""
    ids = {(await create()).json()["id"] for _ in range(50)}

    assert len(ids) == 50
    assert {len(prediction_id) for prediction_id in ids} == {26}
