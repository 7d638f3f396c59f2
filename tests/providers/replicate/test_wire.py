"""Predictions of the API are untrusted."""

from typing import Any

import pytest

from fleek.providers.base import Failed, Succeeded
from fleek.providers.replicate.wire import read_prediction


@pytest.mark.parametrize("wrong", [None, 7, True, "", "../x", "a b", "x" * 129, "é", ["a"]])
def test_a_prediction_needs_a_valid_id(wrong: Any) -> None:
    """The id becomes part of a path."""
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
def test_an_unclear_status_is_not_final(body: dict[str, Any]) -> None:
    """Nothing unreadable ends a job."""
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
def test_progress_is_read_from_tqdm(logs: Any, progress: float | None) -> None:
    """The last line counts, if there is one."""
    seen = read_prediction({"id": "abc", "status": "processing", "logs": logs})

    assert seen is not None
    assert seen.progress == progress


def test_metrics_are_limited_to_storable_values() -> None:
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


def test_a_deeply_nested_output_fails_the_prediction() -> None:
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
def test_failure_codes_are_stable(body: dict[str, Any], code: str) -> None:
    """They are public."""
    seen = read_prediction({"id": "abc", **body})

    assert seen is not None
    assert isinstance(seen.outcome, Failed)
    assert seen.outcome.code == code


def test_an_output_with_removed_inputs_still_counts() -> None:
    """Only a missing output is lost."""
    body = {"id": "abc", "status": "succeeded", "output": "words", "data_removed": True}

    seen = read_prediction(body)

    assert seen is not None
    assert isinstance(seen.outcome, Succeeded)
