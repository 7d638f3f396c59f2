"""The examples on the page about webhooks verify real deliveries."""

import asyncio
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest

from backing_services import free_port
from examples import FENCE, ROOT
from fleek.engine.signing import headers, new_secret
from fleek.schemas import Addresses
from fleek.schemas.events import EventPresenter
from samples import a_job
from service_process import PATIENCE

PAGE: Final = ROOT / "docs/how-to/receive-webhooks.md"
PACKAGES: Final = {"express": "5.3.0", "standardwebhooks": "1.1.1"}


def shown(language: str) -> str:
    """Return the only example in a language."""
    (text,) = (text for name, text in FENCE.findall(PAGE.read_text()) if name == language)
    return str(text)


def a_webhook(secret: str) -> tuple[Mapping[str, str], bytes]:
    """Return headers and body of a webhook sent now."""
    presenter = EventPresenter(Addresses("http://fleek.test", "http://fleek.test/media"))
    body = presenter.body("cancelled", a_job(prompt="Ein Fahrrad für die Katze"), ())
    return headers("msg_1", body, [secret], now=datetime.now(UTC)), body


async def verdicts(client: httpx2.AsyncClient, secret: str) -> list[int]:
    """Send a webhook unchanged, with another body, and with another signature."""
    sent, body = a_webhook(secret)
    forged, _ = a_webhook(new_secret())
    answers = [
        await client.post("/hooks/fleek", content=content, headers=signed)
        for signed, content in [(sent, body), (sent, body + b" "), (forged, body)]
    ]
    return [answer.status_code for answer in answers]


async def test_the_receiver_in_python_verifies(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It verifies the bytes as received."""
    secret = new_secret()
    monkeypatch.setenv("FLEEK_WEBHOOK_SECRET", secret)
    module: dict[str, Any] = {}
    exec(compile(shown("python"), str(PAGE), "exec"), module)  # noqa: S102 - an example of the project
    transport = httpx2.ASGITransport(module["app"])

    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        found = await verdicts(client, secret)

    assert found == [200, 400, 400]
    assert capsys.readouterr().out == "msg_1 job.cancelled pending\n"


@pytest.mark.node
async def test_the_receiver_in_node_verifies(tmp_path: Path) -> None:
    """It uses the packages that the page names."""
    secret, port = new_secret(), free_port()
    package = {"type": "module", "private": True, "dependencies": PACKAGES}
    (tmp_path / "package.json").write_text(json.dumps(package))
    (tmp_path / "receive.js").write_text(re.sub(r"listen\(3000", f"listen({port}", shown("js")))
    install = ["npm", "install", "--silent", "--no-package-lock", "--no-audit", "--no-fund"]
    installing = await asyncio.create_subprocess_exec(*install, cwd=tmp_path)
    assert await installing.wait() == 0
    environment = {"PATH": "/usr/bin:/bin:/usr/local/bin", "FLEEK_WEBHOOK_SECRET": secret}
    process = await asyncio.create_subprocess_exec(
        *("node", "receive.js"),
        cwd=tmp_path,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(PATIENCE):
            assert b"listening" in await process.stdout.readline()
            async with httpx2.AsyncClient(
                base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE
            ) as client:
                found = await verdicts(client, secret)
            logged = await process.stdout.readline()
    finally:
        process.kill()
        await process.wait()

    assert found == [204, 400, 400]
    assert logged == b"msg_1 job.cancelled pending\n"
