"""Reading, listing and cancelling: responses, and their faults."""

from email.utils import parsedate_to_datetime
from typing import Any

import httpx2
import pytest

from fleek.emulator.server import Emulator


async def ids(api: httpx2.AsyncClient, **query: str) -> list[str]:
    """Return the ids on the first page of a list."""
    response = await api.get("/v1/predictions", params=query)
    return [row["id"] for row in response.json()["results"]]


async def test_an_unknown_id_is_404(api: httpx2.AsyncClient) -> None:
    """With Replicate's error body."""
    response = await api.get("/v1/predictions/nothing")

    assert response.status_code == 404
    assert "detail" in response.json()


@pytest.mark.usefixtures("_full_suite")
async def test_pages_hold_a_hundred_newest_first(api: httpx2.AsyncClient, create: Any) -> None:
    """`next` is an absolute address, and null at the end."""
    made = [(await create()).json()["id"] for _ in range(130)]

    first = (await api.get("/v1/predictions")).json()
    second = (await api.get(first["next"])).json()

    assert [row["id"] for row in first["results"] + second["results"]] == made[::-1]
    assert len(first["results"]) == 100
    assert second["next"] is None


async def test_lists_are_filtered_by_time_of_creation(
    api: httpx2.AsyncClient, create: Any
) -> None:
    """Reconciliation depends on it."""
    made = [(await create()).json() for _ in range(3)]
    middle = made[1]["created_at"]

    after = await ids(api, created_after=middle)
    before = await ids(api, created_before=middle)

    assert after == [made[2]["id"], made[1]["id"]]
    assert before == [made[0]["id"]]


@pytest.mark.parametrize("query", [{"created_after": "noon"}, {"cursor": "?"}])
async def test_an_invalid_list_request_is_400(
    api: httpx2.AsyncClient, query: dict[str, str]
) -> None:
    """Rather than everything, or nothing."""
    response = await api.get("/v1/predictions", params=query)

    assert response.status_code == 400


async def test_a_cancelled_prediction_is_billed_if_it_ran(
    emulator: Emulator, api: httpx2.AsyncClient, create: Any
) -> None:
    """Replicate charges for started predictions."""
    made = (await create("[[emu:predict=60]]")).json()

    response = await api.post(f"/v1/predictions/{made['id']}/cancel")

    assert response.json()["status"] == "canceled"
    assert emulator.totals()["headings"] == {"canceled_after_start": 1}
    assert emulator.totals()["billed"] == 1


@pytest.mark.parametrize(
    ("marker", "status", "state"),
    [
        ("cancel_ignored", 200, "processing"),
        ("cancel_404", 404, "processing"),
        ("cancel_5xx", 503, "processing"),
        ("cancel_then_5xx", 500, "canceled"),
        ("cancel_slow=0", 200, "canceled"),
    ],
)
async def test_a_cancel_may_get_a_wrong_response(
    api: httpx2.AsyncClient, create: Any, marker: str, status: int, state: str
) -> None:
    """Only a read shows the actual state."""
    made = (await create(f"[[emu:predict=60]][[emu:{marker}]]")).json()

    response = await api.post(f"/v1/predictions/{made['id']}/cancel")

    assert response.status_code == status
    assert (await api.get(made["urls"]["get"])).json()["status"] == state


async def test_a_cancel_with_a_lost_response_is_applied(
    api: httpx2.AsyncClient, create: Any
) -> None:
    """There is no response at all."""
    made = (await create("[[emu:predict=60]][[emu:cancel_then_drop]]")).json()

    with pytest.raises(httpx2.RemoteProtocolError):
        await api.post(f"/v1/predictions/{made['id']}/cancel")

    assert (await api.get(made["urls"]["get"])).json()["status"] == "canceled"


@pytest.mark.parametrize(
    ("marker", "status"), [("get_404", 404), ("get_429", 429), ("get_5xx=502", 502)]
)
async def test_a_read_fails_once_then_works(
    api: httpx2.AsyncClient, create: Any, marker: str, status: int
) -> None:
    """A marker applies as often as the catalogue says, here once."""
    made = (await create(f"[[emu:{marker}]]")).json()

    responses = [await api.get(made["urls"]["get"]) for _ in range(2)]

    assert [response.status_code for response in responses] == [status, 200]


async def test_a_marker_may_contain_a_count(api: httpx2.AsyncClient, create: Any) -> None:
    """`*2` twice, `*all` always."""
    made = (await create("[[emu:get_5xx*2]]")).json()

    responses = [await api.get(made["urls"]["get"]) for _ in range(3)]

    assert [response.status_code for response in responses] == [503, 503, 200]


async def test_a_new_prediction_may_not_be_found_yet(
    emulator: Emulator, api: httpx2.AsyncClient, create: Any
) -> None:
    """A replica lags behind."""
    made = (await create("[[emu:get_404_fresh=30]][[emu:list_omit=30]]")).json()

    early = await api.get(made["urls"]["get"])
    listed_early = await ids(api)
    emulator.account.clock.advance(31)

    assert (early.status_code, listed_early) == (404, [])
    assert (await api.get(made["urls"]["get"])).status_code == 200
    assert await ids(api) == [made["id"]]


async def test_the_status_may_go_backwards(
    emulator: Emulator, api: httpx2.AsyncClient, create: Any
) -> None:
    """The second read is served by an older replica."""
    made = (await create("[[emu:predict=1000]]")).json()
    emulator.account.clock.advance(1001)

    first = (await api.get(made["urls"]["get"])).json()["status"]
    emulator.replan(rates={"get_stale": 1}, arguments={"get_stale": "900"})
    second = (await api.get(made["urls"]["get"])).json()["status"]

    assert (first, second) == ("succeeded", "processing")


