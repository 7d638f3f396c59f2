"""The ledger and the control API: created predictions are never forgotten."""

import json
from pathlib import Path
from typing import Any

import httpx2
import pytest

from fleek.emulator.app import create_app
from fleek.emulator.callbacks import Callbacks
from fleek.emulator.ledger import Ledger
from fleek.emulator.plan import Plan
from fleek.emulator.server import Emulator, serve

HEADERS = {"authorization": "Bearer r8_test"}
BODY = {"version": "a/b", "input": {"prompt": "a cat"}}


async def test_the_ledger_contains_predictions_and_responses(
    api: httpx2.AsyncClient, create: Any
) -> None:
    """The balance of costs is proved with it."""
    await create("heard")
    with pytest.raises(httpx2.RemoteProtocolError):
        await create("lost [[emu:lost_response]]")

    ledger = (await api.get("/_emu/ledger")).json()

    assert [row["response_fate"] for row in ledger["predictions"]] == ["delivered", "lost"]
    assert ledger["totals"]["billed"] == 2
    assert [row["status"] for row in ledger["requests"]] == [201, None]


async def test_downloads_record_whether_a_token_was_sent(
    emulator: Emulator, api: httpx2.AsyncClient, create: Any
) -> None:
    """The file host must not get one."""
    made = (await create(prefer="wait")).json()

    await api.get(made["output"][0])

    (row,) = emulator.ledger.rows("download")
    assert (row["id"], row["authorization"]) == (made["id"], True)


async def test_the_counts_are_those_of_the_rows(api: httpx2.AsyncClient, create: Any) -> None:
    """Whoever waits for the end of a load asks often, and a long ledger takes long to read."""
    made = (await create(prefer="wait")).json()
    await api.get(made["output"][0])

    counts = (await api.get("/_emu/counts")).json()

    rows = (await api.get("/_emu/ledger")).json()["totals"]["rows"]
    assert counts == rows
    assert (counts["request"], counts["download"]) == (1, 1)


async def test_the_ledger_survives_a_kill(tmp_path: Path) -> None:
    """Rows are written before the response; an incomplete last line is skipped."""
    path = tmp_path / "ledger.jsonl"
    plan = Plan(queue_seconds=0, predict_seconds=60)
    async with (
        serve(plan, ledger=path) as first,
        httpx2.AsyncClient(headers=HEADERS, timeout=60) as api,
    ):
        made = [(await api.post(f"{first.api_url}/predictions", json=BODY)).json() for _ in "ab"]
        await api.post(made[0]["urls"]["cancel"])
        torn = tmp_path / "torn.jsonl"
        torn.write_text(path.read_text() + '{"row":"predi')  # as the kernel sees it now

    async with (
        serve(plan, ledger=torn) as second,
        httpx2.AsyncClient(headers=HEADERS, timeout=60) as api,
    ):
        again = await api.post(f"{second.api_url}/predictions", json=BODY)
        statuses = [
            (await api.get(f"{second.api_url}/predictions/{row['id']}")).json()["status"]
            for row in (*made, again.json())
        ]

    assert statuses == ["canceled", "processing", "processing"]
    assert [json.loads(line)["row"] for line in torn.read_text().splitlines()[-2:]] == [
        "request",
        "request",
    ]


def test_a_reset_is_a_row_too(tmp_path: Path) -> None:
    """The file is append-only."""
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.add("request", seq=1)
    ledger.forget()
    ledger.add("request", seq=2)
    ledger.close()

    again = Ledger(tmp_path / "ledger.jsonl")

    assert list(again.replay()) == [{"row": "request", "seq": 2}]
    assert len((tmp_path / "ledger.jsonl").read_text().splitlines()) == 3
    again.close()


async def test_quiesce_ends_everything_and_stops_the_faults(
    emulator: Emulator, api: httpx2.AsyncClient, create: Any
) -> None:
    """Afterwards a checker may count."""
    emulator.replan(rates={"create_5xx": 1}, models={"a/b": {"create_5xx": 0}})
    await create("[[emu:stuck_starting]]", version="a/b")

    totals = (await api.post("/_emu/quiesce")).json()

    assert totals["running"] == 0
    assert (await create("[[emu:create_402]]")).status_code == 201


async def test_release_ends_a_prediction(api: httpx2.AsyncClient, create: Any) -> None:
    """Tests choose the moment."""
    made = (await create("[[emu:stuck_processing]]")).json()

    released = (await api.post(f"/_emu/release/{made['id']}")).json()

    assert released["status"] == "succeeded"
    assert (await api.post("/_emu/release/nothing")).status_code == 404


