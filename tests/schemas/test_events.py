"""Public events: what callers see of a job's history."""

import json

from fleek.domain.transitions import cancel
from fleek.schemas import Addresses, JobRead
from fleek.schemas.events import PUBLIC, EventPresenter, EventType
from samples import NOON, a_job

ADDRESSES = Addresses("https://fleek.example", "https://media.example")
INTERNAL = ("unknown", "adopted", "released", "repeating", "rescheduled", "collecting", "erased")


def test_internal_history_is_not_public() -> None:
    """Callers see what happens to a job, not how the service learns of it."""
    presenter = EventPresenter(ADDRESSES)

    assert [presenter.type_of(line) for line in INTERNAL] == [None] * len(INTERNAL)
    assert set(PUBLIC.values()) == set(EventType)


def test_the_data_of_an_event_is_the_job_as_the_api_returns_it() -> None:
    """Receivers need only one parser."""
    job = cancel(a_job(), now=NOON).job

    event = json.loads(EventPresenter(ADDRESSES).body("cancelled", job, ()))

    read = JobRead.from_job(job, (), ADDRESSES).model_dump(mode="json")
    assert event == {
        "type": "job.cancelled",
        "timestamp": "2026-01-01T12:00:00Z",
        "data": read,
    }
