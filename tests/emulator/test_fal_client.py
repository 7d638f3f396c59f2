"""The official client of fal works with the emulator; only its address is changed."""

from collections.abc import AsyncGenerator
from typing import Any

import fal_client.client
import pytest

from fleek.emulator.server import Emulator

client_module: Any = fal_client.client


@pytest.fixture
async def client(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Any]:
    """Open a client, whose addresses are https otherwise."""
    monkeypatch.setattr(client_module, "QUEUE_URL_FORMAT", f"{emulator.fal_url}/")
    client = client_module.AsyncClient(key="id:secret")
    yield client
    await (await client._client).aclose()


async def test_a_request_is_submitted_followed_and_read(client: Any, emulator: Emulator) -> None:
    """As in fal's documentation."""
    handle = await client.submit(
        "fal-ai/flux/dev",
        arguments={"prompt": "a cat", "num_images": 2},
        start_timeout=30,
        priority="low",
    )
    events = [event async for event in handle.iter_events(with_logs=True)]
    result = await handle.get()
    again = await client.result("fal-ai/flux/dev", handle.request_id)

    assert isinstance(events[-1], client_module.Completed)
    assert events[-1].logs[0]["message"] == "Using seed: 42"
    assert events[-1].metrics == {"inference_time": 0.0}
    assert result == again
    first, second = [image["url"] for image in result["images"]]
    assert first == f"{emulator.base_url}/out/{handle.request_id}/0.png"
    assert second == f"{emulator.base_url}/out/{handle.request_id}/1.png"
    assert [prediction.dialect for prediction in emulator.account.predictions] == ["fal"]


async def test_failures_and_cancellations(client: Any) -> None:
    """Each has the type that clients distinguish it by."""
    failed = await client.submit("fal-ai/flux/dev", {"prompt": "[[emu:transient_failure]]"})
    flagged = await client.submit("fal-ai/flux/dev", {"prompt": "[[emu:nsfw]]"})
    waiting = await client.submit("fal-ai/flux/dev", {"prompt": "[[emu:queue=60]]"})
    queued = await waiting.status()
    await waiting.cancel()

    with pytest.raises(client_module.FalClientHTTPError) as caught:
        await failed.get()
    with pytest.raises(client_module.FalClientHTTPError) as refused:
        await flagged.get()
    with pytest.raises(client_module.FalClientHTTPError) as stopped:
        await waiting.get()

    assert queued == client_module.Queued(position=0)
    assert (caught.value.status_code, caught.value.error_type) == (503, "runner_disconnected")
    assert refused.value.status_code == 422
    assert stopped.value.error_type == "client_cancelled"
