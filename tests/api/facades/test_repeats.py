"""What all facades share: repetitions after a lost answer, and errors in another service's form."""

import asyncio
from typing import Annotated, Any

import pytest
from fastapi import Body, FastAPI
from fastapi.requests import Request
from fastapi.responses import JSONResponse, Response

from fleek.api.deps import caller
from fleek.api.errors import Refusal
from fleek.api.facades.repeats import ENTRY, Repeatable, Repeats, create_once
from fleek.api.facades.routes import FacadeRouter
from fleek.api.sse import disconnected
from fleek.app import create_app
from fleek.domain.access import Scope
from fleek.domain.errors import Unreadable
from fleek.domain.job import JobRequest
from fleek.engine.runtime import Runtime

router = FacadeRouter("/vendor/v1", "/vendor")


@router.route("POST", "/make", scope=Scope.JOBS_WRITE)
async def _make(request: Request, body: Annotated[dict[str, Any], Body()]) -> Response:
    wanted = JobRequest(prompt=body["prompt"], tenant_id=caller(request).tenant_id)
    accepted = await create_once(request, wanted)
    return JSONResponse({"id": str(accepted.job.id)}, 201)


@router.route("POST", "/make-and-wait", scope=Scope.JOBS_WRITE)
async def _make_and_wait(request: Request, body: Annotated[dict[str, Any], Body()]) -> Response:
    await create_once(
        request, JobRequest(prompt=body["prompt"], tenant_id=caller(request).tenant_id)
    )
    await disconnected(request.receive)
    raise Unreadable("the caller has gone")


def _form(refusal: Refusal) -> Response:
    return JSONResponse({"oops": refusal.detail}, refusal.status, headers=dict(refusal.headers))


@pytest.fixture
def app(rt: Runtime) -> FastAPI:
    """Return an application with a facade of one route."""
    app = create_app(rt)
    app.router.routes.extend(router.routes)
    app.state.error_forms = {"vendor": _form}
    return app


class Call:
    """One request, whose caller may go at any time."""

    def __init__(self, app: FastAPI, *, body: bytes = b'{"prompt":"x"}', **scope: Any) -> None:
        self._body = [body]
        self._gone = asyncio.Event()
        self._app = app
        self.scope = {
            "type": "http",
            "method": "POST",
            "path": "/vendor/v1/make",
            "query_string": b"",
            "headers": [(b"host", b"localhost"), (b"content-type", b"application/json")],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
            **scope,
        }
        self.sent: list[Any] = []

    def go(self) -> None:
        """Close the connection."""
        self._gone.set()

    async def receive(self) -> dict[str, Any]:
        """Give the body, then wait until the caller has gone."""
        if self._body:
            return {"type": "http.request", "body": self._body.pop()}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        """Take a part of the answer."""
        self.sent.append(message)

    async def answer(self) -> tuple[int, bytes]:
        """Send the request, and return status and body."""
        await self._app(self.scope, self.receive, self.send)
        return self.sent[0]["status"], self.sent[1]["body"]


async def test_two_calls_are_two_jobs(app: FastAPI) -> None:
    """In a row and at once, if their answers were written."""
    first = await Call(app).answer()
    others = await asyncio.gather(*(Call(app).answer() for _ in range(3)))

    assert {status for status, _ in (first, *others)} == {201}
    assert len({first[1], *(body for _, body in others)}) == 4
    assert not len(app.state.repeats)


async def test_a_caller_that_has_gone_makes_no_job(app: FastAPI) -> None:
    """It would be paid for, and its repetition as well."""
    call = Call(app)
    call.go()

    status, _ = await call.answer()
    repeated = await Call(app).answer()

    assert (status, repeated[0]) == (400, 201)
    assert not len(app.state.repeats)


async def test_a_repetition_gets_the_job_whose_answer_was_lost(app: FastAPI) -> None:
    """While that is still being accepted; only the next one, and again if that is lost, too."""
    lost = [Call(app), Call(app)]
    answers = []
    for call in lost:
        answering = asyncio.create_task(call.answer())
        while ENTRY not in call.scope:
            await asyncio.sleep(0)
        call.go()
        answers.append(answering)
    repeated = await Call(app).answer()
    meant = await Call(app).answer()

    first, second = [(await answer)[1] for answer in answers]
    assert first == second == repeated[1]
    assert meant[1] != first


async def test_a_try_that_was_repeated_is_not_repeated_again(app: FastAPI) -> None:
    """It is seen to be lost when its counted retry has its job; the next call is meant as another."""
    counted = [*Call(app).scope["headers"], (b"x-stainless-retry-count", b"1")]
    first = Call(app, path="/vendor/v1/make-and-wait")
    answering = asyncio.create_task(first.answer())
    while ENTRY not in first.scope or not first.scope[ENTRY].job.done():
        await asyncio.sleep(0)
    job = first.scope[ENTRY].job.result()

    retried = await Call(app, headers=counted).answer()
    first.go()
    await answering
    meant = await Call(app).answer()

    assert str(job.id).encode() in retried[1]
    assert meant[1] != retried[1]
    assert not len(app.state.repeats)


async def test_a_counted_retry_gets_the_job_of_its_own_try(app: FastAPI) -> None:
    """Of two equal calls at once, it repeats the one whose answer is lost, not the latest."""
    counted = [*Call(app).scope["headers"], (b"x-stainless-retry-count", b"1")]
    calls = [Call(app, path="/vendor/v1/make-and-wait") for _ in range(2)]
    answering = []
    for call in calls:
        answering.append(asyncio.create_task(call.answer()))
        while ENTRY not in call.scope or not call.scope[ENTRY].job.done():
            await asyncio.sleep(0)
    jobs = [call.scope[ENTRY].job.result() for call in calls]

    calls[0].go()
    retried = await Call(app, headers=counted).answer()
    calls[1].go()
    await asyncio.gather(*answering)

    assert str(jobs[0].id).encode() in retried[1]


@pytest.mark.parametrize(
    ("call", "status", "words"),
    [
        ({"path": "/vendor/nothing"}, 404, b"No such route"),
        ({"path": "/vendor/v1/make", "method": "GET"}, 405, b"does not support"),
        ({"query_string": b"colour=x"}, 422, b"query parameter"),
        ({"body": b"{"}, 400, b"JSON"),
        ({"headers": [(b"host", b"other.test")]}, 400, b"Host"),
    ],
)
async def test_errors_have_the_form_of_the_service(
    app: FastAPI, call: dict[str, Any], status: int, words: bytes
) -> None:
    """Below its prefix, unknown paths included."""
    answered, body = await Call(app, **call).answer()

    assert answered == status
    assert body.startswith(b'{"oops":')
    assert words in body


async def test_a_counted_retry_waits_for_the_try_before_it() -> None:
    """That may be about to be accepted, and not be known to be lost."""
    repeats, request = Repeats(), Request({"type": "http"})
    first, second, other = (Repeatable(request, digest) for digest in (b"1", b"1", b"2"))
    for entry in (other, first, second):
        repeats.add(entry)

    waiting = asyncio.create_task(repeats.decided(second))
    await repeats.decided(first)
    await asyncio.sleep(0)
    is_early = waiting.done()
    first.answered(lost=True)
    await waiting

    assert not is_early
