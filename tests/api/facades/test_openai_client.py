"""OpenAI's official Python client, unmodified, with the facade: a process and an environment of its own."""

import asyncio
import json
from collections.abc import Callable, Generator
from typing import Any, Final

import httpx2
import pytest
from sqlalchemy import text

from facade_site import KEY, Site
from fakes import PNG
from fleek.domain.job import Job, Status
from fleek.store import listing
from service_process import PATIENCE, until

FLUX: Final = "black-forest-labs/flux-schnell"

RunProgram = Callable[..., dict[str, Any]]
Check = Callable[..., dict[str, Any]]


@pytest.fixture
def check(run_program: RunProgram, site: Site) -> Check:
    """Return a function that runs checks with the client; only the address and the key are ours."""

    def check(*checks: str, prompt: str = "") -> dict[str, Any]:
        return run_program(
            *("openai", "openai_checks.py", PNG.hex(), prompt, *checks),
            OPENAI_BASE_URL=f"{site.base}/openai/v1",
            OPENAI_API_KEY=KEY,
        )

    return check


@pytest.fixture
def plain(site: Site) -> Generator[httpx2.Client]:
    """Open a client that adds nothing."""
    headers = {"Authorization": f"Bearer {KEY}"}
    with httpx2.Client(
        base_url=f"{site.base}/openai/v1", headers=headers, timeout=PATIENCE
    ) as client:
        yield client


def job_of(site: Site, prompt: str) -> Job:
    """Return the only job with a prompt."""
    (job,) = jobs_of(site, prompt)
    return job


def jobs_of(site: Site, prompt: str) -> list[Job]:
    """Return the jobs with a prompt."""
    return [job for job in site.jobs() if job.prompt == prompt]


def test_images_are_made(check: Check, site: Site) -> None:
    """What the model has is translated; the rest is ignored, and a header says so."""
    results = check("translated_images", "image_addresses", "streamed_images")

    job = job_of(site, "two images")
    assert (job.model, job.status) == (FLUX, Status.COMPLETED)
    assert dict(job.input) == {
        "num_outputs": 2,
        "aspect_ratio": "4:3",
        "output_format": "jpg",
        "output_quality": 70,
        "seed": 7,
    }
    ignored, adjusted = "moderation, quality", "size=1536x1024 to aspect_ratio=4:3"
    assert results == {
        "translated_images": [str(job.id), ignored, adjusted, 2, "jpeg", "64x64"],
        "image_addresses": "PNG",
        "streamed_images": [["image_generation.completed"], ["PNG"], True],
    }
    assert site.purchases("two images") == 1


def test_images_are_edited(check: Check, site: Site) -> None:
    """Files become uploads, whether one or several are sent."""
    results = check("edited_images")

    inputs = [dict(job_of(site, f"edit {what}").input) for what in ("one", "a list")]
    reference = inputs[0].pop("image_prompt")
    assert inputs == [{"aspect_ratio": "1:1"}, {"image_prompt": reference}]
    assert reference.startswith("upload:")
    refusals = results["edited_images"]
    assert [(kind, parameter) for kind, _, parameter in refusals] == [
        ("BadRequestError", "image"),
        ("BadRequestError", "mask"),
    ]


def test_a_video_is_created_polled_listed_downloaded_and_deleted(check: Check, site: Site) -> None:
    """It is an ordinary job under the name that was asked for."""
    results = check("videos")

    prompt = "[[emu:predict=1]] a video"
    assert results["videos"] == {
        "id": f"video_{job_of(site, prompt).id}",
        "accepted": True,
        "ended": ["completed", 100, "sora-2"],
        "repeated": ["4", "720x1280", prompt],
        "listed": True,
        "oldest": True,
        "content": "ftyp",
        "deleted": True,
        "gone": ["NotFoundError"] * 3,
        "still listed": False,
    }


