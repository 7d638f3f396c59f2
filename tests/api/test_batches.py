"""Batches: many requests in one call, accepted as a whole, and their results."""

import asyncio
import io
import json
import zipfile
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from event_reader import EventReader
from fleek import failpoints
from fleek.api import batch_events
from fleek.api.batch_body import Cutter
from fleek.domain.job import Job, JobId, Status
from fleek.engine import batches as engine
from fleek.engine.bulk import IDLE, BulkOperations
from fleek.engine.cancel import cancel
from fleek.engine.runtime import Runtime
from fleek.store import jobs
from in_process_service import PATIENCE, serving_on

Make = Callable[..., Coroutine[Any, Any, Job]]
ClientOf = Callable[[Runtime], httpx2.AsyncClient]

PATH: Final = "/api/v1/batches"
JSON: Final = {"Content-Type": "application/json"}
LINES: Final = {"Content-Type": "application/jsonl"}
KEY: Final = {"Idempotency-Key": "the-batch-of-today"}
CATS: Final = [{"prompt": "A cat", "parameters": {"width": 64, "seed": n}} for n in range(3)]
FORMS: Final[Mapping[str, tuple[Mapping[str, str], str]]] = {
    "list": (JSON, json.dumps({"requests": CATS})),
    "indented": (JSON, json.dumps({"requests": CATS}, indent=4)),
    "lines": (LINES, "".join(f"{json.dumps(cat)}\r\n\n" for cat in CATS)),
    "grid": (
        JSON,
        json.dumps(
            {
                "grid": {"prompt": ["A cat"], "seed": [0, 1, 2]},
                "request": {"prompt": "", "parameters": {"width": 64}},
            }
        ),
    ),
}
"""The same three requests."""