async def test_the_clock_may_be_advanced(api: httpx2.AsyncClient, create: Any) -> None:
    """An hour passes at once: files expire, and data is removed."""
    made = (await create(prefer="wait")).json()

    await api.post("/_emu/clock/advance", json={"seconds": 3601})

    assert (await api.get(made["urls"]["get"])).json()["data_removed"] is True
    assert (await api.get(made["output"][0])).status_code == 404


async def test_reset_clears_the_state(api: httpx2.AsyncClient, create: Any) -> None:
    """With another seed if one is given."""
    await create()

    response = await api.post("/_emu/reset", params={"seed": 7})

    ledger = (await api.get("/_emu/ledger", params={"rows": "predictions"})).json()
    assert response.json() == {"seed": 7}
    assert (ledger["predictions"], "requests" in ledger) == ([], False)


async def test_a_plan_is_put_or_patched(api: httpx2.AsyncClient) -> None:
    """PUT replaces all of it but the seed, PATCH the given parts."""
    await api.put("/_emu/plan", json={"seed": 3, "rates": {"lost_response": 0.5}})

    patched = (await api.patch("/_emu/plan", json={"queue_seconds": [1, 2]})).json()
    replaced = (await api.put("/_emu/plan", json={})).json()

    assert patched["rates"] == {"create_then_drop": 0.5}
    assert patched["queue_seconds"] == [1, 2]
    assert (replaced["seed"], replaced["rates"]) == (3, {})
    assert (await api.get("/_emu/plan")).json() == replaced


@pytest.mark.parametrize("plan", [{"rates": {"nonsense": 1}}, {"rates": {"get_404": 2}}, {"x": 1}])
async def test_an_invalid_plan_is_refused(api: httpx2.AsyncClient, plan: dict[str, Any]) -> None:
    """A misspelt fault would prove nothing."""
    response = await api.put("/_emu/plan", json=plan)

    assert response.status_code == 422


async def test_the_catalogue_lists_every_fault(api: httpx2.AsyncClient) -> None:
    """With one sentence each."""
    catalogue = (await api.get("/_emu/catalogue")).json()

    assert {"create_then_drop", "file_gzip_bomb", "hook_replay"} < {
        row["name"] for row in catalogue
    }
    assert all(row["what"] for row in catalogue)


async def test_the_same_seed_strikes_the_same_requests(
    api: httpx2.AsyncClient, create: Any
) -> None:
    """A failing run can be repeated, whatever was read in between."""
    plan = {"seed": 11, "rates": {"create_5xx": 0.3, "get_5xx": 0.5}, "queue_seconds": 0}
    await api.put("/_emu/plan", json=plan)
    first = [(await create()).status_code for _ in range(40)]
    await api.post("/_emu/reset", params={"seed": 11})

    second = []
    for _ in range(40):
        second.append((await create()).status_code)
        await api.get("/v1/predictions/nothing")

    assert first == second
    assert set(first) == {201, 503}


async def test_models_have_separate_rates(emulator: Emulator, create: Any) -> None:
    """One model may be broken while others work."""
    emulator.replan(models={"a/broken": {"create_5xx": 1}})

    statuses = [(await create(version=name)).status_code for name in ("a/broken", "a/fine")]

    assert statuses == [503, 201]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("clock/advance", b"soon"),
        ("clock/advance", b"[]"),
        ("clock/advance", b"{}"),
        ("reset?seed=x", b""),
    ],
)
async def test_control_api_errors_give_the_reason(
    api: httpx2.AsyncClient, path: str, body: bytes
) -> None:
    """400, and nothing changes."""
    response = await api.post(f"/_emu/{path}", content=body)

    assert response.status_code == 400


async def test_the_control_api_is_for_this_machine_only(emulator: Emulator) -> None:
    """Whatever address the emulator listens on."""
    app = create_app(emulator.account, Callbacks(emulator.account))
    transport = httpx2.ASGITransport(app, client=("192.0.2.1", 1234))

    async with httpx2.AsyncClient(transport=transport, base_url="http://x") as stranger:
        response = await stranger.get("/_emu/ledger")

    assert response.status_code == 403


async def test_a_request_for_an_expired_file_is_recorded(
    emulator: Emulator, api: httpx2.AsyncClient
) -> None:
    """With its prediction, and whether a token was sent."""
    await api.get("/out/nothing/0.png")

    (row,) = emulator.ledger.rows("download")
    assert (row["status"], row["sha256"], row["authorization"]) == (404, None, True)
