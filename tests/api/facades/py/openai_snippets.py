"""What people do with OpenAI's Python client: its own examples, and the snippets that are read most.

Only the address and the key, in the environment, are ours. Argument: a picture in hexadecimal.
"""

import asyncio
import base64
import os
import sys
import time
import warnings
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import httpx2
import openai
from harness import report
from openai import AsyncOpenAI, OpenAI

PICTURE = bytes.fromhex(sys.argv[1])
client = OpenAI()
warnings.simplefilter("ignore", DeprecationWarning)  # of videos


def makes_an_image_with_an_address() -> Any:
    """As snippets for DALL·E do, which name neither a format nor, often, a model."""
    named = client.images.generate(
        model="dall-e-3", prompt="snippet cat", size="1024x1024", quality="standard", n=1
    )
    unnamed = client.images.generate(prompt="snippet dog", n=1, size="512x512")
    with urlopen(named.data[0].url) as answer:  # noqa: S310 - https
        kind = answer.headers["content-type"]
    return [kind, unnamed.data[0].url[:8], named.created > 0]


def saves_an_image() -> Any:
    """As snippets for GPT Image do."""
    made = client.images.generate(
        model="gpt-image-1",
        prompt="snippet otter",
        background="transparent",
        quality="low",
        size="1024x1536",
    )
    Path("otter.png").write_bytes(base64.b64decode(made.data[0].b64_json))
    return Path("otter.png").read_bytes()[8:12].decode()


def streams_an_image() -> Any:
    """With partial images, of which there are none."""
    stream = client.images.generate(
        model="gpt-image-1",
        prompt="snippet stream",
        n=1,
        size="1024x1024",
        stream=True,
        partial_images=3,
    )
    seen = []
    for event in stream:
        Path("streamed").write_bytes(base64.b64decode(event.b64_json))
        seen.append(event.type)
    return seen


def edits_an_image() -> Any:
    """An open file, and a list of one."""
    Path("a.png").write_bytes(PICTURE)
    with Path("a.png").open("rb") as image:
        one = client.images.edit(
            model="gpt-image-1-mini", image=image, prompt="snippet edit", size="1024x1024"
        )
    with Path("a.png").open("rb") as image:
        several = client.images.edit(
            model="gpt-image-1-mini", image=[image], prompt="snippet edits", input_fidelity="high"
        )
    return [base64.b64decode(each.data[0].b64_json)[1:4].decode() for each in (one, several)]


def makes_images_at_once() -> Any:
    """In an asynchronous program."""

    async def together() -> Any:
        async with AsyncOpenAI() as own:
            calls = [
                own.images.generate(model="gpt-image-1-mini", prompt=f"snippet async {number}")
                for number in range(3)
            ]
            made = await asyncio.gather(*calls)
            return [each.data[0].b64_json for each in made]

    return len(set(asyncio.run(together())))


def says_something_to_a_file() -> Any:
    """In the three ways."""
    given: Any = {"model": "tts-1", "voice": "alloy"}
    with client.audio.speech.with_streaming_response.create(
        **given, input="snippet said"
    ) as answer:
        answer.stream_to_file("one.mp3")
    said = client.audio.speech.create(**given, input="snippet spoken")
    said.write_to_file("two.mp3")
    whole = client.audio.speech.create(
        model="gpt-4o-mini-tts",
        voice="coral",
        input="snippet instructed",
        instructions="Speak in a cheerful tone.",
        response_format="mp3",
    )
    Path("three.mp3").write_bytes(whole.content)
    return [Path(f"{each}.mp3").read_bytes()[:4].decode() for each in ("one", "two", "three")]


def says_something_in_parts() -> Any:
    """To a player, as it comes."""

    async def played() -> int:
        async with AsyncOpenAI() as own:
            speech = own.audio.speech.with_streaming_response
            async with speech.create(
                model="tts-1", voice="nova", input="snippet played", response_format="pcm"
            ) as answer:
                return sum([len(part) async for part in answer.iter_bytes(1024)])

    return asyncio.run(played()) > 0


def makes_a_video() -> Any:
    """Poll with a bar of progress, then save it."""
    video = client.videos.create(model="sora-2", prompt="[[emu:predict=1]] snippet video")
    progress = []
    while video.status in {"in_progress", "queued"}:
        video = client.videos.retrieve(video.id)
        progress.append(getattr(video, "progress", 0) or 0)
        time.sleep(0.1)
    content = client.videos.download_content(video.id, variant="video")
    content.write_to_file("video.mp4")
    return [
        video.status,
        sorted(progress) == progress,
        Path("video.mp4").read_bytes()[4:8].decode(),
    ]


