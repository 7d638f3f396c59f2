"""Responses of the server are untrusted."""

import json
from typing import Any

import pytest

from fleek.domain.media import Output
from fleek.providers.base import Failed, Prediction, Succeeded
from fleek.providers.cog.runs import KEPT_SECONDS, ResultCache
from fleek.providers.cog.wire import MESSAGE_CHARS, parse_prediction

ID = "0" * 32
PNG = "data:image/png;base64,iVBORw0KGgo="


def response(**fields: Any) -> Prediction:
    """Parse a response with these fields."""
    return parse_prediction(json.dumps({"id": ID, **fields}).encode())


@pytest.mark.parametrize(
    ("logs", "progress"),
    [
        ("", None),
        (None, None),
        ("hello", None),
        (" 10%|# | 1/10\n 50%|#####| 5/10\n", 0.5),
        ("step 3/8", 0.38),
        ("120%", 1.0),
        ("9/8", None),
        ("0/0", None),
        ("2026/11/21", None),
    ],
)
def test_progress_is_read_from_the_log(logs: Any, progress: float | None) -> None:
    """The last match counts."""
    assert response(status="processing", logs=logs).progress == progress


@pytest.mark.parametrize("status", ["starting", "processing", "a word of tomorrow"])
def test_running_predictions_have_no_outcome(status: str) -> None:
    """An unknown status is not final."""
    assert response(status=status).outcome is None


@pytest.mark.parametrize(
    ("error", "message", "retryable"),
    [
        ("Prediction failed: Prediction failed: ValueError: no", "ValueError: no", False),
        ("Async prediction failed: ValueError: no", "ValueError: no", False),
        ("Prediction failed: CUDA error: out of memory", "CUDA error: out of memory", True),
        ("Worker crashed", "Worker crashed", True),
        (None, "the Cog server gave no reason", False),
        ("a\0b\ud800", "a b", False),
        ("x" * 5000, "x" * (MESSAGE_CHARS - 1) + "…", False),
    ],
    ids=range(7),
)
def test_a_failure_keeps_the_model_s_message(error: Any, message: str, retryable: bool) -> None:  # noqa: FBT001 - a column of the table
    """Faults of the machine may be temporary; errors of the model are not."""
    assert response(status="failed", error=error).outcome == Failed(
        "prediction_failed", message, retryable=retryable
    )


@pytest.mark.parametrize(
    ("given", "outputs"),
    [
        (None, ()),
        ("", ()),
        ([], ()),
        (PNG, (Output(uri=PNG),)),
        ([PNG, PNG], (Output(uri=PNG),) * 2),
        (
            {"a": {"b": [PNG, "seen", 7]}},
            (Output(uri=PNG), Output(text='{"a": {"b": [{"output": 0}, "seen", 7]}}')),
        ),
        ("https://example.com/a.png", (Output(uri="https://example.com/a.png"),)),
        (["A ", "cat."], (Output(text="A cat."),)),
        ("data: is a word", (Output(text="data: is a word"),)),
        ({"score": 0.5}, (Output(text='{"score": 0.5}'),)),
    ],
    ids=range(10),
)
def test_outputs_of_every_shape_are_read(given: Any, outputs: tuple[Output, ...]) -> None:
    """Files if there are any, else text."""
    assert response(status="succeeded", output=given).outcome == Succeeded(outputs)


def test_only_numeric_metrics_are_kept() -> None:
    """A model may report any JSON."""
    given = {"predict_time": 1.5, "images": 2, "name": "x", "deep": {"a": 1}, "good": True}

    assert response(status="succeeded", metrics=given).metrics == {
        "predict_time": 1.5,
        "images": 2,
    }
    assert response(status="succeeded", metrics=[1]).metrics == {}


def test_a_result_is_cached_until_read_and_some_minutes_more() -> None:
    """Storing it may fail, and then it is read again."""
    now = [0.0]
    answers = ResultCache(lambda: now[0])
    ended = response(status="succeeded", output="a")
    answers.keep(response(status="processing"))
    assert answers.get(ended.id) is None
    answers.keep(ended)
    now[0] += KEPT_SECONDS * 10
    assert answers.get(ended.id) is ended
    now[0] += KEPT_SECONDS
    answers.keep(response(status="processing"))
    assert answers.get(ended.id) is ended
    now[0] += KEPT_SECONDS + 1

    answers.keep(response(status="processing"))

    assert answers.get(ended.id) is None
