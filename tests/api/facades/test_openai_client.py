"""OpenAI's official Python client, unmodified, with the facade."""

import asyncio
import base64
import json
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import httpx2
import openai
import pytest
from openai import OpenAI
from sqlalchemy import text

from facade_site import KEY, Site
from fakes import PNG
from fleek.domain.job import Job, Status
from fleek.store import listing
from service_process import until

WEBP: Final = b"RIFF"
FLUX: Final = "black-forest-labs/flux-schnell"

pytestmark = pytest.mark.filterwarnings("ignore:The Sora API:DeprecationWarning")


@pytest.fixture
def client(site: Site) -> Generator[OpenAI]:
    """Open the client; only the address and the key are ours."""
    with OpenAI(api_key=KEY, base_url=f"{site.base}/openai/v1") as client:
        yield client


@pytest.fixture
def plain(site: Site) -> Generator[httpx2.Client]:
    """Open a client that adds nothing."""
    headers = {"Authorization": f"Bearer {KEY}"}
    with httpx2.Client(base_url=f"{site.base}/openai/v1", headers=headers) as client:
        yield client


def job_of(site: Site, prompt: str) -> Job:
    """Return the only job with a prompt."""
    (job,) = jobs_of(site, prompt)
    return job


def jobs_of(site: Site, prompt: str) -> list[Job]:
    """Return the jobs with a prompt."""
    return [job for job in site.jobs() if job.prompt == prompt]


def test_images_are_made_and_translated(client: OpenAI, site: Site) -> None:
    """What the model has is translated; the rest is ignored, and a header says so."""
    answer = client.images.with_raw_response.generate(
        model="gpt-image-1",
        prompt="two images",
        n=2,
        size="1536x1024",
        quality="high",
        moderation="low",
        output_format="jpeg",
        output_compression=70,
        extra_body={"seed": 7},
    )
    images = answer.parse()

    job = job_of(site, "two images")
    assert (job.model, job.status) == (FLUX, Status.COMPLETED)
    assert dict(job.input) == {
        "num_outputs": 2,
        "aspect_ratio": "4:3",
        "output_format": "jpg",
        "output_quality": 70,
        "seed": 7,
    }
    assert answer.headers["x-fleek-job"] == str(job.id)
    assert answer.headers["x-fleek-ignored"] == "moderation, quality"
    assert answer.headers["x-fleek-adjusted"] == "size=1536x1024 to aspect_ratio=4:3"
    assert images.data is not None
    assert len({each.b64_json for each in images.data}) == 2
    assert (images.output_format, images.size) == ("jpeg", "64x64")
    assert site.purchases("two images") == 1


def test_images_have_addresses_on_request(client: OpenAI) -> None:
    """They are read without a key."""
    images = client.images.generate(
        model="gpt-image-1-mini", prompt="address", response_format="url"
    )

    assert images.data is not None
    url = images.data[0].url
    assert url is not None
    assert httpx2.get(url).content.startswith(b"\x89PNG")


def test_images_are_edited(client: OpenAI, site: Site) -> None:
    """Files become uploads, whether one or several are sent."""
    client.images.edit(
        model="gpt-image-1-mini", prompt="edit one", image=("a.png", PNG), size="1024x1024"
    )
    client.images.edit(model="gpt-image-1-mini", prompt="edit a list", image=[("a.png", PNG)])
    with pytest.raises(openai.BadRequestError) as several:
        client.images.edit(
            model="gpt-image-1-mini", prompt="x", image=[("a.png", PNG), ("b.png", PNG)]
        )
    with pytest.raises(openai.BadRequestError) as masked:
        client.images.edit(
            model="gpt-image-1-mini", prompt="x", image=("a.png", PNG), mask=("m.png", PNG)
        )

    inputs = [dict(job_of(site, f"edit {what}").input) for what in ("one", "a list")]
    reference = inputs[0].pop("image_prompt")
    assert inputs == [{"aspect_ratio": "1:1"}, {"image_prompt": reference}]
    assert reference.startswith("upload:")
    assert (several.value.param, masked.value.param) == ("image", "mask")


def test_images_are_streamed(client: OpenAI) -> None:
    """The last event has the image; a failure is raised."""
    events: list[Any] = list(
        client.images.generate(model="gpt-image-1-mini", prompt="stream", stream=True)
    )
    with pytest.raises(openai.APIError, match="NSFW"):
        list(
            client.images.generate(
                model="gpt-image-1-mini", prompt="[[emu:nsfw]] stream", stream=True
            )
        )

    assert [event.type for event in events] == ["image_generation.completed"]
    assert base64.b64decode(events[0].b64_json).startswith(b"\x89PNG")


def test_a_video_is_created_polled_listed_downloaded_and_deleted(
    client: OpenAI, site: Site
) -> None:
    """It is an ordinary job under the name that was asked for."""
    made = client.videos.create(
        prompt="[[emu:predict=1]] a video", model="sora-2", seconds="4", size="720x1280"
    )
    polled = client.videos.poll(made.id)
    second = client.videos.create_and_poll(prompt="second video", model="sora-2")
    pages = list(client.videos.list(limit=1))
    oldest = next(iter(client.videos.list(order="asc", limit=1)))
    content = client.videos.download_content(made.id).read()

    job = job_of(site, "[[emu:predict=1]] a video")
    assert made.id == f"video_{job.id}"
    assert made.status in {"queued", "in_progress"}
    assert (polled.status, polled.progress, polled.model) == ("completed", 100, "sora-2")
    assert (polled.seconds, polled.size, polled.prompt) == ("4", "720x1280", job.prompt)
    assert [one.id for one in pages][:2] == [second.id, made.id]
    assert oldest.id == pages[-1].id
    assert content[4:8] == b"ftyp"
    assert client.videos.delete(made.id).deleted
    for call in (client.videos.retrieve, client.videos.download_content, client.videos.delete):
        with pytest.raises(openai.NotFoundError):
            call(made.id)
    assert made.id not in [one.id for one in client.videos.list()]