async def create(
    client: httpx2.AsyncClient, count: int = 3, *, headers: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Create a batch of cats."""
    body = {"requests": [{"prompt": f"Cat {number}"} for number in range(count)]}
    answer = await client.post(PATH, json=body, headers=headers)
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def members(client: httpx2.AsyncClient, batch: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return all jobs of a batch, in the order of their creation."""
    answer = await client.get(f"/api/v1/jobs?batch={batch['id']}&order=oldest&limit=100")
    found: list[dict[str, Any]] = answer.json()
    return found


async def job_of(rt: Runtime, shown: Mapping[str, Any]) -> Job:
    """Return a job that was shown."""
    return await jobs.get_any_tenant(rt.db, JobId(UUID(shown["id"])))


async def work(rt: Runtime) -> None:
    """Run the coordinator's loop of operations on many jobs."""
    turns = BulkOperations(rt)
    while await turns.turn() < IDLE:
        pass


async def test_a_batch_is_accepted_in_any_form(
    client: httpx2.AsyncClient, subtests: pytest.Subtests
) -> None:
    """Each request is a job; whatever the form is, the same requests are the same batch."""
    first: dict[str, Any] | None = None
    for name, (headers, content) in FORMS.items():
        with subtests.test(form=name):
            answer = await client.post(PATH, content=content, headers={**headers, **KEY})

            batch = answer.json()
            first = first or batch
            assert batch["id"] == first["id"]
            assert answer.status_code == 201
            assert answer.headers["location"] == f"/api/v1/batches/{batch['id']}"
            assert ("idempotent-replayed" in answer.headers) == (name != "list")
            assert (batch["status"], batch["total"], batch["accepted"]) == ("processing", 3, 3)
            assert (await client.get(answer.headers["location"])).json() == batch
    assert first is not None
    shown = await members(client, first)
    assert [(job["batch_index"], job["seed"]) for job in shown] == [(0, 0), (1, 1), (2, 2)]
    assert {job["batch_id"] for job in shown} == {first["id"]}
    assert len((await client.get("/api/v1/jobs")).json()) == 3


async def test_a_grid_stands_for_all_combinations(client: httpx2.AsyncClient) -> None:
    """The last value changes first."""
    grid = {"prompt": ["A cat", "A dog"], "seed": [1, 2]}
    body = {"request": {"parameters": {"width": 64}}, "grid": grid}

    batch = (await client.post(PATH, json=body)).json()

    assert [
        (job["prompt"], job["parameters"]["seed"], job["parameters"]["width"])
        for job in await members(client, batch)
    ] == [("A cat", 1, 64), ("A cat", 2, 64), ("A dog", 1, 64), ("A dog", 2, 64)]


NO_UPLOAD: Final = "0198f000-0000-7000-8000-000000000000"
GOOD: Final = '{"prompt": "A cat"}'
BAD: Final[list[tuple[Mapping[str, str], str, int, str, str]]] = [
    (JSON, "", 400, "unreadable", ""),
    (JSON, "[]", 422, "model_type", ""),
    (JSON, "{}", 422, "no_members", ""),
    (JSON, '{"requests": []}', 422, "no_members", ""),
    (JSON, '{"requests": [], "request": {}}', 422, "no_members", ""),
    (JSON, f'{{"requests": [{GOOD}], "grid": {{"a": [1]}}}}', 422, "grid", "/grid"),
    (JSON, f'{{"requests": [{GOOD},]}}', 400, "unreadable", ""),
    (JSON, f'{{"requests": [{GOOD} {GOOD}]}}', 400, "unreadable", ""),
    (JSON, f'{{"requests": [{GOOD}]', 400, "unreadable", ""),
    (JSON, f'{{"requests": [{GOOD}], "requests": []}}', 400, "unreadable", ""),
    (JSON, f'{{"requests": [{GOOD}], "tags": []}}', 422, "extra_forbidden", "/tags"),
    (JSON, f'{{"requests": [{GOOD}, {{}}]}}', 422, "missing", "/requests/1/prompt"),
    (JSON, f'{{"requests": [{GOOD}, 7]}}', 422, "model_type", "/requests/1"),
    (JSON, f'{{"requests": [{GOOD}, {{"a": 1, "a": 2}}]}}', 400, "unreadable", ""),
    (
        JSON,
        f'{{"requests": [{GOOD}, {{"prompt": "x", "text": "y"}}]}}',
        422,
        "extra_forbidden",
        "/requests/1/text",
    ),
    (
        JSON,
        f'{{"requests": [{GOOD}, {{"prompt": "x", "parameters": {{"width": -1}}}}]}}',
        422,
        "invalid_parameters",
        "/requests/1/parameters/width",
    ),
    (
        JSON,
        f'{{"requests": [{GOOD}, {{"prompt": "x", "provider": "nobody"}}]}}',
        422,
        "unknown_provider",
        "/requests/1/provider",
    ),
    (
        JSON,
        f'{{"requests": [{GOOD}, {{"prompt": "x", "parameters": {{"image": "upload:{NO_UPLOAD}"}}}}]}}',
        422,
        "unknown_upload",
        "/requests/1/parameters/image",
    ),
    (JSON, '{"request": {"prompt": "x"}, "grid": {}}', 422, "too_short", "/grid"),
    (JSON, '{"request": {"prompt": "x"}, "grid": {"seed": []}}', 422, "no_members", ""),
    (
        JSON,
        '{"request": {"prompt": "x", "parameters": "{}"}, "grid": {"seed": [1]}}',
        422,
        "parameters",
        "/request/parameters",
    ),
    (
        JSON,
        json.dumps({"request": {"prompt": "x"}, "grid": {a: list(range(101)) for a in "ab"}}),
        422,
        "too_many_members",
        "/grid",
    ),
    (LINES, f"{GOOD}\n" * 10_001, 422, "too_many_members", ""),
    (LINES, f"{GOOD}\n{{", 400, "unreadable", ""),
    (LINES, "\n\n", 422, "no_members", ""),
    (LINES, f'{GOOD}\n{{"prompt": "{"x" * 300_000}"}}', 413, "too_large", ""),
    (JSON, f'{{"requests": [{GOOD}, "{"x" * 300_000}"]}}', 413, "too_large", ""),
    (JSON, f'{{"requests": [{GOOD}], "x": "{"x" * 300_000}"}}', 413, "too_large", ""),
    ({"Content-Type": "text/plain"}, GOOD, 415, "unsupported_media_type", ""),
    ({**JSON, "Content-Encoding": "gzip"}, GOOD, 415, "unsupported_media_type", ""),
    ({**JSON, "Idempotency-Key": "ä"}, GOOD, 400, "bad_idempotency_key", ""),
]


async def test_a_refusal_names_the_member_and_stores_nothing(
    client: httpx2.AsyncClient, subtests: pytest.Subtests
) -> None:
    """All members are checked before the first one is a job."""
    for headers, content, status, code, pointer in BAD:
        with subtests.test(content=content[:60]):
            given = [(name.encode(), value.encode()) for name, value in headers.items()]
            answer = await client.post(PATH, content=content.encode(), headers=given)

            problem = answer.json()
            codes = [problem["code"], *(error["code"] for error in problem["errors"])]
            assert answer.status_code == status, answer.text
            assert code in codes
            assert [error["pointer"] for error in problem["errors"]][:1] in ([pointer], [])
            if "requests.1" in problem["detail"] and pointer:
                assert problem["errors"][0]["pointer"] == pointer
    assert (await client.get(PATH)).json() == []
    assert (await client.get("/api/v1/jobs")).json() == []


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(st.sampled_from('ab"\\[]{},: é')),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=5,
)


