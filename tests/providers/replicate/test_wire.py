"""Predictions as the API writes them: nothing about them may be taken for granted."""

from typing import Any

import pytest

from fleek.providers.base import Failed, Succeeded
from fleek.providers.replicate.wire import read_prediction


@pytest.mark.parametrize("wrong", [None, 7, True, "", "../x", "a b", "x" * 129, "é", ["a"]])
def test_without_a_usable_id_it_is_no_prediction(wrong: Any) -> None:
    """The id is asked for again, as part of a path."""
    assert read_prediction({"id": wrong, "status": "succeeded"}) is None


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"status": None},
        {"status": 7, "logs": 7, "metrics": 7, "error": 7},
        {"status": "queued"},
        {"status": "starting", "output": ["https://x.example/y"]},
        {"status": ["succeeded"]},
    ],
)
def test_what_is_not_plainly_an_end_runs(body: dict[str, Any]) -> None:
    """Nothing that cannot be read ends a job."""
    seen = read_prediction({"id": "abc", **body})

    assert seen is not None
    assert seen.outcome is None


@pytest.mark.parametrize(
    ("logs", "progress"),
    [
        ("", None),
        (None, None),
        ("  0%|          | 0/4 [00:00<?]", 0.0),
        ("  0%|  | 0/4 [..]\n 50%|███  | 2/4 [..]\nUsing x", 0.5),
        ("100%|████| 4/4 [..]", 1.0),
        ("120%|████| 9/4 [..]", 1.0),
        ("50%|██| 1/0 [..]", None),
        ("x" * 1_000_000 + "\n 25%|█ | 1/4 [..]", 0.25),
        ("nothing here", None),
    ],
)
def test_progress(logs: Any, progress: float | None) -> None:
    """The last line of tqdm's counts, if there is one."""
    seen = read_prediction({"id": "abc", "status": "processing", "logs": logs})

    assert seen is not None
    assert seen.progress == progress


def test_metrics_hold_only_what_any_database_takes() -> None:
    """They are stored and shown as they are."""
    metrics = {
        "predict_time": 1.5,
        "image_count": 2,
        "nan": float("nan"),
        "huge": 10**30,
        "list": [1],
        "a\0b": "c\0d",
    }
    body = {"id": "abc", "status": "succeeded", "output": "x", "metrics": metrics}

    seen = read_prediction({**body, "logs": "Using seed: 42\nmore"})

    assert seen is not None
    assert seen.metrics == {"predict_time": 1.5, "image_count": 2, "a b": "c d", "seed": 42}


def test_a_reason_is_one_short_line() -> None:
    """It is stored, logged and shown."""
    body = {"id": "abc", "status": "failed", "error": "Traceback\n\0 \ud800" + "x" * 10_000}

    seen = read_prediction(body)

    assert seen is not None
    assert isinstance(seen.outcome, Failed)
    assert seen.outcome.message.startswith("Traceback xxx")
    assert len(seen.outcome.message) <= 2000


def test_an_output_without_end_ends_the_job() -> None:
    """Another attempt would give the same."""
    output: Any = 7
    for _ in range(5000):
        output = [output]

    seen = read_prediction({"id": "abc", "status": "succeeded", "output": output})

    assert seen is not None
    assert isinstance(seen.outcome, Failed)
    assert (seen.outcome.code, seen.outcome.retryable) == ("invalid_output", False)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"status": "canceled"}, "prediction_cancelled"),
        (
            {"status": "canceled", "deadline": "nonsense", "completed_at": 7},
            "prediction_cancelled",
        ),
        (
            {
                "status": "canceled",
                "deadline": "2030-01-01T00:01:00Z",
                "completed_at": "2030-01-01T00:00:30Z",
            },
            "prediction_cancelled",
        ),
        (
            {
                "status": "canceled",
                "deadline": "2030-01-01T00:01:00Z",
                "completed_at": "2030-01-01T00:01:00.2",
            },
            "attempt_timeout",
        ),
        ({"status": "aborted"}, "prediction_aborted"),
        ({"status": "failed"}, "prediction_failed"),
        ({"status": "failed", "error": "(E005) flagged as sensitive"}, "content_flagged"),
    ],
)
def test_codes_of_bad_ends(body: dict[str, Any], code: str) -> None:
    """They are public and stable."""
    seen = read_prediction({"id": "abc", **body})

    assert seen is not None
    assert isinstance(seen.outcome, Failed)
    assert seen.outcome.code == code


def test_an_output_beside_removed_inputs_still_counts() -> None:
    """Only an output that is gone is lost."""
    body = {"id": "abc", "status": "succeeded", "output": "words", "data_removed": True}

    seen = read_prediction(body)

    assert seen is not None
    assert isinstance(seen.outcome, Succeeded)