def test_a_video_takes_a_picture(check: Check, plain: httpx2.Client, site: Site) -> None:
    """As a file, or, which this client cannot send, as an address."""
    results = check("video_from_a_file")
    reference = {"image_url": "https://example.com/a.png"}
    body = {"prompt": "from an address", "model": "sora-2", "input_reference": reference}
    assert plain.post("/videos", json=body).status_code == 200

    values = [
        job_of(site, prompt).input["first_frame_image"]
        for prompt in ("from a file", "from an address")
    ]
    assert results == {"video_from_a_file": None}
    assert values[0].startswith("upload:")
    assert values[1] == "https://example.com/a.png"


def test_deleting_a_video_that_is_made_cancels_it(check: Check, site: Site) -> None:
    """Nothing goes on for what nobody can fetch."""
    results = check("video_that_is_cancelled")

    assert results == {"video_that_is_cancelled": ["ConflictError", "not_completed", None]}
    assert job_of(site, "[[emu:predict=60]] cancel a video").status is Status.CANCELLED


def test_speech_is_a_file_and_models_are_listed(check: Check, site: Site) -> None:
    """Sound is of the type that the model makes; what it lacks is ignored, and said so."""
    results = check("speech", "models")

    assert results == {
        "speech": ["RIFF", "audio/wav", "response_format, speed, voice"],
        "models": [
            True,
            [FLUX, "replicate", "sora-2"],
            ["NotFoundError", "model_not_found", "model"],
        ],
    }
    assert job_of(site, "Good morning").model.startswith("meta/musicgen:")


def test_failures_are_raised_once(check: Check, site: Site) -> None:
    """A job that has failed is not tried again by the client: each try could be paid for."""
    results = check("failures", "wrong_key")

    flagged = ["BadRequestError", "moderation_blocked", None]
    assert results == {
        "failures": [flagged, "false", "failed", "moderation_blocked"],
        "wrong_key": ["AuthenticationError", "invalid_api_key", None],
    }
    assert len(jobs_of(site, "[[emu:fail_start*9]] say")) == 1


REFUSED: Final = [
    ({"prompt": "x", "model": "gpt-image-1", "colour": 1}, "colour", "unknown_parameter"),
    ({"prompt": "x", "model": "gpt-image-1", "n": 9}, "n", None),
    ({"prompt": "x", "model": "gpt-image-1", "n": 0}, "n", "invalid_value"),
    ({"prompt": "x", "model": "gpt-image-1-mini", "n": 2}, "n", "invalid_value"),
    ({"prompt": "x", "model": "gpt-image-1", "size": "big"}, "size", "invalid_value"),
    ({"prompt": "x", "model": "gpt-image-1", "output_format": "svg"}, "output_format", None),
    ({"prompt": "x", "model": "gpt-image-1", "response_format": "x"}, "response_format", None),
    ({"prompt": "x", "model": "gpt-image-1", "stream": 1}, "stream", "invalid_value"),
    ({"prompt": "x", "model": 7}, "model", "invalid_value"),
    ({"prompt": " ", "model": "gpt-image-1"}, "prompt", "invalid_value"),
    ({"model": "gpt-image-1"}, "prompt", "missing_required_parameter"),
]


def test_refusals_name_the_parameter(
    plain: httpx2.Client, site: Site, subtests: pytest.Subtests
) -> None:
    """In OpenAI's form, with 400 and without a retry; nothing is made."""
    before = len(site.jobs())
    for body, parameter, code in REFUSED:
        with subtests.test(body=body):
            answer = plain.post("/images/generations", json=body)

            error = answer.json()["error"]
            assert (answer.status_code, error["param"]) == (400, parameter), error
            assert error["type"] == "invalid_request_error"
            assert code in {None, error["code"]}
            assert answer.headers["x-should-retry"] == "false"
    assert len(site.jobs()) == before