@given(
    requests=st.lists(json_values, max_size=4),
    rest=st.dictionaries(st.sampled_from(["a", "b", 'x"requests', "]"]), json_values),
    first=st.booleans(),
    indent=st.sampled_from([None, 1]),
    size=st.integers(1, 64),
)
def test_members_are_cut_out_of_any_document(
    requests: list[Any], rest: dict[str, Any], *, first: bool, indent: int | None, size: int
) -> None:
    """Wherever its pieces end, and whatever its texts look like."""
    ours = {"requests": requests}
    value = {**ours, **rest} if first else {**rest, **ours}
    data = json.dumps(value, indent=indent, ensure_ascii=False).encode()
    cutter = Cutter(10_000)

    parts = [
        part for at in range(0, len(data), size) for part in cutter.feed(data[at : at + size])
    ]

    assert [json.loads(part) for part in parts] == requests
    assert json.loads(cutter.rest(10_000)) == {**rest, "requests": []}


async def test_a_key_stands_for_one_batch(client: httpx2.AsyncClient) -> None:
    """Not for another one, and not for a job."""
    batch = await create(client, headers=KEY)

    other = await client.post(PATH, json={"requests": CATS}, headers=KEY)
    job = await client.post("/api/v1/generate", json=CATS[0], headers=KEY)

    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    assert (job.status_code, job.json()["code"]) == (422, "idempotency_key_reused")
    assert [one["id"] for one in (await client.get(PATH)).json()] == [batch["id"]]
    assert len((await client.get("/api/v1/jobs")).json()) == 3


async def test_an_interrupted_batch_is_continued_by_its_key(
    client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch, subtests: pytest.Subtests
) -> None:
    """Wherever it was interrupted: each member is one job."""
    monkeypatch.setattr(engine, "GROUP", 2)
    monkeypatch.setattr(engine, "PAUSES", ())
    for number, point in enumerate(("batch.created", "batch.write@2", "batch.written@2")):
        name, _, hit = point.partition("@")
        with subtests.test(point=point):
            key = {"Idempotency-Key": f"batch-{number}"}
            failpoints.arm(f"{name}=oserror@{hit or 1}")
            body = {"requests": [{"prompt": f"Cat {number}"} for number in range(5)]}
            broken = await client.post(PATH, json=body, headers=key)
            failpoints.arm("")
            (batch, *_) = (await client.get(PATH)).json()

            repeated = await client.post(PATH, json=body, headers=key)

            assert broken.status_code in {500, 503}
            assert batch["status"] == "accepting"
            assert repeated.json()["id"] == batch["id"]
            assert (repeated.json()["status"], repeated.json()["accepted"]) == ("processing", 5)
            shown = await members(client, batch)
            assert [job["batch_index"] for job in shown] == [0, 1, 2, 3, 4]
            assert [job["prompt"] for job in shown] == [f"Cat {number}" for number in range(5)]