async def test_data_may_be_removed_early(api: httpx2.AsyncClient, create: Any) -> None:
    """It succeeded, was billed, and has no output any more."""
    made = (await create("[[emu:get_data_removed]]")).json()

    shown = (await api.get(made["urls"]["get"])).json()

    assert (shown["status"], shown["output"], shown["data_removed"]) == ("succeeded", None, True)


async def test_a_page_may_lead_to_itself(
    emulator: Emulator, api: httpx2.AsyncClient, create: Any
) -> None:
    """A client that follows `next` blindly never ends."""
    for _ in range(101):
        await create()
    emulator.replan(rates={"list_repeat": 1})

    first = (await api.get("/v1/predictions")).json()
    second = (await api.get(first["next"])).json()

    assert first["results"] == second["results"]


async def test_filters_use_the_reported_clock(
    emulator: Emulator, api: httpx2.AsyncClient, create: Any
) -> None:
    """Date, created_at and created_after come from one clock, however wrong."""
    emulator.replan(clock_offset_seconds=600)
    made = await create()

    shown = made.json()["created_at"]

    assert await ids(api, created_after=shown) == [made.json()["id"]]
    assert await ids(api, created_before=shown) == []


async def test_the_other_read_routes_respond(api: httpx2.AsyncClient) -> None:
    """Models, versions, collections, hardware and so on."""
    paths = ["account", "hardware", "models", "collections", "collections/video", "deployments"]

    statuses = [(await api.get(f"/v1/{path}")).status_code for path in paths]

    assert statuses == [200] * len(paths)


async def test_models_are_searched_with_their_own_method(api: httpx2.AsyncClient) -> None:
    """QUERY is no standard method; one client quotes the text."""
    response = await api.request("QUERY", "/v1/models", content='"flux"')

    names = {model["name"] for model in response.json()["results"]}
    assert names == {"flux-schnell", "flux-1.1-pro"}


async def test_a_version_has_the_schema_of_its_parameters(api: httpx2.AsyncClient) -> None:
    """Parameters are validated against it before a start."""
    model = (await api.get("/v1/models/black-forest-labs/flux-schnell")).json()

    schemas = model["latest_version"]["openapi_schema"]["components"]["schemas"]

    assert schemas["Input"]["required"] == ["prompt"]
    assert schemas["Input"]["properties"]["num_outputs"]["maximum"] == 4
    assert schemas["Output"]["type"] == "array"


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "x", 404), ("PUT", "account", 405)]
)
async def test_unknown_routes_return_json(
    api: httpx2.AsyncClient, method: str, path: str, status: int
) -> None:
    """Clients read `detail`."""
    response = await api.request(method, f"/v1/{path}")

    assert response.status_code == status
    assert response.json()["status"] == status


async def test_unlisted_models_may_be_refused(emulator: Emulator, api: httpx2.AsyncClient) -> None:
    """As at Replicate; by default any name works, so that any program can be tested."""
    paths = ("models/a/b", "models/a/b/versions", f"models/a/b/versions/{'0' * 64}")
    before = [(await api.get(f"/v1/{path}")).status_code for path in paths]
    emulator.replan(any_model=False)

    after = [(await api.get(f"/v1/{path}")).status_code for path in paths]

    assert (before, after) == ([200, 200, 200], [404, 404, 404])


@pytest.mark.parametrize(
    "path",
    [
        "models/stability-ai/sdxl/versions/0",
        "collections/nothing",
        "predictions/nothing/cancel",
    ],
)
async def test_unknown_names_are_404(api: httpx2.AsyncClient, path: str) -> None:
    """On every route with a name."""
    method = "POST" if path.endswith("cancel") else "GET"

    response = await api.request(method, f"/v1/{path}")

    assert response.status_code == 404


async def test_model_routes_may_fail(emulator: Emulator, api: httpx2.AsyncClient) -> None:
    """A schema cannot always be fetched."""
    emulator.replan(rates={"model_5xx": 1})

    response = await api.get("/v1/models/a/b")

    assert response.status_code == 503


@pytest.mark.parametrize(
    ("rates", "status"),
    [({"list_5xx": 1}, 503), ({"list_429": 1}, 429), ({"list_slow": 1}, 200)],
)
async def test_lists_may_fail(
    emulator: Emulator, api: httpx2.AsyncClient, rates: dict[str, float], status: int
) -> None:
    """By rate only, because a list has no prompt."""
    emulator.replan(rates=rates, arguments={"list_slow": "0"})

    response = await api.get("/v1/predictions")

    assert response.status_code == status


async def test_a_read_may_be_html_or_reset(api: httpx2.AsyncClient, create: Any) -> None:
    """A status of 200 says nothing about the body."""
    made = (await create("[[emu:get_html]]")).json()
    torn = (await create("[[emu:get_reset]]")).json()

    page = await api.get(made["urls"]["get"])

    assert page.headers["content-type"].startswith("text/html")
    with pytest.raises(httpx2.ReadError):
        await api.get(torn["urls"]["get"])


async def test_responses_may_be_delayed(emulator: Emulator, api: httpx2.AsyncClient) -> None:
    """By a random time between two bounds."""
    emulator.replan(answer_seconds=(0.05, 0.06))
    before = emulator.account.now()

    await api.get("/v1/account")

    assert emulator.account.now() - before >= 0.05


async def test_the_date_is_the_emulators(emulator: Emulator, api: httpx2.AsyncClient) -> None:
    """Clients measure its clock offset by this header."""
    emulator.replan(clock_offset_seconds=600)

    response = await api.get("/v1/account")

    shown = parsedate_to_datetime(response.headers["date"]).timestamp()
    assert shown == pytest.approx(emulator.account.now() + 600, abs=2)
