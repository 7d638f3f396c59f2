"""Purging over HTTP: from the response on the files are not available; the job stays."""

from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import replace
from typing import Any

import httpx2
import pytest

from fleek.domain.job import Job, Status
from fleek.domain.media import Key, Part
from fleek.engine.purge import Retention, mark
from fleek.engine.runtime import Runtime

Make = Callable[..., Coroutine[Any, Any, Job]]
ClientOf = Callable[[Runtime], httpx2.AsyncClient]

FILES = ("/media/{}.png", "/api/v1/download/{}")
METADATA = "/api/v1/jobs/{}/metadata"


class Racing:
    """A storage whose files are purged by another caller during a read."""

    def __init__(self, storage: Any, purge: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        self._storage = storage
        self._purge = purge

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    async def read(self, key: Key, **options: Any) -> AsyncIterator[bytes]:
        """Fail, as the file has just been removed."""
        await self._purge()
        await self._storage.delete(key)
        async for chunk in self._storage.read(key, **options):
            yield chunk


@pytest.mark.parametrize("route", [*FILES, METADATA])
async def test_purged_files_are_gone(
    client: httpx2.AsyncClient, complete: Make, route: str
) -> None:
    """410 and not 404: they existed, and the request is no mistake."""
    job = await complete()

    purged = await client.delete(f"/api/v1/jobs/{job.id}?purge=true")

    answer = await client.get(route.format(job.id))
    assert purged.status_code == 200
    assert answer.status_code == 410
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "gone"
    assert "removed" in answer.json()["detail"]


async def test_a_purged_job_can_still_be_read(client: httpx2.AsyncClient, complete: Make) -> None:
    """Its status stays, and it lists no files."""
    job = await complete()

    purged = await client.delete(f"/api/v1/jobs/{job.id}?purge=true")

    one = (await client.get(f"/api/v1/jobs/{job.id}")).json()
    listed = (await client.get("/api/v1/jobs")).json()
    flat = (await client.get(f"/status/{job.id}")).json()
    assert one["status"] == "completed"
    assert one["purged_at"] is not None
    assert (one["result_url"], one["file_size"], one["outputs"]) == (None, None, [])
    assert (flat["status"], flat["result_url"]) == ("completed", None)
    assert purged.json() == {"message": "Job purged", "job": one}
    assert listed == [one]


async def test_a_purge_removes_the_files_from_storage(
    rt: Runtime, client: httpx2.AsyncClient, complete: Make
) -> None:
    """The response only announces it."""
    job, other = await complete(), await complete()
    await client.delete(f"/api/v1/jobs/{job.id}?purge=true")

    await Retention(rt).turn()

    left = {one.key async for one in rt.storage.keys()}  # noqa: SIM118 - a storage is no dict
    assert {str(other.id) in key for key in left} == {True}
    assert (await client.get(f"/media/{other.id}.png")).status_code == 200
    assert (await client.get(f"/media/{job.id}.png")).status_code == 410


async def test_a_repeated_purge_gets_the_same_response(
    client: httpx2.AsyncClient, complete: Make
) -> None:
    """After a lost response the repetition changes nothing."""
    job = await complete()
    address = f"/api/v1/jobs/{job.id}?purge=true"

    first, second = await client.delete(address), await client.delete(address)

    assert (first.status_code, second.status_code) == (200, 200)
    assert first.json()["job"] == second.json()["job"]
    assert second.json()["message"] == "Job was purged already"


async def test_a_purge_cancels_a_running_job_first(client: httpx2.AsyncClient, make: Make) -> None:
    """Its result is not wanted any more."""
    job = await make()

    answer = await client.delete(f"/api/v1/jobs/{job.id}?purge=true")

    assert answer.json()["job"]["status"] == "cancelled"
    assert answer.json()["job"]["purged_at"] is not None
    assert (await client.get(FILES[1].format(job.id))).status_code == 410


async def test_a_failed_job_can_be_purged(client: httpx2.AsyncClient, make: Make) -> None:
    """It stays failed, with its reason."""
    job = await make(Status.FAILED)

    answer = await client.delete(f"/api/v1/jobs/{job.id}?purge=true")

    assert answer.status_code == 200
    assert answer.json()["job"]["status"] == "failed"
    assert answer.json()["job"]["error_code"] == "prediction_failed"


@pytest.mark.parametrize("query", ["?purge=yes", "?purge=", "?purge=1", "?purge=true&purge=false"])
async def test_a_misspelt_purge_parameter_is_refused(
    client: httpx2.AsyncClient, complete: Make, query: str
) -> None:
    """A typing error must neither remove files nor pretend to."""
    job = await complete()

    answer = await client.delete(f"/api/v1/jobs/{job.id}{query}")

    assert answer.status_code == 422
    assert (await client.get(f"/media/{job.id}.png")).status_code == 200


async def test_without_the_parameter_nothing_is_purged(
    client: httpx2.AsyncClient, complete: Make
) -> None:
    """Earlier clients rely on it."""
    job = await complete()

    answer = await client.delete(f"/api/v1/jobs/{job.id}?purge=false")

    assert answer.status_code == 409
    assert (await client.get(f"/media/{job.id}.png")).status_code == 200


async def test_an_unknown_job_cannot_be_purged(client: httpx2.AsyncClient) -> None:
    """A foreign job gets the same response."""
    answer = await client.delete("/api/v1/jobs/0198f000-0000-7000-8000-00000000ffff?purge=true")

    assert answer.status_code == 404


@pytest.mark.parametrize(
    ("part", "statuses"),
    [(Part.MEDIA, (410, 410, 200)), (Part.METADATA, (200, 200, 410))],
    ids=["media", "metadata"],
)
async def test_media_and_metadata_are_purged_separately(
    rt: Runtime,
    client: httpx2.AsyncClient,
    complete: Make,
    part: Part,
    statuses: tuple[int, ...],
) -> None:
    """One may have to be removed long before the other."""
    job = await complete()

    await mark(rt, job.id, [part], cause=part.value)

    answers = [await client.get(route.format(job.id)) for route in (*FILES, METADATA)]
    assert tuple(answer.status_code for answer in answers) == statuses


@pytest.mark.parametrize("route", [*FILES, METADATA])
async def test_a_file_purged_during_its_request_is_gone(
    rt: Runtime, client_of: ClientOf, complete: Make, route: str
) -> None:
    """The job was read before the purge, and the file after it."""
    job = await complete()

    async def purge() -> None:
        await mark(rt, job.id, list(Part), cause="request")

    storage: Any = Racing(rt.storage, purge)
    async with client_of(replace(rt, storage=storage)) as client:
        answer = await client.get(route.format(job.id))

    assert answer.status_code == 410