async def test_requests_with_one_key_at_once_are_one_batch(
    client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A caller that did not wait for the response repeats it while it goes on."""
    monkeypatch.setattr(engine, "GROUP", 2)

    made = await asyncio.gather(*(create(client, 9, headers=KEY) for _ in range(4)))

    assert len({batch["id"] for batch in made}) == 1
    shown = await members(client, made[0])
    assert [job["batch_index"] for job in shown] == list(range(9))


async def test_a_batch_without_a_key_that_breaks_off_is_cancelled(
    client: httpx2.AsyncClient, rt: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody knows which of its jobs there are."""
    monkeypatch.setattr(engine, "GROUP", 2)
    failpoints.arm("batch.write=oserror@2")

    body = {"requests": [{"prompt": "A cat"}] * 5}
    broken = await client.post(PATH, json=body)
    failpoints.arm("")
    await work(rt)

    (batch,) = (await client.get(PATH)).json()
    assert broken.status_code in {500, 503}
    assert (batch["status"], batch["accepted"], batch["counts"]["cancelled"]) == ("ended", 2, 2)
    assert batch["cancelled_at"] is not None


async def test_a_batch_needs_room_for_all_its_members(
    rt: Runtime, client_of: ClientOf, make: Make
) -> None:
    """By `MAX_LIVE_JOBS`: nothing is accepted else."""
    await make()
    limited = rt.settings.model_copy(update={"max_live_jobs": 3})

    async with client_of(replace(rt, settings=limited)) as client:
        refused = await client.post(PATH, json={"requests": [{"prompt": "A cat"}] * 3})
        accepted = await client.post(PATH, json={"requests": [{"prompt": "A cat"}] * 2})

    assert (refused.status_code, refused.json()["code"]) == (429, "too_many_jobs")
    assert int(refused.headers["retry-after"]) > 0
    assert accepted.status_code == 201


async def test_a_batch_is_cancelled(client: httpx2.AsyncClient, rt: Runtime, make: Make) -> None:
    """All of its jobs that have not ended, and no others."""
    other = await make()
    batch = await create(client)

    operation = await client.post(f"{PATH}/{batch['id']}/cancel")
    await work(rt)

    ended = (await client.get(operation.headers["location"])).json()
    assert operation.status_code == 202
    assert (ended["matched"], ended["changed"]) == (3, 3)
    shown = (await client.get(f"{PATH}/{batch['id']}")).json()
    assert (shown["status"], shown["counts"]["cancelled"]) == ("ended", 3)
    assert (await client.get(f"/api/v1/jobs/{other.id}")).json()["status"] == "pending"


async def test_members_that_failed_are_retried(
    client: httpx2.AsyncClient, rt: Runtime, become: Make
) -> None:
    """A retry takes the place of its member, however often; nothing else is retried."""
    batch = await create(client)
    failing, done, _ = [await job_of(rt, shown) for shown in await members(client, batch)]
    await become(done, status=Status.CANCELLED, completed_at=rt.now())
    for tries in range(2):
        await become(failing, status=Status.FAILED, completed_at=rt.now())
        counts = (await client.get(f"{PATH}/{batch['id']}")).json()["counts"]
        assert (counts["failed"], counts["cancelled"], counts["pending"]) == (1, 1, 1)

        operation = await client.post(f"{PATH}/{batch['id']}/retry")
        await work(rt)

        ended = (await client.get(operation.headers["location"])).json()
        assert (ended["changed"], ended["skipped"]) == (1, tries)
        *_, latest = await members(client, batch)
        assert (latest["batch_index"], latest["retry_of"]) == (0, str(failing.id))
        failing = await job_of(rt, latest)
    counts = (await client.get(f"{PATH}/{batch['id']}")).json()["counts"]
    assert (counts["pending"], counts["failed"], sum(counts.values())) == (2, 0, 3)


async def test_batches_are_listed(client: httpx2.AsyncClient) -> None:
    """Newest first, page by page."""
    made = [(await create(client, 1))["id"] for _ in range(3)]

    first = await client.get(f"{PATH}?limit=2")
    second = await client.get(first.links["next"]["url"])

    assert [batch["id"] for batch in first.json()] == made[:0:-1]
    assert [batch["id"] for batch in second.json()] == made[:1]
    assert "next" not in second.links


async def test_the_files_of_a_batch_are_one_archive(
    client: httpx2.AsyncClient, rt: Runtime, complete: Make, become: Make
) -> None:
    """Named by their members; what has not completed is left out."""
    batch = await create(client, 4)
    one, two, three, _ = [await job_of(rt, shown) for shown in await members(client, batch)]
    large = bytes(range(256)) * 1000
    await complete((large, "image/png", "png"), (b"sound", "audio/wav", "wav"), job=one)
    await become(two, status=Status.FAILED, completed_at=rt.now())
    await complete((b"three", "image/gif", "gif"), job=three)

    for path in ("outputs.zip", "archive"):
        answer = await client.get(f"{PATH}/{batch['id']}/{path}")

        archive = zipfile.ZipFile(io.BytesIO(answer.content))
        assert answer.headers["content-type"] == "application/zip"
        assert answer.headers["content-disposition"] == f'attachment; filename="{batch["id"]}.zip"'
        assert archive.testzip() is None
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}
        assert {name: archive.read(name) for name in archive.namelist()} == {
            "00000.png": large,
            "00000-1.wav": b"sound",
            "00002.gif": b"three",
        }