def makes_a_video_and_waits() -> Any:
    """With a picture to begin with."""
    video = client.videos.create_and_poll(
        model="sora-2",
        prompt="snippet video from picture",
        input_reference=("first.png", PICTURE, "image/png"),
        seconds="8",
        size="1280x720",
    )
    return [video.status, video.seconds, video.size]


def lists_and_deletes_videos() -> Any:
    """Across pages."""
    made = client.videos.create(model="sora-2", prompt="snippet deleted video")
    before = [video.id for video in client.videos.list(limit=2)]
    gone = client.videos.delete(made.id)
    after = [video.id for video in client.videos.list(limit=2)]
    return [made.id in before, gone.deleted, made.id in after]


def handles_errors() -> Any:
    """By class, with status, request id and code."""
    found = []
    for call in (
        lambda: client.images.generate(model="gpt-image-1", prompt="x", size="huge"),
        lambda: client.images.generate(model="gpt-image-1", prompt="[[emu:nsfw]] snippet"),
        OpenAI(api_key="sk-wrong").models.list,
        lambda: client.images.generate(model="no such model", prompt="x"),
    ):
        try:
            call()
        except openai.APIStatusError as error:
            found.append(
                [type(error).__name__, error.status_code, error.code, bool(error.request_id)]
            )
    try:
        OpenAI(base_url="https://127.0.0.1:1", max_retries=0).models.list()
    except openai.APIConnectionError as error:
        found.append(type(error).__name__)
    return found


def reads_raw_answers() -> Any:
    """With other options for one call."""
    raw = client.with_options(max_retries=5, timeout=60).images.with_raw_response.generate(
        model="gpt-image-1-mini", prompt="snippet raw", user="me"
    )
    return [raw.headers["x-fleek-ignored"], len(raw.parse().data), raw.http_request.method]


def uses_the_module() -> Any:
    """As a client."""
    openai.api_key = os.environ["OPENAI_API_KEY"]
    openai.base_url = os.environ["OPENAI_BASE_URL"] + "/"
    made = openai.images.generate(model="dall-e-2", prompt="snippet module", n=1, size="256x256")
    return made.data[0].url[:8]


def lists_models() -> Any:
    """And asks for one."""
    names = [model.id for model in client.models.list()]
    return [
        {"dall-e-3", "gpt-image-1", "sora-2", "tts-1"} <= set(names),
        client.models.retrieve("tts-1").id,
    ]


def calls_the_api_itself() -> Any:
    """Without the client."""
    headers = {"Authorization": f"Bearer {os.environ['OPENAI_API_KEY']}"}
    made = httpx2.post(
        f"{os.environ['OPENAI_BASE_URL']}/images/generations",
        headers=headers,
        json={"model": "dall-e-3", "prompt": "snippet plain", "response_format": "b64_json"},
        timeout=60,
    )
    return [made.status_code, list(made.json()["data"][0])]


def is_refused() -> Any:
    """What Fleek does not do."""
    found: dict[str, Any] = {}
    picture = ("a.png", PICTURE, "image/png")
    calls = {
        "images.create_variation": lambda: client.images.create_variation(image=picture),
        "a mask for a model without one": lambda: client.images.edit(
            model="gpt-image-1-mini", image=picture, mask=picture, prompt="x"
        ),
        "two pictures for a model of one": lambda: client.images.edit(
            model="gpt-image-1-mini", image=[picture, picture], prompt="x"
        ),
        "videos.remix": lambda: client.videos.remix("video_1", prompt="x"),
        "a thumbnail": lambda: client.videos.download_content("video_1", variant="thumbnail"),
        "speech as events": lambda: client.audio.speech.create(
            model="tts-1", input="x", voice="alloy", stream_format="sse"
        ),
        "chat": lambda: client.chat.completions.create(
            model="gpt-5", messages=[{"role": "user", "content": "x"}]
        ),
        "transcription": lambda: client.audio.transcriptions.create(
            model="whisper-1", file=("a.wav", b"RIFF")
        ),
        "responses": lambda: client.responses.create(model="gpt-5", input="x"),
    }
    for name, call in calls.items():
        try:
            found[name] = str(call())
        except openai.APIStatusError as error:
            found[name] = error.status_code
    return found


CHECKS = [
    makes_an_image_with_an_address,
    saves_an_image,
    streams_an_image,
    edits_an_image,
    makes_images_at_once,
    says_something_to_a_file,
    says_something_in_parts,
    makes_a_video,
    makes_a_video_and_waits,
    lists_and_deletes_videos,
    handles_errors,
    reads_raw_answers,
    uses_the_module,
    lists_models,
    calls_the_api_itself,
    is_refused,
]


def lost() -> Any:
    """Have the answers lost: of an image, then of another like it."""
    for _ in range(2):
        client.images.generate(model="gpt-image-1-mini", prompt="snippet lost")
    return True


if __name__ == "__main__":
    report([lost] if sys.argv[2:] == ["lost"] else CHECKS)
