"""Statistics over HTTP."""

from typing import Any

import httpx2
import pytest

from fleek.domain.job import Status


async def test_statistics_cover_the_window(client: httpx2.AsyncClient, make: Any) -> None:
    """With the current queue and workers."""
    await make()

    answer = await client.get("/api/v1/stats?window=60")

    found = answer.json()
    assert answer.status_code == 200
    assert (found["pending"], found["processing"], found["ended"]["jobs"]) == (1, 0, 0)
    assert found["ended"]["median_seconds"] is None
    assert found["oldest_pending_seconds"] >= 0
    assert found["workers"] >= 0


async def test_ended_jobs_are_counted_by_status(client: httpx2.AsyncClient, make: Any) -> None:
    """Each status has its own number."""
    job = await make()
    await client.post(f"/api/v1/jobs/{job.id}/cancel")

    found = (await client.get("/api/v1/stats")).json()

    assert {name: one["jobs"] for name, one in found["by_status"].items()} == {
        Status.CANCELLED.value: 1
    }
    assert found["jobs_per_minute"] > 0


@pytest.mark.parametrize("window", ["59", "x", "2678401", "-1", "1e3"])
async def test_an_invalid_window_is_refused(client: httpx2.AsyncClient, window: str) -> None:
    """At least a minute, at most a month."""
    answer = await client.get(f"/api/v1/stats?window={window}")

    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/window")
