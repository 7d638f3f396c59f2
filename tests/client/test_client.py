"""Requests and results of `Client` and `AsyncClient`."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest

from fleek import (
    AsyncClient,
    Client,
    ConfigurationError,
    Conflict,
    Forbidden,
    Gone,
    InvalidInput,
    JobFailed,
    NotFound,
    RequestError,
    ResponseLost,
    ServerBusy,
    ServerError,
    ServerUnreachable,
    TooLarge,
    TooMany,
    Unauthorized,
    Unreadable,
    Unsupported,
    WaitTimeout,
)
from fleek.client import RetryPolicy, exchange, wire
from fleek.client.retry_policy import WaitDeadline
from fleek.domain.errors import FieldError
from fleek.domain.job import Status

Maker = Callable[..., dict[str, Any]]
JOB = "0198f000-0000-7000-8000-000000000001"
REFUSED = httpx2.ConnectError("refused")
CUT = httpx2.ReadError("cut")


def problem(status: int, headers: dict[str, str] | None = None, **body: Any) -> httpx2.Response:
    """Return a problem as Fleek sends it."""
    content = json.dumps({"title": "No", "detail": "no, thanks", "code": "why", **body})
    kind = {"content-type": "application/problem+json"}
    return httpx2.Response(status, content=content, headers={**kind, **(headers or {})})


def test_submit_omits_what_is_not_given(client: Client, server: Any, a_job: Maker) -> None:
    """None means the server's default."""
    server.script = [httpx2.Response(201, json=a_job())]

    job = client.submit("a cat", model="fleek/art", parameters={"width": 64}, priority=9)

    assert str(job.id) == JOB
    assert server.requests[0].url == "http://fleek.test/api/v1/generate"
    assert json.loads(server.requests[0].content) == {
        "prompt": "a cat",
        "model_name": "fleek/art",
        "parameters": {"width": 64},
        "priority": 9,
    }
    assert server.requests[0].headers["authorization"] == "Bearer secret"


def test_a_time_is_sent_with_its_zone(client: Client, server: Any, a_job: Maker) -> None:
    """The server accepts only aware times."""
    server.script = [httpx2.Response(201, json=a_job())]

    client.submit("a cat", run_at=datetime(2026, 1, 2, tzinfo=UTC))

    assert json.loads(server.requests[0].content)["run_at"] == "2026-01-02T00:00:00+00:00"


@pytest.mark.parametrize("value", [float("nan"), object(), {1, 2}])
def test_values_without_a_json_form_are_not_sent(
    client: Client, server: Any, value: object
) -> None:
    """NaN is not JSON; the server would refuse it."""
    with pytest.raises(InvalidInput):
        client.submit("a cat", parameters={"x": value})

    assert server.requests == []


def test_a_refusal_raises_the_engine_s_error(
    client: Client, server: Any, subtests: pytest.Subtests
) -> None:
    """Callers catch by class and compare codes."""
    for status, kind in [
        (400, Unreadable),
        (401, Unauthorized),
        (403, Forbidden),
        (404, NotFound),
        (405, RequestError),
        (409, Conflict),
        (410, Gone),
        (413, TooLarge),
        (415, Unsupported),
        (422, InvalidInput),
        (500, ServerError),
    ]:
        with subtests.test(status=str(status)[:40], kind=str(kind)[:40]):
            server.script = [problem(status)]

            with pytest.raises(kind) as caught:
                client.status(JOB)

            assert type(caught.value) is kind
            assert str(caught.value).startswith("no, thanks")
            assert caught.value.code == "why"


def test_invalid_input_names_the_fields(client: Client, server: Any) -> None:
    """A form can show each error at its field."""
    fault = {
        "location": "query",
        "pointer": "/parameters/width",
        "code": "maximum",
        "detail": "at most 4096",
    }
    server.script = [problem(422, errors=[fault, "nonsense"])]

    with pytest.raises(InvalidInput) as caught:
        client.submit("a cat")

    assert caught.value.errors == (
        FieldError("/parameters/width", "maximum", "at most 4096", location="query"),
    )


@pytest.mark.parametrize(
    "first",
    [REFUSED, CUT, problem(503, {"retry-after": "0"}), problem(429, {"retry-after": "0"})],
    ids=["refused", "cut", "503", "429"],
)
def test_reads_are_retried(
    client: Client, server: Any, a_job: Maker, first: httpx2.Response | Exception
) -> None:
    """A script that only reads does not fail when the server restarts."""
    server.script = [first, httpx2.Response(200, json=a_job())]

    job = client.status(JOB)

    assert job.status is Status.PENDING
    assert len(server.requests) == 2


