"""The control API serves local programs, and no web pages in a browser."""

import httpx2
import pytest

from fleek.emulator.server import Emulator


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example"]
)
@pytest.mark.parametrize("call", ["GET /_emu/ledger", "POST /_emu/reset", "PATCH /_emu/plan"])
async def test_a_foreign_host_name_is_refused(
    api: httpx2.AsyncClient, call: str, host: str
) -> None:
    """A page could resolve its own name to this address, then read and change everything."""
    method, path = call.split()

    answer = await api.request(method, path, headers={"host": host})

    assert answer.status_code == 400


async def test_a_form_of_another_site_changes_nothing(api: httpx2.AsyncClient) -> None:
    """Browsers send forms anywhere, with their origin."""
    answer = await api.post("/_emu/reset", headers={"origin": "https://evil.example"})

    assert answer.status_code == 403


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:1", "[::1]:9009", "LOCALHOST"])
async def test_local_host_names_are_accepted(
    emulator: Emulator, api: httpx2.AsyncClient, host: str
) -> None:
    """With any port, because a tunnel may change it."""
    answer = await api.get("/_emu/ledger", headers={"host": host})

    assert answer.json()["seed"] == emulator.account.plan.seed


@pytest.mark.parametrize("given", ["x", "nan", "inf", "-inf", "1e308"])
@pytest.mark.parametrize("path", ["/_emu/reset?seed=", "/_emu/clock/advance?seconds="])
async def test_an_invalid_number_is_refused(
    api: httpx2.AsyncClient, path: str, given: str
) -> None:
    """The clock stays valid."""
    answer = await api.post(f"{path}{given}")

    assert answer.status_code == 400


async def test_deeply_nested_json_is_refused(api: httpx2.AsyncClient) -> None:
    """Like any other unreadable body."""
    answer = await api.patch("/_emu/plan", content=b"[" * 100_000)

    assert answer.status_code == 400
