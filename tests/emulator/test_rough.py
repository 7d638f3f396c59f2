"""Rough providers: vanishing predictions, false statuses, temporary failures, unusual formats."""

import gzip
import json
from contextlib import suppress
from email.utils import parsedate_to_datetime
from typing import Any

import httpx2
import pytest

from fleek.emulator.files import PAGES, page
from fleek.emulator.media import render
from fleek.emulator.responses import ERRORS, FORMS, ODD
from fleek.emulator.server import Emulator


async def read(api: httpx2.AsyncClient, made: dict[str, Any]) -> tuple[int, int]:
    """Return the status of a read, and the number of predictions in the list."""
    listed = (await api.get("/v1/predictions")).json()["results"]
    return (await api.get(made["urls"]["get"])).status_code, len(listed)


@pytest.mark.parametrize(
    ("fault", "sights"),
    [
        ("unseen=5", [(404, 0), (200, 1), (200, 1)]),
        ("vanish=5", [(200, 1), (404, 0), (404, 0)]),
        ("vanish_while=5", [(404, 0), (200, 1), (200, 1)]),
    ],
)
async def test_a_vanished_prediction_is_billed(
    emulator: Emulator, api: httpx2.AsyncClient, create: Any, fault: str, sights: list[Any]
) -> None:
    """Reads and lists omit it, for a while or for good, but the ledger contains it."""
    made = (await create(f"[[emu:{fault}]]")).json()

    seen = []
    for seconds in (0, 6, 60):
        emulator.account.clock.advance(seconds)
        seen.append(await read(api, made))

    assert seen == sights
    assert emulator.totals()["billed"] == 1
    assert emulator.totals()["vanished"] == (fault == "vanish=5")


async def test_a_vanished_prediction_cannot_be_cancelled(
    emulator: Emulator, api: httpx2.AsyncClient, create: Any
) -> None:
    """It runs on."""
    made = (await create("[[emu:vanish=0]][[emu:predict=60]]")).json()

    response = await api.post(made["urls"]["cancel"])

    assert response.status_code == 404
    assert emulator.totals()["running"] == 1


@pytest.mark.parametrize(
    ("fault", "statuses"),
    [
        ("starting_status=queued", ["queued", "processing", "succeeded", "succeeded"]),
        ("unknown_status=unknown", ["starting", "unknown", "succeeded", "succeeded"]),
        ("end_status=done", ["starting", "processing", "done", "done"]),
        ("end_late=10", ["starting", "processing", "unknown", "succeeded"]),
    ],
)
async def test_a_status_may_be_unknown(
    emulator: Emulator, api: httpx2.AsyncClient, create: Any, fault: str, statuses: list[str]
) -> None:
    """Before the start, while it runs, or at the end; billed as usual."""
    made = (await create(f"[[emu:{fault}]][[emu:queue=100]][[emu:predict=100]]")).json()

    bodies = []
    for seconds in (0, 101, 100, 10):
        emulator.account.clock.advance(seconds)
        bodies.append((await api.get(made["urls"]["get"])).json())

    assert [body["status"] for body in bodies] == statuses
    assert [body["output"] is not None for body in bodies] == [
        status == "succeeded" for status in statuses
    ]
    assert emulator.totals()["headings"] == {"succeeded": 1}


@pytest.mark.parametrize("kind", ERRORS)
async def test_an_error_may_have_another_shape(create: Any, kind: str) -> None:
    """An object, a list, or null."""
    made = (await create(f"[[emu:odd_error={kind}]]", prefer="wait")).json()

    assert made["status"] == "failed"
    assert made["error"] == ERRORS[kind]("Prediction failed: an unexpected error occurred (E9999)")


@pytest.mark.parametrize("form", [*FORMS, "html", "text", "problem"])
@pytest.mark.parametrize("status", [403, 422])
async def test_a_refusal_may_have_any_form(
    emulator: Emulator, create: Any, status: int, form: str
) -> None:
    """The reason is somewhere in the body."""
    response = await create(f"[[emu:create_{status}={form}]]")

    kinds = {"html": "text/html; charset=utf-8", "text": "text/plain; charset=utf-8"}
    assert response.status_code == status
    assert response.headers["content-type"] == kinds.get(form, "application/json")
    assert emulator.totals()["predictions"] == 0


