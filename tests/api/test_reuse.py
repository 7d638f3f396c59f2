"""Reuse over HTTP: a job that has the files of an equal one."""

from collections.abc import Callable, Coroutine
from typing import Any

import httpx2

from fleek.domain.job import Job

Make = Callable[..., Coroutine[Any, Any, Job]]


async def test_a_reused_job_is_like_any_other(client: httpx2.AsyncClient, complete: Make) -> None:
    """The first response has its files, under names of its own, and there is a document."""
    source = await complete(
        (b"a picture", "image/png", "png"), (b"and another", "image/gif", "gif")
    )

    answer = await client.post("/api/v1/generate", json={"prompt": "A cat", "reuse_seconds": 60})

    job = answer.json()
    assert (answer.status_code, job["status"]) == (201, "completed")
    assert job["reused_from"] == str(source.id) != job["id"]
    names = [output["url"].rpartition("/")[2] for output in job["outputs"]]
    assert names == [f"{job['id']}.png", f"{job['id']}-1.gif"]
    assert job == (await client.get(f"/api/v1/jobs/{job['id']}")).json()
    assert (await client.get(f"/media/{names[1]}")).content == b"and another"
    assert (await client.get(f"/api/v1/download/{job['id']}")).content == b"a picture"
    document = (await client.get(f"/api/v1/jobs/{job['id']}/metadata")).json()
    assert (document["prompt"], document["reused_from"]) == ("A cat", str(source.id))
    history = (await client.get(f"/api/v1/jobs/{job['id']}/history")).json()
    assert history["attempts"] == []


async def test_the_files_of_a_purged_source_are_served_to_those_that_have_them(
    client: httpx2.AsyncClient, complete: Make
) -> None:
    """Its own address returns 410, that of the job that has them the file."""
    source = await complete()
    body = {"prompt": "A cat", "reuse_seconds": 60}
    job = (await client.post("/api/v1/generate", json=body)).json()

    purged = await client.delete(f"/api/v1/jobs/{source.id}?purge=true")

    assert "kept" in purged.json()["message"]
    assert (await client.get(f"/media/{source.id}.png")).status_code == 410
    assert (await client.get(f"/media/{job['id']}.png")).status_code == 200
