"""One look tells which loops have work; the others sleep."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any, Final

import pytest
from sqlalchemy import event, text

from backing_services import both_databases
from fakes import a_request
from fleek.domain.errors import DatabaseUnavailable
from fleek.domain.job import Job, JobWebhook
from fleek.engine.bulk import accept
from fleek.engine.cancel import cancel
from fleek.engine.loops import loop
from fleek.engine.outlook import KINDS, PACE, QUIET, Outlook
from fleek.engine.runtime import Runtime
from fleek.engine.start import start
from fleek.engine.submit import submit
from fleek.engine.uploads import remove_upload
from fleek.store import outlook, uploads
from fleek.store.bulk import BulkAction
from samples import an_upload

SECOND: Final = timedelta(seconds=1)
WEBHOOK: Final = JobWebhook("https://receiver.example/", ("job.created",))


async def _pending(rt: Runtime) -> None:
    await submit(rt, a_request())


async def _bound(rt: Runtime) -> Job:
    job = await submit(rt, a_request())
    await start(rt, job.id)
    return job


async def _collecting(rt: Runtime) -> None:
    await _bound(rt)
    await _write(rt, "UPDATE jobs SET stage = 'collecting', worker_id = NULL")
    await _write(rt, "UPDATE attempts SET verdict = 'succeeded'")


async def _held(rt: Runtime) -> None:
    await _collecting(rt)
    await _write(rt, "UPDATE jobs SET worker_id = (SELECT id FROM workers)")


async def _routed(rt: Runtime) -> None:
    await submit(rt, a_request())
    await _write(rt, "UPDATE jobs SET routing = '{}'")


async def _linked(rt: Runtime) -> None:
    job = await submit(rt, a_request())
    await _write(
        rt,
        "INSERT INTO job_inputs (job_id, number, source_id, waiting)"
        " SELECT id, 0, id, true FROM jobs",
    )
    await _ended(rt, job)


async def _owed(rt: Runtime) -> None:
    await _ended(rt, await submit(rt, a_request(webhook=WEBHOOK)))


async def _bulk(rt: Runtime) -> None:
    await accept(rt, BulkAction.CANCEL, tenant_id="default", ids=[])


async def _purging(rt: Runtime) -> None:
    await _ended(rt, await submit(rt, a_request()))
    await _write(rt, "UPDATE jobs SET purging = true")


async def _removing(rt: Runtime) -> None:
    upload = await uploads.claim(rt.db, an_upload())
    await uploads.mark_stored(rt.db, upload.id)
    await remove_upload(rt, upload.id, tenant_id="default")


async def _ended(rt: Runtime, job: Job) -> None:
    await cancel(rt, job.id, tenant_id="default")


async def _write(rt: Runtime, statement: str) -> None:
    async with rt.db.write() as tx:
        await tx.execute(text(statement))


CASES: Final[Mapping[str, tuple[Callable[[Runtime], Awaitable[Any]], set[str]]]] = {
    "pending": (_pending, {"admit"}),
    "collecting": (_collecting, {"admit"}),
    "held": (_held, {"watch"}),
    "bound": (_bound, {"watch"}),
    "routed": (_routed, {"admit", "failover"}),
    "linked": (_linked, {"chain"}),
    "owed": (_owed, {"deliver"}),
    "bulk": (_bulk, {"bulk"}),
    "purging": (_purging, {"expire"}),
    "removing": (_removing, {"expire"}),
}


def woken(found: Outlook) -> set[str]:
    """Return the loops that keep their own pace."""
    return {topic for topic in KINDS if found.rest(topic, SECOND) == SECOND}


@both_databases
@pytest.mark.parametrize("kind", CASES)
async def test_what_waits_keeps_its_loop_awake(rt: Runtime, kind: str) -> None:
    """And no other loop."""
    make, expected = CASES[kind]
    await make(rt)
    look = Outlook(rt)

    await look.turn()

    assert woken(look) == expected


def test_every_kind_of_row_has_a_loop_and_a_case() -> None:
    """A kind that no loop asks for would be looked for in vain."""
    assert set().union(*KINDS.values()) == set(outlook.FIRST) == set(CASES)


async def test_a_quiet_service_asks_one_statement_for_all_loops(rt: Runtime) -> None:
    """Sixteen statements a second cost 2 % of a core."""
    asked: list[str] = []

    def note(_: Any, __: Any, statement: str, *_others: Any) -> None:
        asked.append(statement)

    look = Outlook(rt)
    event.listen(rt.db._reader, "before_cursor_execute", note)
    waits = {await look.turn() for _ in range(3)}
    event.remove(rt.db._reader, "before_cursor_execute", note)

    assert (len(asked), waits) == (3, {PACE})
    assert {look.rest(topic, SECOND) for topic in KINDS} == {QUIET}
    assert look.rest("recover", SECOND) == SECOND  # not among those that it knows
    assert look.rest("admit", SECOND / 10) == SECOND / 10  # has more to do


async def test_what_another_process_writes_wakes_a_sleeping_loop(rt: Runtime) -> None:
    """No notification of this process tells of it."""
    look, turns = Outlook(rt), asyncio.Semaphore(0)
    await look.turn()

    async def turn() -> timedelta:
        turns.release()
        return SECOND

    running = asyncio.create_task(
        loop(rt, "chain", turn, patience=SECOND, rest=lambda *asked: look.rest(*asked) * 100)
    )
    await turns.acquire()
    await _linked(rt)

    await look.turn()
    async with asyncio.timeout(30):
        await turns.acquire()

    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_loops_keep_their_pace_if_nothing_is_known(
    rt: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the first look, and after one that failed."""
    look = Outlook(rt)
    before = woken(look)
    await look.turn()

    async def away(*_: object) -> None:
        raise DatabaseUnavailable("no answer")

    monkeypatch.setattr(outlook, "waiting_kinds", away)
    with pytest.raises(DatabaseUnavailable):
        await look.turn()

    assert before == woken(look) == set(KINDS)


async def test_a_look_that_fails_loses_no_wakeup(
    rt: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loop that has slept since before it is woken by the next one."""
    look = Outlook(rt)
    await look.turn()

    async def away(*_: object) -> None:
        raise DatabaseUnavailable("no answer")

    with monkeypatch.context() as patched:
        patched.setattr(outlook, "waiting_kinds", away)
        with pytest.raises(DatabaseUnavailable):
            await look.turn()
    await _linked(rt)
    notified: list[str] = []
    monkeypatch.setattr(rt.wakeups, "notify", notified.append)

    await look.turn()

    assert "chain" in notified


async def test_an_ended_job_lets_all_loops_sleep(rt: Runtime) -> None:
    """However many there are."""
    job = await _bound(rt)
    await _ended(rt, job)
    await _write(rt, "UPDATE attempts SET verdict = 'cancelled'")
    look = Outlook(rt)

    await look.turn()

    assert woken(look) == set()
