"""The official Python client, unmodified, with the emulator."""

import asyncio
import io
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from replicate.client import Client
from replicate.exceptions import ModelError, ReplicateError
from replicate.helpers import FileOutput
from replicate.pagination import async_paginate
from replicate.webhook import InvalidSignatureError, Webhooks, WebhookSigningSecret

from fleek.emulator.callbacks import sign
from fleek.emulator.replicate.models import BY_NAME
from fleek.emulator.server import Emulator

FLUX = "black-forest-labs/flux-schnell"
PRO = "black-forest-labs/flux-1.1-pro"
LLAMA = "meta/meta-llama-3-8b-instruct"
SDXL = BY_NAME["stability-ai/sdxl"]


@pytest.fixture
async def client(emulator: Emulator) -> AsyncGenerator[Client]:
    """Open the official client; it appends `/v1` itself."""
    client = Client(api_token="r8_test", base_url=emulator.base_url)
    client.poll_interval = 0.02
    yield client
    await client._async_client.aclose()
    client._client.close()


async def test_run_returns_the_files_addresses(client: Client) -> None:
    """On http it returns plain strings; only https addresses become file objects."""
    output: Any = await client.async_run(FLUX, {"prompt": "a cat", "num_outputs": 2})

    assert [str(url).rpartition("/")[2] for url in output] == ["0.webp", "1.webp"]


async def test_run_without_async_waits_in_one_request(client: Client, emulator: Emulator) -> None:
    """`run` sends `Prefer: wait` by default."""
    output = await asyncio.to_thread(client.run, PRO, {"prompt": "a cat"})

    assert str(output).endswith("/0.png")
    assert [row["method"] for row in emulator.ledger.rows("request")] == ["POST"]


@pytest.mark.usefixtures("_full_suite")  # takes a second
async def test_run_polls_after_a_wait_that_timed_out(client: Client, emulator: Emulator) -> None:
    """With any status but `starting` it would return None at once."""
    prompt = "[[emu:queue=0.2]][[emu:predict=1.3]]"

    output: Any = await client.async_run(PRO, {"prompt": prompt}, wait=1)

    assert str(output).endswith("/0.png")
    assert len(emulator.account.predictions) == 1


async def test_run_by_version_reads_its_schema(client: Client) -> None:
    """`owner/name:version` makes it fetch the version."""
    output: Any = await client.async_run(f"{SDXL.name}:{SDXL.version}", {"prompt": "a cat"})

    assert str(output[0]).endswith("/0.png")


async def test_run_of_a_language_model_returns_text(client: Client) -> None:
    """Pieces arrive in order."""
    output: Any = await client.async_run(LLAMA, {"prompt": "tell me"})

    assert "".join(output) == "Once upon a time there was a ledger."


async def test_data_uris_become_file_objects(client: Client) -> None:
    """Their bytes are read without a request."""
    output: Any = await client.async_run(PRO, {"prompt": "[[emu:output=data_uri]]"})

    assert isinstance(output, FileOutput)
    assert (await output.aread()).startswith(b"\x89PNG")


async def test_a_failure_is_raised(client: Client) -> None:
    """With the model's message."""
    with pytest.raises(ModelError, match="NSFW"):
        await client.async_run(PRO, {"prompt": "[[emu:nsfw]]"})


@pytest.mark.usefixtures("_full_suite")  # takes a second
async def test_create_wait_and_progress(client: Client) -> None:
    """The client parses progress from the logs."""
    prediction = await client.predictions.async_create(
        model=PRO, input={"prompt": "[[emu:predict=0.5]]"}
    )
    seen = []

    while prediction.status not in ("succeeded", "failed", "canceled"):
        await prediction.async_reload()
        seen.append(prediction.progress)
    fractions = [progress.percentage for progress in seen if progress is not None]

    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert prediction.metrics is not None
    assert prediction.metrics["predict_time"] == pytest.approx(0.5)


async def test_cancel(client: Client) -> None:
    """From another request, by id."""
    prediction = await client.predictions.async_create(
        model=PRO, input={"prompt": "[[emu:predict=60]]"}
    )

    cancelled = await client.predictions.async_cancel(prediction.id)

    assert cancelled.status == "canceled"


@pytest.mark.usefixtures("_full_suite")
async def test_lists_are_paged(client: Client) -> None:
    """By the addresses in `next`."""
    for _ in range(101):
        await client.predictions.async_create(model=PRO, input={"prompt": "a cat"})

    pages = [page async for page in async_paginate(client.predictions.async_list)]

    assert [len(page.results) for page in pages] == [100, 1]


async def test_stream(client: Client) -> None:
    """Events have names and ids, and the stream ends."""
    events = [
        event async for event in await _streamed(client, LLAMA, {"prompt": "[[emu:predict=0.2]]"})
    ]

    assert "".join(str(event) for event in events) == "Once upon a time there was a ledger."
    assert events[-1].event.value == "done"