def test_retries_are_limited(client: Client, server: Any) -> None:
    """After three attempts the caller decides."""
    server.script = [REFUSED] * 4

    with pytest.raises(ServerUnreachable, match=r"http://fleek\.test"):
        client.status(JOB)

    assert len(server.requests) == 3


@pytest.mark.parametrize("seconds", ["60", "99999999999999999999"])
def test_a_long_retry_after_is_raised(client: Client, server: Any, seconds: str) -> None:
    """A client does not sleep for a minute without its caller's consent."""
    server.script = [problem(503, {"retry-after": seconds})]

    with pytest.raises(ServerBusy) as caught:
        client.status(JOB)

    assert caught.value.retry_after is not None
    assert caught.value.retry_after >= timedelta(minutes=1)


@pytest.mark.parametrize(
    "fault",
    [REFUSED, CUT, problem(503, {"retry-after": "0"}), problem(429, {"retry-after": "0"})],
    ids=["refused", "cut", "503", "429"],
)
@pytest.mark.parametrize("call", ["submit", "retry"])
def test_a_repeated_creation_has_the_same_key(
    client: Client, server: Any, a_job: Maker, call: str, fault: httpx2.Response | Exception
) -> None:
    """The first request may have been accepted: one key is one job. Each call has its own key."""
    accepted = httpx2.Response(201, json=a_job())
    server.script = [fault, fault, accepted, accepted]

    jobs = [getattr(client, call)(JOB) for _ in range(2)]

    *keys, other = [request.headers["idempotency-key"] for request in server.requests]
    assert {str(job.id) for job in jobs} == {JOB}
    assert len(set(keys)) == 1
    assert other != keys[0]
    assert len({request.content for request in server.requests}) == 1


@pytest.mark.parametrize("call", ["submit", "retry"])
def test_a_caller_may_choose_the_key(client: Client, server: Any, a_job: Maker, call: str) -> None:
    """A restarted script creates no second job."""
    server.script = [httpx2.Response(201, json=a_job())]

    getattr(client, call)(JOB, idempotency_key="order-17")

    assert server.requests[0].headers["idempotency-key"] == "order-17"


@pytest.mark.parametrize("key", ["", "order 17", "k" * 256, "é", "a\nb"])
def test_an_invalid_key_is_not_sent(client: Client, server: Any, key: str) -> None:
    """The server would refuse it, or the transport fail."""
    with pytest.raises(InvalidInput, match="idempotency_key"):
        client.submit("a cat", idempotency_key=key)

    assert server.requests == []


def test_only_creations_have_a_key(client: Client, server: Any, a_job: Maker) -> None:
    """The server refuses it elsewhere."""
    server.script = [httpx2.Response(200, json=a_job())]

    client.collect(JOB)

    assert "idempotency-key" not in server.requests[0].headers


@pytest.mark.parametrize(
    "answer",
    [
        httpx2.Response(200, html="<h1>Welcome to nginx</h1>"),
        httpx2.Response(404, html="<h1>Not found</h1>"),
        httpx2.Response(200, content=b"{", headers={"content-type": "application/json"}),
        httpx2.Response(200, content=b"[" * 100_000, headers={"content-type": "application/json"}),
        httpx2.Response(200, json={"id": "7"}),
        httpx2.Response(200, json=[]),
        httpx2.Response(302, headers={"location": "http://evil.test/"}),
        httpx2.Response(204),
    ],
    ids=["html", "html 404", "broken", "deep", "foreign", "list", "redirect", "empty"],
)
def test_a_foreign_response_is_a_server_error(
    client: Client, server: Any, answer: httpx2.Response
) -> None:
    """A wrong URL must not look like a missing job."""
    server.script = [answer]

    with pytest.raises(ServerError):
        client.status(JOB)

    assert len(server.requests) == 1


def test_a_response_is_limited_in_size(client: Client, server: Any) -> None:
    """A hostile server must not fill the client's memory."""
    endless = b"[" + b" " * wire.MAX_ANSWER_BYTES
    kind = {"content-type": "application/json"}
    server.script = [httpx2.Response(200, content=endless, headers=kind)]

    with pytest.raises(ServerError, match="more than 33554432 bytes"):
        client.status(JOB)


@pytest.mark.parametrize("job_id", ["../models", "7", "", "0198f000"])
def test_a_job_id_is_checked_before_it_is_sent(client: Client, server: Any, job_id: str) -> None:
    """Otherwise it could name another route."""
    with pytest.raises(InvalidInput):
        client.status(job_id)

    assert server.requests == []


