"""Ended jobs are purged part by part; nothing else of them changes."""

import pytest

from fleek.domain.errors import IllegalTransition
from fleek.domain.job import AttemptId, Job, Status
from fleek.domain.media import Part, media_folder, media_key, metadata_key, owner, purged
from fleek.domain.transitions import mark_erased, purge
from samples import NOON, SECOND, WORKER, a_job

ENDS = [Status.COMPLETED, Status.FAILED, Status.CANCELLED]


def ended(status: Status = Status.COMPLETED) -> Job:
    """Return a job that ended at noon."""
    return a_job(status=status, completed_at=NOON)


@pytest.mark.parametrize("status", ENDS)
def test_a_purged_job_keeps_its_status(status: Status) -> None:
    """Only its files are removed."""
    change = purge(ended(status), list(Part), now=NOON + SECOND)

    assert (change.job.status, change.job.completed_at) == (status, NOON)
    assert (change.job.purged_at, change.job.metadata_purged_at) == (NOON + SECOND,) * 2
    assert change.job.purging
    assert (change.event, change.data) == ("purged", {"parts": ["media", "metadata"]})


@pytest.mark.parametrize("part", Part)
def test_parts_are_purged_separately(part: Part) -> None:
    """Each has its own retention."""
    job = purge(ended(), [part], now=NOON).job

    assert {one for one in Part if purged(job, one)} == {part}


def test_a_second_purge_keeps_the_first_time() -> None:
    """The part was gone already."""
    job = purge(ended(), [Part.MEDIA], now=NOON).job

    later = purge(job, list(Part), now=NOON + SECOND).job

    assert (later.purged_at, later.metadata_purged_at) == (NOON, NOON + SECOND)


def test_an_erased_job_needs_no_more_purging() -> None:
    """The time of the purge is kept."""
    job = purge(ended(), list(Part), now=NOON).job

    change = mark_erased(job, now=NOON + SECOND)

    assert (change.event, change.job.purging, change.job.purged_at) == ("erased", False, NOON)


@pytest.mark.parametrize("status", [Status.PENDING, Status.PROCESSING])
def test_a_running_job_cannot_be_purged(status: Status) -> None:
    """Its files are still to come."""
    with pytest.raises(IllegalTransition, match="purged"):
        purge(a_job(status=status), list(Part), now=NOON)


def test_a_key_names_the_owner_of_its_file() -> None:
    """Files in the storage can be traced to their jobs."""
    job = a_job()
    file = media_key(job.id, AttemptId(WORKER), 0, sha256="a" * 64, extension="png")

    assert owner(file) == (Part.MEDIA, job.id)
    assert owner(metadata_key(job.id)) == (Part.METADATA, job.id)
    assert file.startswith(media_folder(job.id))


@pytest.mark.parametrize(
    "key",
    [
        "media/note.txt",
        "metadata/note.json",
        "elsewhere/0198f000-0000-7000-8000-000000000001/x",
        "media/0198f000-0000-7000-8000-000000000001",
        "media/0198F000-0000-7000-8000-000000000001/a/0.png",
        "media/0198f000000070008000000000000001/a/0.png",
        "metadata/0198f000-0000-7000-8000-000000000001.txt",
        "metadata/0198f000-0000-7000-8000-000000000001",
        "",
    ],
)
def test_foreign_keys_have_no_owner(key: str) -> None:
    """Files with other names are not Fleek's."""
    assert owner(key) is None