@pytest.mark.parametrize(
    ("marker", "words"), [("fail_mid", "unexpected error"), ("nsfw", "NSFW content")]
)
async def test_a_failing_stream(client: Client, marker: str, words: str) -> None:
    """It sends an event named error."""
    with pytest.raises(RuntimeError, match=words):
        async for _ in await _streamed(client, PRO, {"prompt": f"[[emu:{marker}]]"}):
            pass


async def test_a_cancelled_stream(client: Client, emulator: Emulator) -> None:
    """It ends with a reason."""
    stream = await _streamed(client, PRO, {"prompt": "[[emu:predict=60]]"})
    reading = asyncio.create_task(anext(stream))
    while not emulator.account.predictions:
        await asyncio.sleep(0.01)
    emulator.account.cancel(emulator.account.predictions[0])

    event = await reading

    assert (event.event.value, event.data) == ("done", '{"reason":"canceled"}')


async def test_files_are_uploaded_and_passed_by_address(
    client: Client, emulator: Emulator
) -> None:
    """A file object in the input is uploaded first."""
    picture = io.BytesIO(b"\x89PNG picture")

    await client.async_run(FLUX, {"prompt": "a cat", "image": picture})
    (file,) = await client.files.async_list()
    deleted = await client.files.async_delete(file.id)

    assert emulator.account.predictions[0].input["image"] == file.urls["get"]
    assert file.size == len(picture.getvalue())
    assert deleted is True


async def test_file_metadata_is_returned(client: Client) -> None:
    """Parsed by the client's own model of a file, which requires every field."""
    made = await client.files.async_create(
        io.BytesIO(b"words"), filename="a.txt", metadata={"a": 1}
    )

    file = await client.files.async_get(made.id)

    assert (file.name, file.content_type, file.metadata) == ("a.txt", "text/plain", {"a": 1})


async def test_read_routes_are_parsed_by_the_client(client: Client) -> None:
    """By the client's own models."""
    model = await client.models.async_get(SDXL.name)
    version = await model.versions.async_get(SDXL.version)
    versions = await model.versions.async_list()
    found = await client.models.async_search("flux")
    collection = await client.collections.async_get("text-to-image")

    assert version.openapi_schema["components"]["schemas"]["Input"]["required"] == ["prompt"]
    assert [row.id for row in versions] == [SDXL.version]
    assert {row.name for row in found} == {"flux-schnell", "flux-1.1-pro"}
    assert FLUX in {row.id for row in collection}
    assert (await client.accounts.async_current()).username == "emulator"
    assert next(row.sku for row in await client.hardware.async_list()) == "cpu"
    assert len(await client.models.async_list()) > 5


async def test_deployments(client: Client) -> None:
    """They have their own route."""
    prediction = await client.deployments.predictions.async_create(
        ("acme", "pictures"), input={"prompt": "a cat"}
    )

    assert prediction.status in ("starting", "processing", "succeeded")


async def test_signatures_are_accepted_by_the_client(client: Client) -> None:
    """With the secret from the API; a changed body is refused."""
    secret = await client.webhooks.default.async_secret()
    signature = sign(secret.key, "msg_1", "1700000000", b'{"id":"p"}')

    _validate(secret, signature, '{"id":"p"}')

    with pytest.raises(InvalidSignatureError):
        _validate(secret, signature, '{"id":"q"}')


@pytest.mark.parametrize(
    ("marker", "status"), [("create_402", 402), ("create_429=0", 429), ("create_5xx", 503)]
)
async def test_errors_are_parsed_by_the_client(client: Client, marker: str, status: int) -> None:
    """Status and detail are in the client's own error."""
    with pytest.raises(ReplicateError) as caught:
        await client.predictions.async_create(model=PRO, input={"prompt": f"[[emu:{marker}]]"})

    assert caught.value.status == status
    assert caught.value.detail


async def test_reads_are_retried_by_the_client(client: Client, emulator: Emulator) -> None:
    """It handles 429 and 503 as with Replicate."""
    prediction = await client.predictions.async_create(
        model=PRO, input={"prompt": "[[emu:get_429=0*2]]"}
    )

    again = await client.predictions.async_get(prediction.id)

    statuses = [row["status"] for row in emulator.ledger.rows("request")]
    assert again.id == prediction.id
    assert statuses == [201, 429, 429, 200]


async def _streamed(client: Client, model: str, given: dict[str, Any]) -> Any:
    return await client.async_stream(model, input=given)


def _validate(secret: WebhookSigningSecret, signature: str, body: str) -> None:
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": "1700000000",
        "webhook-signature": signature,
    }
    Webhooks.validate(headers=headers, body=body, secret=secret)