def test_a_model_name_is_checked_before_it_is_sent(client: Client, server: Any) -> None:
    """Otherwise it could name another route."""
    with pytest.raises(InvalidInput):
        client.model("../../jobs")

    assert server.requests == []


def test_jobs_follows_the_pages(client: Client, server: Any, a_job: Maker) -> None:
    """Only the cursor of the link is used, so that no page is read from another host."""
    link = {"link": '<http://evil.test/jobs?cursor=abc>; rel="next"'}
    server.script = [
        httpx2.Response(200, json=[a_job()], headers=link),
        httpx2.Response(200, json=[a_job()]),
    ]

    jobs = list(client.jobs(Status.FAILED))

    assert len(jobs) == 2
    assert [request.url.host for request in server.requests] == ["fleek.test"] * 2
    assert server.requests[0].url.params["status_filter"] == "failed"
    assert server.requests[1].url.params["cursor"] == "abc"


def test_an_empty_page_is_not_the_last(client: Client, server: Any, a_job: Maker) -> None:
    """With several filters the server reads some jobs at a time, and returns a cursor."""
    link = {"link": '<http://fleek.test/jobs?cursor=abc>; rel="next"'}
    server.script = [
        httpx2.Response(200, json=[], headers=link),
        httpx2.Response(200, json=[a_job()]),
    ]

    jobs = list(client.jobs(tag="sea", favourite=True, q="cat"))

    assert len(jobs) == 1
    query = server.requests[0].url.params
    assert (query["tag"], query["favourite"], query["q"]) == ("sea", "true", "cat")


def test_jobs_stops_at_the_limit(client: Client, server: Any, a_job: Maker) -> None:
    """`limit` counts jobs, not pages; no more are requested than needed."""
    link = {"link": '<http://fleek.test/jobs?cursor=abc>; rel="next"'}
    server.script = [
        httpx2.Response(200, json=[a_job()] * 100, headers=link),
        httpx2.Response(200, json=[a_job()] * 50, headers=link),
    ]

    jobs = list(client.jobs(limit=150))

    assert len(jobs) == 150
    assert [request.url.params["limit"] for request in server.requests] == ["100", "50"]


def test_jobs_refuses_a_response_that_is_not_a_list(client: Client, server: Any) -> None:
    """An object is not a page."""
    server.script = [httpx2.Response(200, json={})]

    with pytest.raises(ServerError):
        list(client.jobs())


def test_cancel_is_retried(client: Client, server: Any, a_job: Maker) -> None:
    """It is idempotent."""
    answer = {"message": "cancelled", "job": a_job("cancelled")}
    server.script = [CUT, httpx2.Response(200, json=answer)]

    job = client.cancel(JOB)

    assert job.status is Status.CANCELLED
    assert server.requests[1].url.path == f"/api/v1/jobs/{JOB}/cancel"


def test_purge_is_retried(client: Client, server: Any, a_job: Maker) -> None:
    """It is idempotent."""
    gone = a_job("completed", purged_at="2026-01-02T03:04:05Z")
    server.script = [CUT, httpx2.Response(200, json={"message": "Job purged", "job": gone})]

    job = client.purge(JOB)

    assert job.purged_at is not None
    assert server.requests[1].method == "DELETE"
    assert str(server.requests[1].url).endswith(f"/api/v1/jobs/{JOB}?purge=true")


def test_retry_returns_the_new_job(client: Client, server: Any, a_job: Maker) -> None:
    """The old one keeps its status."""
    server.script = [httpx2.Response(201, json=a_job())]

    job = client.retry(JOB)

    assert job.status is Status.PENDING


def test_collect_is_retried(client: Client, server: Any, a_job: Maker) -> None:
    """It is idempotent."""
    server.script = [CUT, httpx2.Response(200, json=a_job("processing"))]

    job = client.collect(JOB)

    assert job.status is Status.PROCESSING
    assert str(server.requests[1].url).endswith(f"/api/v1/jobs/{JOB}/collect")


def test_wait_returns_the_completed_job(client: Client, server: Any, a_job: Maker) -> None:
    """Every state is passed to `on_update`, the last one too."""
    server.script = [
        httpx2.Response(200, json=a_job(status))
        for status in ("pending", "processing", "completed")
    ]
    seen: list[str] = []

    job = client.wait(JOB, on_update=lambda job: seen.append(job.status))

    assert job.status is Status.COMPLETED
    assert seen == ["pending", "processing", "completed"]


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_wait_raises_if_the_job_does_not_complete(
    client: Client, server: Any, a_job: Maker, status: str
) -> None:
    """`wait` returns only completed jobs."""
    ended = a_job(status, error_code="prediction_failed", error_message="no paint")
    server.script = [httpx2.Response(200, json=ended)]

    with pytest.raises(JobFailed, match=f"{status}: no paint") as caught:
        client.wait(JOB)

    assert caught.value.job.status == status
    assert caught.value.code == "prediction_failed"


