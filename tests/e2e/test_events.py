"""The stream of a tenant's events is complete, whichever process serves it and is killed."""

import asyncio
from contextlib import suppress
from typing import Final
from uuid import UUID

from backing_services import free_port
from event_reader import EventReader, Received
from fleek.schemas.events import PUBLIC
from service_process import SMALL, Process, Service

JOBS: Final = 30
BROKEN: Final = (OSError, asyncio.IncompleteReadError, ValueError)  # the process was killed


async def test_a_reader_misses_no_event_after_any_kill(on_postgres: Service) -> None:
    """Two API processes and a worker; each is killed, and the other one continues the stream."""
    service, ports = on_postgres, [on_postgres.port, free_port()]
    apis = [await serve(service, port) for port in ports]
    worker = await asyncio.to_thread(service.worker)
    async with EventReader(ports[0], "/api/v1/events") as stream:
        (hello,) = await stream.until("hello")
    received: list[Received] = []
    following = asyncio.create_task(follow(ports, hello.id, received))
    accepted = await asyncio.to_thread(service.submit_many, JOBS, parameters=SMALL)

    for number in (0, 1):
        while len(received) < JOBS * (number + 1):
            await asyncio.sleep(0.02)
        await asyncio.to_thread(apis[number].kill)
        apis[number] = await serve(service, ports[number])
    await asyncio.to_thread(worker.kill)
    await asyncio.to_thread(service.worker)
    await following

    for job_id in accepted:
        seen = [(one.data["seq"], one.type) for one in received if one.data["id"] == job_id]
        assert seen == history(service, job_id)


async def serve(service: Service, port: int) -> Process:
    """Start an API process without a worker on this port."""

    def started() -> Process:
        process = service.start("serve", "--no-worker", API_PORT=str(port))
        process.await_line("is ready")
        return process

    return await asyncio.to_thread(started)


async def follow(ports: list[int], last: str | None, found: list[Received]) -> None:
    """Collect the events of all jobs until they have completed, from any running process."""
    tries = 0
    while sum(one.type == "job.completed" for one in found) < JOBS:
        tries += 1
        with suppress(*BROKEN):
            async with EventReader(ports[tries % 2], "/api/v1/events", last=last) as stream:
                await stream.until("hello")
                while (one := await stream.next()) is not None:
                    last = one.id
                    found.append(one)
                    if len(found) % 40 == 0:
                        break  # of its own accord, too
        await asyncio.sleep(0.02)


def history(service: Service, job_id: str) -> list[tuple[int, str]]:
    """Return the public events of a job as they are stored."""
    known = UUID(job_id)  # a statement of this test
    lines = service.rows(f"SELECT seq, type FROM events WHERE job_id = '{known}' ORDER BY seq")  # noqa: S608 - a UUID
    return [(seq, str(PUBLIC[line])) for seq, line in lines if line in PUBLIC]
