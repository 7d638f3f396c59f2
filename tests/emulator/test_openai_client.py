"""The official OpenAI client works with the emulator."""

from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

import pytest

from fleek.emulator.media import render
from fleek.emulator.server import Emulator

if TYPE_CHECKING:
    from openai import AsyncOpenAI

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Sora


@pytest.fixture
async def client(emulator: Emulator) -> AsyncGenerator["AsyncOpenAI"]:
    """Open the client, without its own retries."""
    from openai import AsyncOpenAI  # noqa: PLC0415 - heavy, and each process of a run collects this

    url = emulator.openai_url
    async with AsyncOpenAI(base_url=url, api_key="sk-test", max_retries=0) as client:
        yield client


async def test_images(client: "AsyncOpenAI", emulator: Emulator) -> None:
    """The response contains the bytes and the tokens used."""
    made = await client.images.generate(prompt="a cat", model="gpt-image-2.5-flare", n=2)

    assert made.data is not None
    assert [image.url for image in made.data] == [None, None]
    assert made.usage is not None
    assert made.usage.output_tokens == 2000
    assert len(emulator.account.predictions) == 1


async def test_speech(client: "AsyncOpenAI", emulator: Emulator) -> None:
    """The response is the file."""
    spoken = await client.audio.speech.create(input="Good morning", model="tts-1", voice="alloy")

    assert spoken.content == render(f"{emulator.account.predictions[0].id}/0", "mp3")


async def test_videos(client: "AsyncOpenAI") -> None:
    """They are created, read, listed, downloaded and deleted."""
    from openai import APIStatusError  # noqa: PLC0415 - as above

    video = await client.videos.create(prompt="a cat", model="sora-2", seconds="8")
    read = await client.videos.retrieve(video.id)
    listed = [row.id async for row in client.videos.list()]
    content = await client.videos.download_content(video.id)
    deleted = await client.videos.delete(video.id)

    assert (video.prompt, video.seconds, read.status) == ("a cat", "8", "completed")
    assert listed == [video.id]
    assert content.content == render(f"{video.id}/0", "mp4")
    assert (deleted.deleted, deleted.object) == (True, "video.deleted")
    with pytest.raises(APIStatusError):
        await client.videos.retrieve(video.id)


async def test_errors(client: "AsyncOpenAI") -> None:
    """Each has the code that clients distinguish it by."""
    from openai import BadRequestError, RateLimitError  # noqa: PLC0415 - as above

    with pytest.raises(BadRequestError) as blocked:
        await client.images.generate(prompt="a cat [[emu:nsfw]]")
    with pytest.raises(RateLimitError) as unpaid:
        await client.images.generate(prompt="a cat [[emu:create_402]]")

    assert blocked.value.code == "moderation_blocked"
    assert unpaid.value.code == "insufficient_quota"