def test_wait_ends_after_its_timeout(client: Client, server: Any, a_job: Maker) -> None:
    """The job continues."""
    server.script = [httpx2.Response(200, json=a_job()) for _ in range(1000)]

    with pytest.raises(WaitTimeout) as caught:
        client.wait(JOB, timeout=0.01)

    assert caught.value.job is not None
    assert caught.value.job.status is Status.PENDING


def test_wait_survives_a_restart_of_the_server(client: Client, server: Any, a_job: Maker) -> None:
    """A server that is killed and restarted has lost nothing."""
    server.script = [*[REFUSED] * 4, httpx2.Response(200, json=a_job("completed"))]

    job = client.wait(JOB)

    assert job.status is Status.COMPLETED


def test_wait_ends_after_a_long_outage() -> None:
    """The limit is `outage_seconds`."""
    deadline = WaitDeadline(RetryPolicy(outage_seconds=-1), timeout=None)

    with pytest.raises(ServerUnreachable, match="refused"):
        deadline.tolerate(ServerUnreachable("refused"))


def test_wait_ends_at_a_permanent_error(client: Client, server: Any) -> None:
    """An HTML page will not become a job."""
    server.script = [httpx2.Response(200, html="<p>hello</p>")]

    with pytest.raises(ServerError):
        client.wait(JOB)


def test_metadata_health_and_models_are_read(client: Client, server: Any) -> None:
    """The remaining reads."""
    model = dict[str, Any](name="fleek/art", provider="placeholder", description="art")
    model |= {"output": "image", "default": True, "parameters": {"type": "object"}}
    server.script = [
        httpx2.Response(200, json={"seed": 7}),
        httpx2.Response(200, json={"status": "healthy"}),
        httpx2.Response(200, json=[model]),
        httpx2.Response(200, json=model),
    ]

    answers = client.metadata(JOB), client.health(), client.models(), client.model("fleek/art")

    assert answers[0] == {"seed": 7}
    assert answers[1] == {"status": "healthy"}
    assert answers[2] == [answers[3]]
    paths = [request.url.path for request in server.requests]
    assert paths[0] == f"/api/v1/jobs/{JOB}/metadata"
    assert paths[1:] == ["/health/detailed", "/api/v1/models", "/api/v1/models/fleek/art"]


def test_an_unhealthy_server_returns_its_checks(client: Client, server: Any) -> None:
    """The 503 is for load balancers; callers read the checks."""
    server.script = [httpx2.Response(503, json={"status": "unhealthy"})]

    health = client.health()

    assert health == {"status": "unhealthy"}


def test_metadata_must_be_an_object(client: Client, server: Any) -> None:
    """The return type is a promise."""
    server.script = [httpx2.Response(200, json=[1])]

    with pytest.raises(ServerError):
        client.metadata(JOB)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:8000",
        "ftp://x",
        "http://",
        "http://me:pass@x",
        "http://[",
        "//x",
        "http://x:y",
    ],
)
def test_an_invalid_url_is_refused_at_once(url: str) -> None:
    """The message names the setting."""
    with pytest.raises(ConfigurationError, match="FLEEK_URL"):
        Client(url)


@pytest.mark.parametrize("key", ["a b", "a\nb", "schlüssel"])
def test_an_invalid_key_is_refused_at_once(key: str) -> None:
    """A line feed would start another header."""
    with pytest.raises(ConfigurationError, match="FLEEK_API_KEY"):
        Client(api_key=key)


@pytest.mark.parametrize(
    ("given", "sent"), [(None, "Bearer from-outside"), ("own", "Bearer own"), ("", None)]
)
def test_the_default_key_is_that_of_the_environment(
    server: Any, a_job: Maker, monkeypatch: pytest.MonkeyPatch, given: str | None, sent: str | None
) -> None:
    """An argument replaces it, also with no key."""
    monkeypatch.setenv("FLEEK_API_KEY", "from-outside")
    server.script = [httpx2.Response(200, json=a_job())]

    with Client(
        "http://fleek.test", api_key=given, transport=httpx2.MockTransport(server)
    ) as client:
        client.status(JOB)

    assert server.requests[0].headers.get("authorization") == sent


def test_a_url_may_have_a_path(server: Any, a_job: Maker) -> None:
    """A server behind a proxy may be below a path."""
    server.script = [httpx2.Response(200, json=a_job())]

    with Client("http://fleek.test/media/", transport=httpx2.MockTransport(server)) as client:
        client.status(JOB)

    assert server.requests[0].url.path == f"/media/api/v1/jobs/{JOB}"


