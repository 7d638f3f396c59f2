"""Purging is said of jobs that have ended, part by part, and changes nothing else of them."""

import pytest

from fleek.domain.errors import IllegalTransition
from fleek.domain.job import AttemptId, Job, Status
from fleek.domain.media import Part, media_folder, media_key, metadata_key, owner, purged
from fleek.domain.transitions import mark_erased, purge
from samples import NOON, SECOND, WORKER, a_job

ENDS = [Status.COMPLETED, Status.FAILED, Status.CANCELLED]


def ended(status: Status = Status.COMPLETED) -> Job:
    """Return a job that ended so at noon."""
    return a_job(status=status, completed_at=NOON)


@pytest.mark.parametrize("status", ENDS)
def test_a_job_stays_as_it_ended(status: Status) -> None:
    """Only its files are gone."""
    change = purge(ended(status), list(Part), now=NOON + SECOND)

    assert (change.job.status, change.job.completed_at) == (status, NOON)
    assert (change.job.purged_at, change.job.metadata_purged_at) == (NOON + SECOND,) * 2
    assert change.job.purging
    assert (change.event, change.data) == ("purged", {"parts": ["media", "metadata"]})


@pytest.mark.parametrize("part", Part)
def test_one_part_goes_without_the_other(part: Part) -> None:
    """Each has a retention of its own."""
    job = purge(ended(), [part], now=NOON).job

    assert {one for one in Part if purged(job, one)} == {part}


def test_a_part_keeps_the_time_of_its_end() -> None:
    """It was gone then already."""
    job = purge(ended(), [Part.MEDIA], now=NOON).job

    later = purge(job, list(Part), now=NOON + SECOND).job

    assert (later.purged_at, later.metadata_purged_at) == (NOON, NOON + SECOND)


def test_when_nothing_is_left_nothing_is_owed() -> None:
    """And what was purged stays purged."""
    job = purge(ended(), list(Part), now=NOON).job

    change = mark_erased(job, now=NOON + SECOND)

    assert (change.event, change.job.purging, change.job.purged_at) == ("erased", False, NOON)


@pytest.mark.parametrize("status", [Status.PENDING, Status.PROCESSING])
def test_a_job_that_goes_on_cannot_be_purged(status: Status) -> None:
    """Its files are still to come."""
    with pytest.raises(IllegalTransition, match="purged"):
        purge(a_job(status=status), list(Part), now=NOON)


def test_the_owner_of_a_file_is_told_by_its_key() -> None:
    """So that what is in storage can be looked up."""
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
def test_what_is_not_named_as_we_name_has_no_owner(key: str) -> None:
    """It is not ours to judge."""
    assert owner(key) is None
