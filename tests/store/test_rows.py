"""Each field of a value has its columns, and each column its field: names are defined once."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from uuid_utils.compat import uuid4

from fleek.domain.attempt import Verdict
from fleek.domain.job import (
    AttemptId,
    BatchId,
    JobError,
    JobId,
    JobWebhook,
    PredictionId,
    Stage,
    Status,
    WorkerId,
)
from fleek.store import deliveries
from fleek.store.batches import BATCH
from fleek.store.endpoints import ENDPOINT
from fleek.store.owed import DELIVERY
from fleek.store.rows import ATTEMPT, JOB, MEDIA, Mapper
from fleek.store.tables import (
    AttemptRow,
    Base,
    BatchRow,
    DeliveryAttemptRow,
    DeliveryRow,
    EndpointRow,
    JobRow,
    MediaRow,
)
from samples import a_file, a_job, an_attempt

LATER = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
ERROR = JobError("prediction_failed", "no such luck")

FULL_JOB = a_job(
    status=Status.PROCESSING,
    stage=Stage.COLLECTING,
    attempt=1,
    retries=2,
    deferrals=3,
    crashes=4,
    collects=5,
    worker_id=WorkerId(uuid4()),
    attempt_id=AttemptId(uuid4()),
    prediction_id=PredictionId("p1"),
    progress=0.5,
    error=ERROR,
    started_at=LATER,
    completed_at=LATER,
    retry_of=JobId(uuid4()),
    purged_at=LATER,
    metadata_purged_at=LATER,
    purging=True,
    webhook=JobWebhook("https://example.com/hook", ("job.failed",)),
    favourite=True,
    tags=("sea", "storm"),
    reused_from=JobId(uuid4()),
    content=b"digest",
    batch_id=BatchId(uuid4()),
    batch_index=7,
    version=6,
)
FULL_ATTEMPT = an_attempt(
    FULL_JOB,
    timeout=timedelta(seconds=1.5),
    provider_time=LATER,
    prediction_id=PredictionId("p1"),
    first_look_at=LATER,
    result={"outputs": []},
    verdict=Verdict.LOST,
    error=ERROR,
    cancel_owed=True,
    metrics={"seconds": 1},
)
FULL_FILE = a_file(FULL_JOB, width=1, height=2, duration_seconds=3.5)


@pytest.mark.parametrize(
    ("mapper", "table"),
    [
        (JOB, JobRow),
        (ATTEMPT, AttemptRow),
        (MEDIA, MediaRow),
        (DELIVERY, DeliveryRow),
        (deliveries.ATTEMPT, DeliveryAttemptRow),
        (ENDPOINT, EndpointRow),
        (BATCH, BatchRow),
    ],
)
def test_the_columns_are_those_of_the_table(mapper: Mapper[Any], table: type[Base]) -> None:
    """A field without a column, or a column without a field, is an error."""
    assert sorted(mapper.columns) == sorted(column.name for column in table.__table__.c)


@pytest.mark.parametrize(
    ("mapper", "value"),
    [
        (JOB, a_job()),
        (JOB, FULL_JOB),
        (ATTEMPT, an_attempt(a_job())),
        (ATTEMPT, FULL_ATTEMPT),
        (MEDIA, a_file(FULL_JOB)),
        (MEDIA, FULL_FILE),
    ],
)
def test_a_value_is_read_as_it_was_written(mapper: Mapper[Any], value: Any) -> None:
    """With all optional fields, and without."""
    assert mapper.read(mapper.values(value)) == value


@pytest.mark.parametrize(
    ("mapper", "before", "after"),
    [(JOB, a_job(), FULL_JOB), (ATTEMPT, an_attempt(a_job()), FULL_ATTEMPT)],
)
def test_an_update_sets_no_immutable_column(mapper: Mapper[Any], before: Any, after: Any) -> None:
    """A caller's request is written once; new fields count as mutable by default."""
    changes = mapper.changes(after)

    assert tuple(changes) == mapper.changing
    assert changes.items() <= mapper.values(after).items()
    assert not changes.keys() & {"id", "provider", "model", "input", "nonce", "request_hash"}
    assert mapper.read({**mapper.values(before), **changes}) != before


def test_an_unstorable_text_is_made_storable() -> None:
    """A provider's message may contain U+0000."""
    job = a_job(error=JobError("prediction_failed", "a\0b"))

    assert JOB.values(job)["error_message"] == "a\N{REPLACEMENT CHARACTER}b"


def test_a_member_of_a_newer_release_is_named_in_the_error() -> None:
    """Both releases run for a while during an upgrade, and an operator reads this in the log."""
    row = {**JOB.values(a_job()), "status": "suspended"}

    with pytest.raises(ValueError, match="'suspended' is not a valid Status"):
        JOB.read(row)