def test_errors_have_the_services_form_everywhere(plain: httpx2.Client) -> None:
    """Unknown paths, wrong methods, wrong keys, bodies that are none."""
    answers = {
        "unknown_model": plain.post(
            "/images/generations", json={"prompt": "x", "model": "none such!"}
        ),
        "path": plain.post("/chat/completions", json={}),
        "root": plain.get("/../nothing"),
        "method": plain.put("/videos"),
        "key": plain.get("/models", headers={"Authorization": "Bearer wrong"}),
        "json": plain.post(
            "/images/generations", content=b"{", headers={"content-type": "application/json"}
        ),
        "form": plain.post("/images/edits", json={}),
        "no image": plain.post("/images/edits", files={"prompt": (None, "x")}),
        "video": plain.get("/videos/video_x"),
        "query": plain.get("/videos?limit=0"),
        "variant": plain.get("/videos/x/content?variant=thumbnail"),
    }

    found = {name: (answer.status_code, _code(answer)) for name, answer in answers.items()}
    assert found == {
        "unknown_model": (404, "model_not_found"),
        "path": (404, "not_found"),
        "root": (404, "not_found"),
        "method": (405, "method_not_allowed"),
        "key": (401, "invalid_api_key"),
        "json": (400, "unreadable"),
        "form": (400, "unreadable"),
        "no image": (400, "missing_required_parameter"),
        "video": (404, "not_found"),
        "query": (400, "invalid_input"),
        "variant": (400, "invalid_value"),
    }


def _code(answer: httpx2.Response) -> Any:
    error = json.loads(answer.content)["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    return error["code"]


@pytest.mark.parametrize(
    ("call", "moment"),
    [
        ("image", "before"),
        ("image", "accepted"),
        ("edit", "accepted"),
        ("video", "before"),
        ("speech", "accepted"),
    ],
)
def test_the_clients_own_retries_pay_once(
    check: Check, site: Site, call: str, moment: str
) -> None:
    """The answers of its first two tries are lost: before the job is accepted, and after."""
    prompt, name = f"lost {call} {moment}", f"lost_{call}"

    async def accepted() -> None:
        while not any(job.prompt == prompt for job in await _all(site)):
            await asyncio.sleep(0.01)

    site.line.losing = None if moment == "before" else accepted
    site.line.lose = 2

    first = check(name, prompt=prompt)[name]
    lost = site.line.lost
    made = [str(job.id) for job in jobs_of(site, prompt)]
    second = check(name, prompt=prompt)[name]

    assert (lost, made) == (2, [first])
    assert len(jobs_of(site, prompt)) == 2  # the second call was meant as another
    assert second != first
    until(lambda: site.purchases(prompt) == 2, why=lambda: str(site.purchases(prompt)))


async def _all(site: Site) -> list[Job]:
    page = await listing.page(site.rt.db, tenant_id="default", limit=100)
    return [view.job for view in page.views]


def test_equal_calls_are_separate_unless_they_have_a_key(check: Check, site: Site) -> None:
    """Those that were meant as several are several jobs; a caller's own key counts."""
    results = check("at_once", "keyed")

    assert results == {"at_once": 3, "keyed": 1}
    assert site.purchases("openai at once") == 3
    assert len(jobs_of(site, "keyed")) == 1


def test_a_retry_finds_a_job_that_takes_longer_than_two_minutes(
    plain: httpx2.Client, site: Site
) -> None:
    """It was accepted long ago, by a process that is not there any more, and has not ended."""
    prompt = "[[emu:predict=60]] long"
    body = {"model": "sora-2", "prompt": prompt}
    first = plain.post("/videos", json=body)
    site.call(_age(site))

    again = plain.post("/videos", json=body, headers={"x-stainless-retry-count": "1"})
    other = plain.post("/videos", json=body)

    assert again.json()["id"] == first.json()["id"] != other.json()["id"]
    for answer in (first, other):
        plain.delete(f"/videos/{answer.json()['id']}")


async def _age(site: Site) -> None:
    """Make all requests ten minutes older."""
    older = "strftime('%Y-%m-%d %H:%M:%f', created_at, '-10 minutes') || '000'"
    async with site.rt.db.write() as tx:
        await tx.execute(text(f"UPDATE unkeyed_requests SET created_at = {older}"))  # noqa: S608 - ours
