"""The control API is for programs on this machine, and not for web pages that a browser shows."""

import httpx2
import pytest

from fleek.emulator.server import Emulator


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example"]
)
@pytest.mark.parametrize("call", ["GET /_emu/ledger", "POST /_emu/reset", "PATCH /_emu/plan"])
async def test_another_name_that_leads_here_is_refused(
    api: httpx2.AsyncClient, call: str, host: str
) -> None:
    """A page can give its own name our address, and then read and change everything."""
    method, path = call.split()

    answer = await api.request(method, path, headers={"host": host})

    assert answer.status_code == 400


async def test_a_form_of_another_site_changes_nothing(api: httpx2.AsyncClient) -> None:
    """A browser sends forms anywhere, and says from where."""
    answer = await api.post("/_emu/reset", headers={"origin": "https://evil.example"})

    assert answer.status_code == 403


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:1", "[::1]:9009", "LOCALHOST"])
async def test_names_of_this_machine_are_answered(
    emulator: Emulator, api: httpx2.AsyncClient, host: str
) -> None:
    """Whatever the port, which a tunnel may change."""
    answer = await api.get("/_emu/ledger", headers={"host": host})

    assert answer.json()["seed"] == emulator.account.plan.seed


@pytest.mark.parametrize("given", ["x", "nan", "inf", "-inf", "1e308"])
@pytest.mark.parametrize("path", ["/_emu/reset?seed=", "/_emu/clock/advance?seconds="])
async def test_what_is_no_number_is_refused(
    api: httpx2.AsyncClient, path: str, given: str
) -> None:
    """And the clock stays one."""
    answer = await api.post(f"{path}{given}")

    assert answer.status_code == 400


async def test_what_is_nested_without_end_is_refused(api: httpx2.AsyncClient) -> None:
    """As any other body that cannot be read."""
    answer = await api.patch("/_emu/plan", content=b"[" * 100_000)

    assert answer.status_code == 400
