"""The states of a prediction, computed from the clock."""

import math
from typing import Any

import pytest

from fleek.emulator.plan import Plan
from fleek.emulator.predictions import Prediction, ledger_row
from fleek.emulator.replicate.representation import present


def a_prediction(**changes: Any) -> Prediction:
    """Return a prediction, created at 1000, that starts at 1010 and ends at 1030."""
    fields: dict[str, Any] = {
        "seq": 0,
        "id": "p",
        "model": "a/b",
        "version": "hidden",
        "input": {"prompt": "a cat"},
        "created": 1000.0,
        "queue": 10.0,
        "work": 20.0,
        "shape": "list",
        "extension": "png",
        "images": 2,
        "base": "http://emulator",
        "request_hash": "h",
        "token": "t",
        "running_limit": 1800.0,
    }
    return Prediction(**fields | changes)


def test_a_prediction_runs_from_starting_to_succeeded() -> None:
    """The normal sequence."""
    prediction = a_prediction()

    statuses = [prediction.status(now) for now in (1000, 1010, 1029.9, 1030)]

    assert statuses == ["starting", "processing", "processing", "succeeded"]
    assert prediction.history(1030) == [
        (1000, "starting"),
        (1010, "processing"),
        (1030, "succeeded"),
    ]


@pytest.mark.parametrize(
    ("changes", "end", "heading"),
    [
        ({}, "succeeded", "succeeded"),
        ({"cancelled": 1005}, "canceled", "canceled_before_start"),
        ({"cancelled": 1015}, "canceled", "canceled_after_start"),
        ({"cancelled": 1099}, "succeeded", "succeeded"),
        ({"deadline": 1005}, "aborted", "aborted"),
        ({"deadline": 1015}, "canceled", "canceled_after_start"),
        ({"traits": {"fail_start": ""}}, "failed", "failed_after_start"),
        ({"traits": {"fail_mid": ""}}, "failed", "failed_after_start"),
        ({"traits": {"nsfw": ""}}, "failed", "failed_after_start"),
        ({"traits": {"aborted": ""}}, "aborted", "aborted"),
        ({"traits": {"stuck_processing": ""}}, "failed", "failed_after_start"),
        ({"traits": {"stuck_processing": ""}, "released": 1500}, "succeeded", "succeeded"),
        ({"traits": {"stuck_starting": ""}, "released": 1500}, "succeeded", "succeeded"),
        ({"traits": {"stuck_starting": ""}, "deadline": 1500}, "aborted", "aborted"),
        ({"traits": {"cold_start": "600"}}, "succeeded", "succeeded"),
        ({"work": 5000}, "failed", "failed_after_start"),
    ],
)
def test_each_end_has_its_billing_category(
    changes: dict[str, Any], end: str, heading: str
) -> None:
    """The price depends on the end, and on whether it had started."""
    prediction = a_prediction(**changes)

    late = 10_000.0

    assert prediction.status(late) == end
    assert prediction.bill(late) == heading


def test_a_prediction_that_never_starts_never_ends() -> None:
    """Only a deadline, a cancellation or the control API ends it."""
    prediction = a_prediction(traits={"stuck_starting": ""})

    assert prediction.status(math.inf - 1) in ("starting", "succeeded")
    assert prediction.status(1e12) == "starting"
    assert prediction.bill(1e12) is None


def test_the_bill_follows_the_plan() -> None:
    """Billing rules are configurable."""
    plan = Plan(billing={"succeeded": 3}, price_usd=0.5)

    row = ledger_row(a_prediction(), plan, 1030)

    assert (row["billed"], row["billed_usd"]) == (3, 1.5)


def test_a_running_prediction_is_not_billed_yet() -> None:
    """The bill is recorded at the end."""
    row = ledger_row(a_prediction(), Plan(), 1020)

    assert (row["heading"], row["billed"]) == (None, 0)


def test_data_are_removed_after_the_retention() -> None:
    """The record stays without input, output and logs."""
    shown = present(a_prediction(), Plan(retention_seconds=60), 1090)

    assert shown["data_removed"] is True
    assert (shown["input"], shown["output"], shown["logs"]) == ({}, None, "")
    assert shown["status"] == "succeeded"


def test_the_logs_contain_the_progress() -> None:
    """Both official clients parse the last line of this form."""
    shown = present(a_prediction(), Plan(), 1020)

    assert shown["logs"].splitlines()[-1].startswith(" 50%|█████     | 10/20 ")


def test_metrics_come_with_the_end() -> None:
    """The queue counts in total_time only."""
    running, ended = (present(a_prediction(), Plan(), now) for now in (1020, 1030))

    assert running["metrics"] == {}
    assert ended["metrics"] == {"predict_time": 20, "total_time": 30, "image_count": 2}


def test_an_unknown_status_while_running() -> None:
    """Clients must not take it for an end."""
    prediction = a_prediction(traits={"unknown_status": "migrating"})

    statuses = [present(prediction, Plan(), now)["status"] for now in (1000, 1020, 1030)]

    assert statuses == ["starting", "migrating", "succeeded"]


def test_a_completion_before_the_creation() -> None:
    """Clocks of different machines disagree."""
    prediction = a_prediction(traits={"completed_before_created": ""})

    shown = present(prediction, Plan(), 1030)

    assert shown["completed_at"] < shown["created_at"]


def test_the_clock_offset_shifts_reported_times_only() -> None:
    """Durations do not change."""
    shown = present(a_prediction(), Plan(clock_offset_seconds=600), 1030)

    assert shown["created_at"] == "1970-01-01T00:26:40.000000Z"
    assert shown["metrics"]["total_time"] == 30


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ("list", ["http://emulator/out/p/0.png", "http://emulator/out/p/1.png"]),
        ("string", "http://emulator/out/p/0.png"),
        ("null", None),
        ("empty_list", []),
        ("empty_string", ""),
        ("text", "Once upon a time there was a ledger."),
        ("dead_links", ["http://emulator/out/p/0.png.gone", "http://emulator/out/p/1.png.gone"]),
    ],
)
def test_outputs_come_in_every_shape(shape: str, expected: Any) -> None:
    """Models differ in what they return."""
    shown = present(a_prediction(shape=shape), Plan(), 1030)

    assert shown["output"] == expected


def test_files_may_be_on_another_host() -> None:
    """So lists of allowed hosts can be tested."""
    shown = present(a_prediction(), Plan(), 1030, delivery="http://files")

    assert shown["output"][0] == "http://files/out/p/0.png"