def test_without_a_key_none_is_sent(server: Any, a_job: Maker) -> None:
    """A server on loopback needs none."""
    server.script = [httpx2.Response(200, json=a_job())]

    with Client("http://fleek.test", transport=httpx2.MockTransport(server)) as client:
        client.status(JOB)

    assert "authorization" not in server.requests[0].headers


def test_a_lost_response_is_distinguished_from_a_refused_connection(
    client: Client, server: Any
) -> None:
    """Only after a lost response the job may exist."""
    server.script = [CUT] * 3

    with pytest.raises(ResponseLost):
        client.submit("a cat")


def test_a_429_without_a_delay_has_a_default() -> None:
    """`retry_after` is always set."""
    response = httpx2.Response(429, json={}, request=httpx2.Request("GET", "http://fleek.test"))

    with pytest.raises(TooMany) as caught:
        exchange.read(response, b"[]")

    assert caught.value.retry_after == timedelta(seconds=1)


AN_UPLOAD: dict[str, Any] = {
    "id": JOB,
    "reference": f"upload:{JOB}",
    "url": f"http://fleek.test/api/v1/uploads/{JOB}",
    "content_type": "image/png",
    "size_bytes": 4,
    "sha256": "5" * 64,
    "width": None,
    "height": None,
    "duration_seconds": None,
    "created_at": "2026-01-02T03:04:05Z",
    "expires_at": "2026-01-03T03:04:05Z",
}


def test_a_file_is_uploaded(client: Client, server: Any, tmp_path: Path) -> None:
    """From its path or its bytes, and again if the response is lost: it is the same upload."""
    (tmp_path / "cat.png").write_bytes(b"\x89PNG")
    server.script = [CUT, *[httpx2.Response(201, json=AN_UPLOAD)] * 2]

    uploaded = [client.upload(tmp_path / "cat.png"), client.upload(b"\x89PNG")]

    assert {one.reference for one in uploaded} == {f"upload:{JOB}"}
    assert {request.content for request in server.requests} == {b"\x89PNG"}
    assert {request.url.path for request in server.requests} == {"/api/v1/uploads"}
    assert {request.headers["content-type"] for request in server.requests} == {
        "application/octet-stream"
    }


def test_a_missing_file_is_not_uploaded(client: Client, tmp_path: Path) -> None:
    """The error names it."""
    with pytest.raises(InvalidInput, match=r"cat\.png"):
        client.upload(tmp_path / "cat.png")


def test_an_upload_is_deleted_by_reference_or_id(client: Client, server: Any) -> None:
    """Other names are refused."""
    server.script = [httpx2.Response(200, json=AN_UPLOAD)] * 2

    client.delete_upload(f"upload:{JOB}")
    client.delete_upload(JOB)

    assert {request.url.path for request in server.requests} == {f"/api/v1/uploads/{JOB}"}
    with pytest.raises(InvalidInput):
        client.delete_upload("cat.png")


def test_the_default_address_is_that_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """As for the command line."""
    monkeypatch.setenv("FLEEK_URL", "https://media.example.com/")
    from_environment = repr(Client())
    monkeypatch.delenv("FLEEK_URL")

    assert from_environment == "<Client of https://media.example.com>"
    assert repr(Client()) == "<Client of http://127.0.0.1:8000>"
    assert repr(AsyncClient()) == "<AsyncClient of http://127.0.0.1:8000>"


def test_a_refusal_has_the_id_of_its_request(client: Client, server: Any) -> None:
    """So that the operator finds it in the log."""
    server.script = [problem(409, {"x-request-id": "r-17"})]

    with pytest.raises(Conflict) as caught:
        client.cancel(JOB)

    assert (caught.value.request_id, caught.value.code) == ("r-17", "why")


def test_retries_end_with_the_time_for_them(server: Any) -> None:
    """However many attempts would be left."""
    server.script = [CUT, CUT]
    policy = RetryPolicy(attempts=5, total_seconds=0)
    client = Client(transport=httpx2.MockTransport(server), retry_policy=policy)

    with pytest.raises(ResponseLost):
        client.status(JOB)

    assert len(server.requests) == 1


def test_several_statuses_are_one_filter(client: Client, server: Any) -> None:
    """A job must have one of them."""
    server.script = [httpx2.Response(200, json=[])]

    list(client.jobs([Status.FAILED, Status.CANCELLED]))

    sent = server.requests[0].url.params.get_list("status_filter")
    assert sent == ["failed", "cancelled"]