@pytest.mark.parametrize(
    ("fault", "first"),
    [("output_404=2", 404), ("output_403=2", 403), ("output_5xx=2", 503), ("output_reset=2", 0)],
)
async def test_a_file_fails_a_number_of_times_then_works(
    api: httpx2.AsyncClient, create: Any, fault: str, first: int
) -> None:
    """A new output may not have reached every edge server."""
    made = (await create(f"[[emu:{fault}]]", version="a/b", prefer="wait")).json()

    statuses = [await download(api, made) for _ in range(3)]

    assert statuses == [first, first, 200]


async def test_the_file_host_has_an_outage(
    emulator: Emulator, api: httpx2.AsyncClient, create: Any
) -> None:
    """It does not respond, and recovers completely."""
    made = (await create("[[emu:output_away=60]]", version="a/b", prefer="wait")).json()
    before = await download(api, made)
    emulator.account.clock.advance(61)

    assert (before, await download(api, made)) == (0, 200)


async def test_calm_ends_the_failures_of_files(
    api: httpx2.AsyncClient, emulator: Emulator, create: Any
) -> None:
    """After a storm every file is available."""
    made = (await create("[[emu:output_5xx=9]]", version="a/b", prefer="wait")).json()
    emulator.replan(injecting=False)

    assert await download(api, made) == 200


async def download(api: httpx2.AsyncClient, made: dict[str, Any]) -> int:
    """Fetch a prediction's file, and return the status, or 0 without a response."""
    try:
        return (await api.get(made["output"][0])).status_code
    except httpx2.HTTPError:
        return 0


async def test_a_file_may_be_padded(api: httpx2.AsyncClient, create: Any) -> None:
    """Complete and as long as announced, with bytes after its end; the ledger counts them."""
    made = (await create("[[emu:output_padded=100]]", version="a/b", prefer="wait")).json()

    first, second = [(await api.get(made["output"][0])).content for _ in range(2)]

    assert first == second == render(f"{made['id']}/0", "png") + bytes(100)


async def test_a_file_may_be_compressed(api: httpx2.AsyncClient, create: Any) -> None:
    """Although the client did not accept that."""
    made = (await create("[[emu:file_gzip]]", version="a/b", prefer="wait")).json()

    async with api.stream("GET", made["output"][0]) as response:
        raw = b"".join([chunk async for chunk in response.aiter_raw()])

    assert response.headers["content-encoding"] == "gzip"
    assert gzip.decompress(raw) == render(f"{made['id']}/0", "png")


@pytest.mark.parametrize("name", [*PAGES, "any"])
async def test_an_error_page_may_be_labelled_as_an_image(
    api: httpx2.AsyncClient, create: Any, name: str
) -> None:
    """With status 200, in any language; the next request gets the file."""
    made = (await create(f"[[emu:file_page={name}]]", version="a/b", prefer="wait")).json()

    first, second = [await api.get(made["output"][0]) for _ in range(2)]

    assert (first.status_code, first.headers["content-type"]) == (200, "image/png")
    assert first.content == page(name, second.headers["etag"])
    assert first.content in PAGES.values()
    assert second.content == render(f"{made['id']}/0", "png")


async def test_the_file_host_may_disconnect(api: httpx2.AsyncClient, create: Any) -> None:
    """Once."""
    made = (await create("[[emu:file_drop]]", version="a/b", prefer="wait")).json()

    assert [await download(api, made), await download(api, made)] == [0, 200]


async def test_a_cancel_may_be_falsely_confirmed(
    emulator: Emulator, api: httpx2.AsyncClient, create: Any
) -> None:
    """The response says `canceled`; the prediction runs on, and its end is billed."""
    made = (await create("[[emu:cancel_lied]][[emu:predict=60]]")).json()

    response = (await api.post(made["urls"]["cancel"])).json()["status"]
    shown = (await api.get(made["urls"]["get"])).json()["status"]
    emulator.account.clock.advance(60)

    (row,) = (await api.get("/_emu/ledger")).json()["predictions"]
    assert (response, shown) == ("canceled", "processing")
    assert (row["heading"], row["billed"], row["cancel_lied"]) == ("succeeded", 1, True)


@pytest.mark.parametrize(("fault", "written"), [("none", None), ("garbage", "the day")])
async def test_the_date_may_be_missing_or_invalid(
    create: Any, fault: str, written: str | None
) -> None:
    """Clients must work without it."""
    date = (await create(f"[[emu:answer_date={fault}]]")).headers.get("date")

    assert date is None if written is None else date.startswith(written)


