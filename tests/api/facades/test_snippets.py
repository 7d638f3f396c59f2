"""Examples and much-read snippets of each client for Python, in our words, in that client's own environment.

What is refused is part of the results, and of the pages in `docs/how-to`.
"""

from collections.abc import Callable
from typing import Any

from facade_site import KEY, Site
from fakes import PNG
from fleek.emulator.replicate.models import BY_NAME

RunProgram = Callable[..., dict[str, Any]]
STORY = "Once upon a time there was a ledger."


def test_replicates_snippets_work(run_program: RunProgram, site: Site) -> None:
    """With two variables of the environment."""
    received = len(site.hook.received)
    version = BY_NAME["stability-ai/sdxl"].version
    results = run_program(
        *("replicate", "replicate_snippets.py", version, PNG.hex(), site.hook.url),
        REPLICATE_BASE_URL=f"{site.base}/replicate",
        REPLICATE_API_TOKEN=KEY,
    )
    prediction_id = results.pop("asks_for_a_webhook")

    assert results == {
        "saves_each_output": "WEBP",
        "downloads_addresses": [True, "image/webp"],
        "runs_a_pinned_version": [True, True],
        "runs_four_at_once": 4,
        "streams_words": STORY,
        "streams_asynchronously": STORY,
        "joins_what_a_language_model_says": STORY,
        "follows_a_prediction": ["starting", "succeeded", "https:", True, True],
        "waits_for_a_prediction": ["succeeded", True],
        "feeds_one_model_with_another": "PNG",
        "sends_an_open_file": ["PNG", "PNG"],
        "enlarges_a_picture": ["PNG", ["image"], False],
        "cancels": "canceled",
        "lists_predictions": True,
        "lists_models": [True, []],
        "looks_up_the_schema": ["aspect_ratio", "num_inference_steps", "num_outputs"],
        "handles_a_failure": ["failed", True, True, 36],
        "handles_a_refusal": [401, 404, 404],
        "opens_an_own_client": "PNG",
        "calls_the_api_itself": [201, "succeeded", 1],
        "is_refused": {
            "no prompt, for a model that needs one": 422,
            "training": 404,
            "creation of a model": 405,
            "deployments.get": 404,
            "collections.get": 404,
        },
    }
    site.call(site.hook.wait_for(received + 1))
    assert site.hook.received[-1].event["id"] == prediction_id


def test_openais_snippets_work(run_program: RunProgram, site: Site) -> None:
    """With two variables of the environment."""
    results = run_program("openai", "openai_snippets.py", PNG.hex(), **_openai(site))

    assert results == {
        "makes_an_image_with_an_address": ["image/png", "https://", True],
        "saves_an_image": "WEBP",
        "streams_an_image": ["image_generation.completed"],
        "edits_an_image": ["PNG", "PNG"],
        "makes_images_at_once": 3,
        "says_something_to_a_file": ["RIFF", "RIFF", "RIFF"],
        "says_something_in_parts": True,
        "makes_a_video": ["completed", True, "ftyp"],
        "makes_a_video_and_waits": ["completed", "8", "1280x720"],
        "lists_and_deletes_videos": [True, True, False],
        "handles_errors": [
            ["BadRequestError", 400, "invalid_value", True],
            ["BadRequestError", 400, "moderation_blocked", True],
            ["AuthenticationError", 401, "invalid_api_key", True],
            ["NotFoundError", 404, "model_not_found", True],
            "APIConnectionError",
        ],
        "reads_raw_answers": ["user", 1, "POST"],
        "uses_the_module": "https://",
        "lists_models": [True, "tts-1"],
        "calls_the_api_itself": [200, ["b64_json"]],
        "is_refused": {
            "images.create_variation": 404,
            "a mask for a model without one": 400,
            "two pictures for a model of one": 400,
            "videos.remix": 404,
            "a thumbnail": 400,
            "speech as events": 400,
            "chat": 404,
            "transcription": 404,
            "responses": 404,
        },
    }


def test_openais_client_repeats_and_pays_once(run_program: RunProgram, site: Site) -> None:
    """The answers of two tries of the first call are lost; the second call is another."""
    site.line.lose = 2

    results = run_program("openai", "openai_snippets.py", PNG.hex(), "lost", **_openai(site))

    assert (results, site.line.lost) == ({"lost": True}, 2)
    assert site.purchases("snippet lost") == 2


def _openai(site: Site) -> dict[str, str]:
    return {"OPENAI_BASE_URL": f"{site.base}/openai/v1", "OPENAI_API_KEY": KEY}


def test_fals_snippets_work(run_program: RunProgram, site: Site) -> None:
    """With three variables of the environment."""
    received = len(site.hook.received)
    host = site.base.removeprefix("https://")
    results = run_program(
        *("fal", "fal_snippets.py", PNG.hex(), site.hook.url),
        FAL_RUN_HOST=f"{host}/fal",
        FAL_QUEUE_RUN_HOST=f"{host}/fal-queue",
        FAL_KEY=KEY,
    )
    request_id = results.pop("asks_for_a_webhook")

    assert results == {
        "subscribes_with_logs": ["Completed", 4, 6252023, [False] * 4],
        "downloads_the_first_image": ["WEBP", "image/webp"],
        "submits_then_asks": 1,
        "follows_events": ["Completed", 1],
        "follows_events_asynchronously": ["Completed", 1],
        "runs_many_at_once": 4,
        "streams": [1, 1],
        "edits_a_picture": ["image/png", True],
        "enlarges_a_picture": ["image/png", ""],
        "makes_a_video": "video/mp4",
        "opens_an_own_client": 1,
        "cancels": ["Completed", "request_cancelled"],
        "handles_errors": [422, 422, 401],
        "calls_the_api_itself": ["url", "content_type"],
        "is_refused": {
            "an argument that the model lacks": 422,
            "no prompt, for a model that needs one": 422,
            "an unknown application": 404,
        },
    }
    site.call(site.hook.wait_for(received + 1))
    assert site.hook.received[-1].event["request_id"] == request_id
