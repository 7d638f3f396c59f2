"""Run OpenAI's Python client against the facade that the environment names, and print what it got.

Arguments: a picture in hexadecimal, a prompt for the checks that take one, and the names of the checks.
"""

import base64
import sys
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any
from urllib.request import urlopen

import openai
from harness import report
from openai import OpenAI

PICTURE, PROMPT = bytes.fromhex(sys.argv[1]), sys.argv[2]
FLUX = "black-forest-labs/flux-schnell"
MINI = "gpt-image-1-mini"  # a model that makes one image
FILE = ("a.png", PICTURE)
client = OpenAI()
warnings.simplefilter("ignore", DeprecationWarning)  # of videos


def raised(call: Callable[[], Any]) -> Any:
    """Return the class, code and parameter of the error that a call raises; None: it raises none."""
    try:
        call()
    except openai.APIError as error:
        return [type(error).__name__, error.code, error.param]
    return None


def translated_images() -> Any:
    """Give what the model has, and what it lacks."""
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
    names = ("x-fleek-job", "x-fleek-ignored", "x-fleek-adjusted")
    return [
        *(answer.headers[name] for name in names),
        len({each.b64_json for each in images.data}),
        images.output_format,
        images.size,
    ]


def image_addresses() -> Any:
    """Ask for an address, and read it without a key."""
    images = client.images.generate(model=MINI, prompt="address", response_format="url")
    with urlopen(images.data[0].url) as answer:  # noqa: S310 - https
        return answer.read()[1:4].decode()


def edited_images() -> Any:
    """Send one file, a list of one, several to a model of one, a mask to a model without one."""
    edit = partial(client.images.edit, model=MINI)
    edit(prompt="edit one", image=FILE, size="1024x1024")
    edit(prompt="edit a list", image=[FILE])
    return [
        raised(lambda: edit(prompt="x", image=[FILE, ("b.png", PICTURE)])),
        raised(lambda: edit(prompt="x", image=FILE, mask=("m.png", PICTURE))),
    ]


def streamed_images() -> Any:
    """One that is made, and one that is refused by the model."""
    stream = partial(client.images.generate, model=MINI, stream=True)
    events: list[Any] = list(stream(prompt="stream"))
    try:
        list(stream(prompt="[[emu:nsfw]] stream"))
    except openai.APIError as error:
        refusal = "NSFW" in str(error)
    images = [base64.b64decode(event.b64_json)[1:4].decode() for event in events]
    return [[event.type for event in events], images, refusal]


def videos() -> Any:
    """Create, poll, list, download, delete."""
    made = client.videos.create(
        prompt="[[emu:predict=1]] a video", model="sora-2", seconds="4", size="720x1280"
    )
    polled = client.videos.poll(made.id)
    second = client.videos.create_and_poll(prompt="second video", model="sora-2")
    pages = list(client.videos.list(limit=1))
    oldest = next(iter(client.videos.list(order="asc", limit=1)))
    content = client.videos.download_content(made.id).read()
    deleted = client.videos.delete(made.id).deleted
    calls = (client.videos.retrieve, client.videos.download_content, client.videos.delete)
    return {
        "id": made.id,
        "accepted": made.status in {"queued", "in_progress"},
        "ended": [polled.status, polled.progress, polled.model],
        "repeated": [polled.seconds, polled.size, polled.prompt],
        "listed": [one.id for one in pages][:2] == [second.id, made.id],
        "oldest": oldest.id == pages[-1].id,
        "content": content[4:8].decode(),
        "deleted": deleted,
        "gone": [raised(lambda call=call: call(made.id))[0] for call in calls],
        "still listed": made.id in [one.id for one in client.videos.list()],
    }


def video_from_a_file() -> Any:
    """Send the first picture."""
    client.videos.create(prompt="from a file", model="sora-2", input_reference=FILE)


def video_that_is_cancelled() -> Any:
    """Ask for the file too early, and delete the video."""
    made = client.videos.create(prompt="[[emu:predict=60]] cancel a video", model="sora-2")
    early = raised(lambda: client.videos.download_content(made.id))
    client.videos.delete(made.id)
    return early


def speech() -> Any:
    """Ask for what the model lacks, too."""
    answer = client.audio.speech.with_raw_response.create(
        model="tts-1", input="Good morning", voice="alloy", response_format="wav", speed=1.5
    )
    named = [answer.headers[name] for name in ("content-type", "x-fleek-ignored")]
    return [answer.content[:4].decode(), *named]


def models() -> Any:
    """List them, and ask for some."""
    names = {model.id for model in client.models.list()}
    one, alias = client.models.retrieve(FLUX), client.models.retrieve("sora-2")
    return [
        names >= {"gpt-image-1", "sora-2", FLUX},
        [one.id, one.owned_by, alias.id],
        raised(lambda: client.models.retrieve("no such/model at all")),
    ]


def failures() -> Any:
    """Content that is refused, a job that fails, a video that fails."""
    flagged = raised(lambda: client.images.generate(model=MINI, prompt="[[emu:nsfw]] images"))
    try:
        client.audio.speech.create(model="tts-1", input="[[emu:fail_start*9]] say", voice="x")
    except openai.InternalServerError as error:
        failed = error.response.headers["x-should-retry"]
    video = client.videos.create_and_poll(prompt="[[emu:nsfw]] video", model="sora-2")
    return [flagged, failed, video.status, video.error.code]


def wrong_key() -> Any:
    """Use one that is not known."""
    return raised(client.with_options(api_key="wrong").models.list)


def at_once() -> Any:
    """Send equal requests, each of which is meant."""
    with ThreadPoolExecutor(3) as threads:
        made = [
            threads.submit(client.images.generate, model="gpt-image-1", prompt="openai at once")
            for _ in range(3)
        ]
        return len({each.result().data[0].b64_json for each in made})


def keyed() -> Any:
    """Send one request twice, with a key of the caller's own."""
    own = {"Idempotency-Key": "one"}
    calls = [
        client.videos.create(model="sora-2", prompt="keyed", extra_headers=own) for _ in range(2)
    ]
    return len({each.id for each in calls})


def lost_image() -> Any:
    """Have answers lost."""
    made = client.images.with_raw_response.generate(model="gpt-image-1", prompt=PROMPT)
    return made.headers["x-fleek-job"]


def lost_edit() -> Any:
    """Have answers lost, of a request with a file."""
    made = client.images.with_raw_response.edit(model=MINI, prompt=PROMPT, image=FILE)
    return made.headers["x-fleek-job"]


def lost_video() -> Any:
    """Have answers lost, of a form."""
    return client.videos.create(model="sora-2", prompt=PROMPT).id.removeprefix("video_")


def lost_speech() -> Any:
    """Have answers lost, of sound."""
    made = client.audio.speech.with_raw_response.create(model="tts-1", input=PROMPT, voice="x")
    return made.headers["x-fleek-job"]


if __name__ == "__main__":
    report([globals()[name] for name in sys.argv[3:]])