async def test_a_file_that_was_purged_meanwhile_is_left_out(
    client: httpx2.AsyncClient, rt: Runtime, complete: Make
) -> None:
    """The archive is whole without it."""
    batch = await create(client, 2)
    first, second = [await job_of(rt, shown) for shown in await members(client, batch)]
    await complete(job=first)
    await complete((b"two", "image/gif", "gif"), job=second)
    async for file in rt.storage.keys(f"media/{first.id}/"):
        await rt.storage.delete(file.key)

    answer = await client.get(f"{PATH}/{batch['id']}/outputs.zip")

    assert zipfile.ZipFile(io.BytesIO(answer.content)).namelist() == ["00001.gif"]


async def test_an_interrupted_archive_leaves_nothing_open(
    client: httpx2.AsyncClient, rt: Runtime, complete: Make
) -> None:
    """The next one is whole, and no file is left open."""
    batch = await create(client, 1)
    (job,) = [await job_of(rt, shown) for shown in await members(client, batch)]
    content = bytes(8 * 1_048_576)
    await complete((content, "image/png", "png"), job=job)
    path = f"{PATH}/{batch['id']}/outputs.zip"

    async with serving_on(rt) as service:
        reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        await reader.readexactly(1000)
        writer.close()
        answer = await client.get(path)

    assert zipfile.ZipFile(io.BytesIO(answer.content)).read("00000.png") == content
    async with asyncio.timeout(PATIENCE):
        while _open_files(rt):
            await asyncio.sleep(0.01)


def _open_files(rt: Runtime) -> list[str]:
    folder = str(Path(str(rt.storage.spool())).parent)
    found = []
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            target = str(descriptor.readlink())
        except OSError:
            continue
        if target.startswith(folder) and "/media/" in target:
            found.append(target)
    return found


async def test_a_batch_is_followed_to_its_end(
    client: httpx2.AsyncClient, rt: Runtime, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The events of its jobs and no others, how far it is, and then the stream ends."""
    monkeypatch.setattr(batch_events, "PAUSE_SECONDS", 0.01)
    batch = await create(client, 2)
    path = f"{PATH}/{batch['id']}/events"

    async with serving_on(rt) as service:
        async with EventReader(service.port, path) as stream:
            hello, begun = await stream.until("batch")
            other = await make()
            await cancel(rt, other.id, tenant_id="default")
            for shown in await members(client, batch):
                await cancel(rt, JobId((await job_of(rt, shown)).id), tenant_id="default")
            received = await stream.until("done")
            assert await stream.next() is None
        async with EventReader(service.port, path, last=hello.id) as stream:
            again = await stream.until("done")

    assert begun.data["counts"]["pending"] == 2
    for events in (received, again):
        of_jobs = [one for one in events if one.type.startswith("job.")]
        assert [one.type for one in of_jobs] == ["job.cancelled"] * 2
        assert {one.data["batch_id"] for one in of_jobs} == {batch["id"]}
        (*_, last) = [one for one in events if one.type == "batch"]
        assert (last.data["status"], last.data["counts"]["cancelled"]) == ("ended", 2)
