"""`fleek providers`: what an operator can do about a provider that was removed."""

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
    """Return the database of a service, with a prediction of a provider that was removed."""
    shutil.copy(migrated_file, tmp_path / "fleek.db")
    address = f"sqlite:///{tmp_path}/fleek.db"
    monkeypatch.setenv("DATABASE_URL", address)
    asyncio.run(leave_behind(address))
    return address


async def leave_behind(url: str) -> None:
    """Let a worker have begun to buy."""
    async with open_database(url) as db:
        job = a_job(provider="removed")
        await jobs.insert_job(db, job)
        await apply(db, job.id, claims())


async def left(url: str) -> dict[str, int]:
    """Return what is not closed, by provider."""
    async with open_database(url) as db:
        return await attempts.count_without_verdict(db)


def test_what_a_removed_provider_is_owed_can_be_given_up(fleek: Any, url: str) -> None:
    """First it is said how much that is."""
    told = fleek("providers", "abandon", "removed", "--dry-run")
    before = asyncio.run(left(url))

    ended = fleek("providers", "abandon", "removed", "--yes", "--json")

    assert told.out.endswith("would abandon 1 predictions of removed\n")
    assert (before, asyncio.run(left(url))) == ({"removed": 1}, {})
    assert ended.code == 0
    document = ended.out[ended.out.index("{") :]
    assert json.loads(document) == {"done": "abandoned", "provider": "removed", "predictions": 1}


def test_a_provider_that_is_configured_is_not_given_up(fleek: Any, url: str) -> None:
    """The service asks it by itself."""
    ended = fleek("providers", "abandon", "placeholder", "--yes")

    assert ended.code == 2
    assert "placeholder is configured" in ended.err
    assert asyncio.run(left(url)) == {"removed": 1}


def test_doctor_names_it_and_what_to_do(fleek: Any, url: str) -> None:
    """It keeps purged files from leaving the storage."""
    assert url

    ended = fleek("doctor")

    words = " ".join(ended.out.split())
    assert "1 open predictions of removed" in words
    assert "fleek providers abandon removed" in words