def test_a_video_takes_a_picture(client: OpenAI, plain: httpx2.Client, site: Site) -> None:
    """As a file, or, which this client cannot send, as an address."""
    client.videos.create(prompt="from a file", model="sora-2", input_reference=("a.png", PNG))
    reference = {"image_url": "https://example.com/a.png"}
    body = {"prompt": "from an address", "model": "sora-2", "input_reference": reference}
    assert plain.post("/videos", json=body).status_code == 200

    values = [
        job_of(site, prompt).input["first_frame_image"]
        for prompt in ("from a file", "from an address")
    ]
    assert values[0].startswith("upload:")
    assert values[1] == "https://example.com/a.png"


def test_deleting_a_video_that_is_made_cancels_it(client: OpenAI, site: Site) -> None:
    """Nothing goes on for what nobody can fetch."""
    made = client.videos.create(prompt="[[emu:predict=60]] cancel a video", model="sora-2")

    with pytest.raises(openai.ConflictError) as early:
        client.videos.download_content(made.id)
    client.videos.delete(made.id)

    assert early.value.code == "not_completed"
    assert job_of(site, "[[emu:predict=60]] cancel a video").status is Status.CANCELLED


def test_speech_is_a_file(client: OpenAI, site: Site) -> None:
    """Of the type that the model makes; what it lacks is ignored, and said so."""
    answer = client.audio.speech.with_raw_response.create(
        model="tts-1", input="Good morning", voice="alloy", response_format="wav", speed=1.5
    )

    assert answer.content.startswith(WEBP)
    assert answer.headers["content-type"] == "audio/wav"
    assert answer.headers["x-fleek-ignored"] == "response_format, speed, voice"
    assert job_of(site, "Good morning").model.startswith("meta/musicgen:")


def test_models_are_listed(client: OpenAI) -> None:
    """Aliases and the models of providers."""
    names = [model.id for model in client.models.list()]
    one = client.models.retrieve(FLUX)
    alias = client.models.retrieve("sora-2")
    with pytest.raises(openai.NotFoundError) as missing:
        client.models.retrieve("no such/model at all")

    assert {"gpt-image-1", "sora-2", FLUX} <= set(names)
    assert (one.id, one.owned_by, alias.id) == (FLUX, "replicate", "sora-2")
    assert missing.value.code == "model_not_found"


def test_failures_are_raised_once(client: OpenAI, site: Site) -> None:
    """A job that has failed is not tried again by the client: each try could be paid for."""
    with pytest.raises(openai.BadRequestError) as flagged:
        client.images.generate(model="gpt-image-1-mini", prompt="[[emu:nsfw]] images")
    with pytest.raises(openai.InternalServerError) as failed:
        client.audio.speech.create(model="tts-1", input="[[emu:fail_start*9]] say", voice="x")
    video = client.videos.create_and_poll(prompt="[[emu:nsfw]] video", model="sora-2")

    assert flagged.value.code == "moderation_blocked"
    assert failed.value.response.headers["x-should-retry"] == "false"
    assert len(jobs_of(site, "[[emu:fail_start*9]] say")) == 1
    assert (video.status, video.error and video.error.code) == ("failed", "moderation_blocked")


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


def test_errors_have_the_services_form_everywhere(plain: httpx2.Client, client: OpenAI) -> None:
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
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="wrong").models.list()


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
    client: OpenAI, site: Site, call: str, moment: str
) -> None:
    """The answers of its first two tries are lost: before the job is accepted, and after."""
    prompt = f"lost {call} {moment}"

    async def accepted() -> None:
        while not any(job.prompt == prompt for job in await _all(site)):
            await asyncio.sleep(0.01)

    site.line.losing = None if moment == "before" else accepted
    site.line.lose = 2
    calls: dict[str, Callable[[], object]] = {
        "image": lambda: client.images.generate(model="gpt-image-1", prompt=prompt),
        "edit": lambda: client.images.edit(
            model="gpt-image-1-mini", prompt=prompt, image=("a.png", PNG)
        ),
        "video": lambda: client.videos.create(model="sora-2", prompt=prompt),
        "speech": lambda: client.audio.speech.create(model="tts-1", input=prompt, voice="x"),
    }

    calls[call]()
    lost = site.line.lost
    made = len(jobs_of(site, prompt))
    calls[call]()

    assert (lost, made) == (2, 1)
    assert len(jobs_of(site, prompt)) == 2  # the second call was meant as another
    until(lambda: site.purchases(prompt) == 2, why=lambda: str(site.purchases(prompt)))


async def _all(site: Site) -> list[Job]:
    page = await listing.page(site.rt.db, tenant_id="default", limit=100)
    return [view.job for view in page.views]


def test_calls_at_once_are_separate(client: OpenAI, site: Site) -> None:
    """Equal calls that were meant as several are several jobs."""
    with ThreadPoolExecutor(3) as threads:
        made = [
            threads.submit(client.images.generate, model="gpt-image-1", prompt="openai at once")
            for _ in range(3)
        ]
        images = [each.result().data for each in made]

    assert len({each[0].b64_json for each in images if each}) == 3
    assert site.purchases("openai at once") == 3


def test_the_same_idempotency_key_is_one_job(client: OpenAI, site: Site) -> None:
    """A caller's own key counts in any case."""
    for _ in range(2):
        client.videos.create(
            model="sora-2", prompt="keyed", extra_headers={"Idempotency-Key": "one"}
        )

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