@pytest.mark.parametrize("seconds", [3600, -90000])
async def test_the_date_alone_may_be_wrong(
    emulator: Emulator, api: httpx2.AsyncClient, create: Any, seconds: int
) -> None:
    """Times in the body are right; all responses about it have the same offset."""
    made = await create(f"[[emu:answer_date={seconds}]]")
    again = await api.get(made.json()["urls"]["get"])
    other = await api.get("/v1/account")

    offsets = [
        parsedate_to_datetime(answer.headers["date"]).timestamp() - emulator.account.now()
        for answer in (made, again, other)
    ]

    assert offsets == pytest.approx([seconds, seconds, 0], abs=30)


async def test_responses_may_be_compressed(
    emulator: Emulator, api: httpx2.AsyncClient, create: Any
) -> None:
    """By marker each about this prediction, by rate any; the bodies are complete."""
    made = await create("[[emu:answer_gzip]][[emu:huge_logs=1]]")
    emulator.replan(rates={"answer_gzip": 1})
    listed = await api.get("/v1/predictions")

    assert [answer.headers["content-encoding"] for answer in (made, listed)] == ["gzip", "gzip"]
    assert [row["id"] for row in listed.json()["results"]] == [made.json()["id"]]
    assert len(listed.json()["results"][0]["logs"]) > 1_000_000


@pytest.mark.parametrize("what", ODD)
async def test_a_read_may_be_json_of_another_kind(
    emulator: Emulator, api: httpx2.AsyncClient, create: Any, what: str
) -> None:
    """Neither a prediction nor a list of them."""
    made = (await create(f"[[emu:get_odd={what}]]")).json()
    emulator.replan(rates={"list_odd": 1}, arguments={"list_odd": what})

    answers = [await api.get(made["urls"]["get"]), await api.get("/v1/predictions")]

    assert [(answer.status_code, answer.json()) for answer in answers] == [(200, ODD[what])] * 2


async def test_reads_may_be_cut_within_the_body(
    emulator: Emulator, api: httpx2.AsyncClient, create: Any
) -> None:
    """The status arrives, and half of the JSON."""
    made = (await create("[[emu:get_cut_body]]")).json()
    emulator.replan(rates={"list_cut_body": 1})

    for url in (made["urls"]["get"], "/v1/predictions"):
        with pytest.raises(httpx2.HTTPError):
            await api.get(url)

    assert (await api.get(made["urls"]["get"])).status_code == 200


async def test_a_list_may_be_an_html_page(emulator: Emulator, api: httpx2.AsyncClient) -> None:
    """With status 200."""
    emulator.replan(rates={"list_html": 1})

    response = await api.get("/v1/predictions")

    with pytest.raises(json.JSONDecodeError):
        response.json()


async def test_a_list_may_be_outdated(
    emulator: Emulator, api: httpx2.AsyncClient, create: Any
) -> None:
    """Newer predictions are missing, older ones have their earlier status: all, or one alone."""
    await create("[[emu:predict=100]][[emu:list_stale=50]]")
    await create("[[emu:predict=100]]")

    seen = []
    for seconds, rates in ((0, {}), (120, {}), (0, {"list_stale": 1.0})):
        emulator.replan(rates=rates, arguments={"list_stale": "70"})
        emulator.account.clock.advance(seconds)
        rows = (await api.get("/v1/predictions")).json()["results"]
        seen.append([row["status"] for row in rows])

    assert seen == [
        ["processing"],
        ["succeeded", "processing"],
        ["processing", "processing"],
    ]


@pytest.mark.parametrize(
    ("fault", "recorded", "fate"),
    [("create_then_5xx=502", 1, "lost"), ("create_cut_body", 1, "reset")],
)
async def test_faults_can_be_set_by_rate(
    emulator: Emulator, create: Any, fault: str, recorded: int, fate: str
) -> None:
    """Any fault may occur at random."""
    name, _, argument = fault.partition("=")
    emulator.replan(rates={name: 1}, arguments={name: argument} if argument else {})

    with suppress(httpx2.HTTPError):
        await create()

    assert emulator.totals()["predictions"] == recorded
    assert emulator.totals()["fates"] == {fate: 1}


LIVES = {
    "unseen",
    "vanish",
    "vanish_while",
    "starting_status",
    "end_status",
    "end_late",
    "odd_error",
    "output_404",
    "output_403",
    "output_5xx",
    "output_reset",
    "output_away",
    "output_padded",
}


@pytest.mark.parametrize("fault", sorted(LIVES))
async def test_prediction_faults_can_be_set_by_rate(
    emulator: Emulator, create: Any, fault: str
) -> None:
    """They are drawn once, at the creation, and recorded in the ledger."""
    emulator.replan(rates={fault: 1})

    await create()

    (prediction,) = emulator.account.predictions
    assert set(prediction.traits) == {fault}
