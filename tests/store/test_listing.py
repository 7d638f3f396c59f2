"""Lists of jobs: for any filter no job is missing or repeated, and pages have an end."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

import pytest

from fleek.domain.job import Job, JobFilter, JobId, Kind, ModelName, Status
from fleek.domain.transitions import edit
from fleek.store import jobs, listing, purges
from fleek.store.database import Database
from fleek.store.updates import Update, apply
from samples import NOON, a_job

DAY: Final = timedelta(days=1)
FOX: Final = ModelName("the/fox")
FAILED: Final = frozenset({Status.FAILED})
ENDED: Final = frozenset({Status.FAILED, Status.CANCELLED})


@pytest.fixture
async def made(db: Database) -> list[Job]:
    """Store twelve jobs, one a day, and one of another tenant."""
    stored = [
        a_job(
            created_at=NOON + number * DAY,
            status=[Status.PENDING, Status.FAILED, Status.CANCELLED][number % 3],
            model=FOX if number % 2 else ModelName("the/crow"),
            provider="a" if number < 6 else "b",
            favourite=number % 4 == 0,
            kind=Kind.VIDEO if number % 3 == 0 else None,
            tags=("sea", "storm") if number % 5 == 0 else (),
            prompt=f"The {['Red', 'grün'][number % 2]} fox-hunt no. {number}, 猫",
        )
        for number in range(12)
    ]
    for job in (*stored, a_job(tenant_id="other", tags=("sea",), favourite=True, prompt="fox")):
        await jobs.insert_job(db, job)
    return stored


async def all_pages(db: Database, wanted: JobFilter, limit: int = 2) -> list[JobId]:
    """Return the ids of a list, page by page."""
    found: list[JobId] = []
    after: JobId | None = None
    while True:
        page = await listing.page(
            db, wanted, tenant_id="default", limit=limit, after=after, window=3
        )
        found.extend(view.job.id for view in page.views)
        if page.after is None:
            return found
        after = page.after


FILTERS: Final[dict[str, tuple[JobFilter, Sequence[int]]]] = {
    "all": (JobFilter(), range(12)),
    "a status": (JobFilter(statuses=FAILED), (1, 4, 7, 10)),
    "two statuses": (JobFilter(statuses=ENDED), (1, 2, 4, 5, 7, 8, 10, 11)),
    "a model": (JobFilter(model=FOX), (1, 3, 5, 7, 9, 11)),
    "a provider": (JobFilter(provider="b"), range(6, 12)),
    "a tag": (JobFilter(tag="sea"), (0, 5, 10)),
    "a kind": (JobFilter(kind=Kind.VIDEO), (0, 3, 6, 9)),
    "a kind and a model": (JobFilter(kind=Kind.VIDEO, model=FOX), (3, 9)),
    "favourites": (JobFilter(favourite=True), (0, 4, 8)),
    "no favourites": (JobFilter(favourite=False), (1, 2, 3, 5, 6, 7, 9, 10, 11)),
    "since": (JobFilter(created_after=NOON + 9 * DAY), (9, 10, 11)),
    "before": (JobFilter(created_before=NOON + 2 * DAY), (0, 1)),
    "a time": (JobFilter(created_after=NOON + DAY, created_before=NOON + 3 * DAY), (1, 2)),
    "no time": (JobFilter(created_after=NOON + 99 * DAY), ()),
    "a model's failures": (JobFilter(statuses=FAILED, model=FOX), (1, 7)),
    "a tag's ends": (JobFilter(tag="storm", statuses=ENDED), (5, 10)),
    "a word": (JobFilter(q="red"), (0, 2, 4, 6, 8, 10)),
    "a word in another case": (JobFilter(q="GRÜN"), (1, 3, 5, 7, 9, 11)),
    "a word of another script": (JobFilter(q="猫"), range(12)),
    "two words": (JobFilter(q="fox RED"), (0, 2, 4, 6, 8, 10)),
    "words in any order, with signs": (JobFilter(q='"hunt*" (the) 11 AND'), ()),
    "a number": (JobFilter(q="no 11"), (11,)),
    "a part of a word": (JobFilter(q="hun"), ()),
    "a word without its accent": (JobFilter(q="grun"), ()),
    "a word that is nowhere": (JobFilter(q="crow"), ()),
    "a word's failures": (JobFilter(q="red", statuses=FAILED), (4, 10)),
    "a word and a tag": (JobFilter(q="red", tag="sea", favourite=False), (10,)),
    "everything at once": (
        JobFilter(
            q="fox the",
            statuses=ENDED,
            model=FOX,
            provider="a",
            tag="sea",
            favourite=False,
            created_after=NOON,
            created_before=NOON + 9 * DAY,
        ),
        (5,),
    ),
}


@pytest.mark.usefixtures("_full_suite")  # takes a second
async def test_a_list_contains_exactly_the_matching_jobs(
    db: Database, made: list[Job], subtests: pytest.Subtests
) -> None:
    """In pages of two, with a window of three jobs."""
    for name in FILTERS:
        with subtests.test(name=str(name)[:40]):
            wanted, numbers = FILTERS[name]
            expected = [made[number].id for number in numbers]

            newest_first = await all_pages(db, wanted)
            oldest_first = await all_pages(db, oldest(wanted))

            assert newest_first == expected[::-1]
            assert oldest_first == expected
            assert await listing.count(db, wanted, tenant_id="default") == len(expected)


def oldest(wanted: JobFilter) -> JobFilter:
    """Return the same filter in the other order."""
    fields: dict[str, Any] = {name: getattr(wanted, name) for name in wanted.__slots__}
    return JobFilter(**fields | {"oldest_first": True})


@pytest.mark.usefixtures("made")
async def test_days_are_counted(db: Database) -> None:
    """Newest first, under the same filters; days without jobs are left out."""
    days = await listing.by_day(db, JobFilter(model=FOX), tenant_id="default")

    assert days == [((NOON + number * DAY).date(), 1) for number in (11, 9, 7, 5, 3, 1)]


@pytest.mark.usefixtures("made")
async def test_a_partially_counted_day_is_left_out(db: Database) -> None:
    """Its number would be too small."""
    days = await listing.by_day(db, JobFilter(), tenant_id="default", most=4)

    assert [day.day for day, _ in days] == [12, 11, 10]


async def test_tags_are_replaced_and_removed_with_their_job(db: Database, made: list[Job]) -> None:
    """A list never contains a job that has lost the tag."""
    job_id = made[0].id

    def relabel(job: Job, _: object) -> Update:
        return Update(change=edit(job, {"tags": ("new",), "favourite": False}, now=NOON))

    applied = await apply(db, job_id, relabel)

    stored = (await jobs.get(db, job_id, tenant_id="default")).job
    assert stored == applied.job
    assert (stored.tags, stored.favourite, stored.version) == (("new",), False, 2)
    assert await all_pages(db, JobFilter(tag="new")) == [job_id]
    assert job_id not in await all_pages(db, JobFilter(tag="sea"))
    assert job_id not in await all_pages(db, JobFilter(favourite=True))


async def test_a_job_with_tags_is_removed_completely(db: Database) -> None:
    """Its tags refer to it."""
    job = a_job(
        status=Status.FAILED,
        completed_at=NOON,
        purged_at=NOON,
        metadata_purged_at=NOON,
        tags=("sea",),
    )
    await jobs.insert_job(db, job)

    assert await purges.remove(db, [job.id]) == 1

    assert await all_pages(db, JobFilter(tag="sea")) == []


async def test_a_removed_job_is_removed_from_the_search_index(db: Database) -> None:
    """On SQLite the index is a separate table."""
    job = a_job(status=Status.FAILED, completed_at=NOON, purged_at=NOON, metadata_purged_at=NOON)
    await jobs.insert_job(db, job)
    await purges.remove(db, [job.id])

    again = a_job(prompt="A crow")
    await jobs.insert_job(db, again)

    assert await all_pages(db, JobFilter(q="cat")) == []
    assert await all_pages(db, JobFilter(q="crow")) == [again.id]


@pytest.mark.parametrize("oldest_first", [False, True])
async def test_matches_beyond_the_search_window_are_all_found(
    db: Database, *, oldest_first: bool
) -> None:
    """Page by page, although jobs were committed in another order than their ids."""
    made = [a_job(prompt=f"A {['red', 'blue'][number % 2]} cat") for number in range(60)]
    for first, second, third in zip(made[::3], made[1::3], made[2::3], strict=True):
        for job in (third, first, second):
            await jobs.insert_job(db, job)
    wanted = JobFilter(q="cat blue", oldest_first=oldest_first)

    found: list[JobId] = []
    after: JobId | None = None
    pages = 0
    while after is not None or not pages:
        page = await listing.page(db, wanted, tenant_id="default", limit=4, after=after, window=15)
        found.extend(view.job.id for view in page.views)
        after, pages = page.after, pages + 1

    expected = [job.id for job in made[1::2]]
    assert found == (expected if oldest_first else expected[::-1])


@pytest.mark.usefixtures("_full_suite")  # takes a second
async def test_jobs_with_equal_times_are_all_found(db: Database) -> None:
    """However many there are, all of them are on some page."""
    made = [a_job() for _ in range(listing.NEIGHBOURS + 50)]
    for job in (*made[::2], *made[1::2]):
        await jobs.insert_job(db, job)
    async with db.write() as tx:
        await tx.exec_driver_sql("ANALYZE")  # PostgreSQL reads a small table without its index
    wanted = JobFilter(created_after=NOON, created_before=NOON + DAY)

    found = await all_pages(db, wanted, limit=40)

    assert found == [job.id for job in reversed(made)]
