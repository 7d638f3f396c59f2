"""`fleek providers`: open predictions of a removed provider can be abandoned."""

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from fleek.store import attempts, jobs
from fleek.store.database import open_database
from fleek.store.updates import apply
from samples import a_job, claims


@pytest.fixture
def url(migrated_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the database of a service with a prediction of a removed provider."""
    shutil.copy(migrated_file, tmp_path / "fleek.db")
    address = f"sqlite:///{tmp_path}/fleek.db"
    monkeypatch.setenv("DATABASE_URL", address)
    asyncio.run(leave_behind(address))
    return address


async def leave_behind(url: str) -> None:
    """Store a job whose prediction has been started."""
    async with open_database(url) as db:
        job = a_job(provider="removed")
        await jobs.insert_job(db, job)
        await apply(db, job.id, claims())


async def left(url: str) -> dict[str, int]:
    """Return the number of open attempts by provider."""
    async with open_database(url) as db:
        return await attempts.count_without_verdict(db)


def test_predictions_of_a_removed_provider_can_be_abandoned(fleek: Any, url: str) -> None:
    """A dry run counts them first."""
    counted = fleek("providers", "abandon", "removed", "--dry-run")
    before = asyncio.run(left(url))

    ended = fleek("providers", "abandon", "removed", "--yes", "--json")

    assert counted.out.endswith("would abandon 1 predictions of removed\n")
    assert (before, asyncio.run(left(url))) == ({"removed": 1}, {})
    assert ended.code == 0
    document = ended.out[ended.out.index("{") :]
    assert json.loads(document) == {"done": "abandoned", "provider": "removed", "predictions": 1}


def test_predictions_of_a_configured_provider_cannot_be_abandoned(fleek: Any, url: str) -> None:
    """The service reconciles them itself."""
    ended = fleek("providers", "abandon", "placeholder", "--yes")

    assert ended.code == 2
    assert "placeholder is configured" in ended.err
    assert asyncio.run(left(url)) == {"removed": 1}


def test_doctor_names_open_predictions_of_a_removed_provider(fleek: Any, url: str) -> None:
    """They keep purged files in the storage."""
    assert url

    ended = fleek("doctor")

    words = " ".join(ended.out.split())
    assert "1 open predictions of removed" in words
    assert "fleek providers abandon removed" in words
