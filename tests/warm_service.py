"""What a service compiles and builds at its first job: done once, before processes are forked."""

import asyncio
import tempfile
from contextlib import chdir
from typing import Final

import httpx2
import uvloop
from structlog.testing import capture_logs

from fleek.app import create_app
from fleek.bootstrap import open_runtime
from fleek.outbound.connections import tls_context
from fleek.settings import Settings
from fleek.store.migrate import upgrade
from fleek.worker import work
from memory import in_memory

DATABASE: Final = "sqlite:///./fleek.db"
JOB: Final = {"prompt": "The first job", "parameters": {"width": 16, "height": 16}}


def warm_up() -> None:
    """Run one job in this process, which has no other thread afterwards, and read the certificates."""
    with (
        capture_logs(),
        tempfile.TemporaryDirectory(dir=in_memory()) as folder,
        chdir(folder),
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        upgrade(DATABASE)
        runner.run(_one_job())


async def _one_job() -> None:
    settings = Settings(database_url=DATABASE, providers=("placeholder",), make_thumbnails=False)
    stop = asyncio.Event()
    async with open_runtime(settings) as rt:
        await rt.clock.set()
        await rt.capacity.look()
        working = asyncio.create_task(work(rt, stop))
        transport = httpx2.ASGITransport(create_app(rt))
        async with httpx2.AsyncClient(
            transport=transport, base_url="http://localhost", verify=tls_context()
        ) as http:
            answer = await http.post("/api/v1/generate", json=JOB, headers={"Prefer": "wait=60"})
            job = answer.json()
            assert job["status"] == "completed", job
            for path in (f"/api/v1/jobs/{job['id']}", "/metrics"):
                assert (await http.get(path)).status_code == 200
        stop.set()
        await working
