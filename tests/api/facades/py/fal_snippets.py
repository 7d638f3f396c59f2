"""What people do with fal's Python client: its README's examples, and the snippets that are read most.

Only the two hosts and the key, in the environment, are ours. Arguments: a picture in hexadecimal, the address of a
receiver of webhooks.
"""

import asyncio
import os
import sys
import time
from pathlib import Path
from typing import Any

import fal_client
import httpx
from fal_client.client import FalClientHTTPError
from harness import report

PICTURE, HOOK = bytes.fromhex(sys.argv[1]), sys.argv[2]
DEV = "fal-ai/flux/dev"  # an alias
PRO = "black-forest-labs/flux-1.1-pro"
UPSCALER = "nightmareai/real-esrgan"


def subscribes_with_logs() -> Any:
    """The first example of the documents."""
    seen: list[str] = []

    def on_queue_update(update: Any) -> None:
        seen.append(type(update).__name__)
        if isinstance(update, fal_client.InProgress):
            for log in update.logs or ():
                assert log["message"]

    made = fal_client.subscribe(
        DEV,
        arguments={
            "prompt": "[[emu:predict=0.4]] snippet fal cat",
            "seed": 6252023,
            "image_size": "landscape_4_3",
            "num_images": 4,
        },
        with_logs=True,
        on_queue_update=on_queue_update,
    )
    return [seen[-1], len(made["images"]), made["seed"], made["has_nsfw_concepts"]]


def downloads_the_first_image() -> Any:
    """Of a direct call."""
    made = fal_client.run(DEV, arguments={"prompt": "snippet fal run"})
    content = httpx.get(made["images"][0]["url"]).content
    Path("fal.webp").write_bytes(content)
    return [content[8:12].decode(), made["images"][0]["content_type"]]


def submits_then_asks() -> Any:
    """By the id alone, as another process does."""
    request_id = fal_client.submit(DEV, arguments={"prompt": "snippet fal id"}).request_id
    while not isinstance(fal_client.status(DEV, request_id, with_logs=True), fal_client.Completed):
        time.sleep(0.1)
    return len(fal_client.result(DEV, request_id)["images"])


def follows_events() -> Any:
    """Of a handle."""
    handle = fal_client.submit(DEV, arguments={"prompt": "[[emu:predict=0.4]] snippet fal events"})
    seen = []
    for event in handle.iter_events(with_logs=True, interval=0.1):
        if isinstance(event, fal_client.Queued):
            assert event.position >= 0
        elif isinstance(event, fal_client.InProgress | fal_client.Completed):
            assert event.logs is not None
        seen.append(type(event).__name__)
    return [seen[-1], len(handle.get()["images"])]


def follows_events_asynchronously() -> Any:
    """The README's example."""

    async def made() -> Any:
        client = fal_client.AsyncClient()  # of this event loop
        handle = await client.submit(
            DEV, arguments={"prompt": "[[emu:predict=0.4]] snippet fal async events"}
        )
        last = ""
        async for event in handle.iter_events(with_logs=True):
            last = type(event).__name__
        return [last, len((await handle.get())["images"])]

    return asyncio.run(made())


def runs_many_at_once() -> Any:
    """In an asynchronous program."""

    async def together() -> Any:
        client = fal_client.AsyncClient()
        calls = [
            client.subscribe(PRO, arguments={"prompt": f"snippet fal {number}"})
            for number in range(4)
        ]
        return await asyncio.gather(*calls)

    return len({made["images"][0]["url"] for made in asyncio.run(together())})


def streams() -> Any:
    """And takes the last event, in both kinds of program."""
    plain = list(fal_client.stream(PRO, arguments={"prompt": "snippet fal stream"}))

    async def last() -> Any:
        events = fal_client.AsyncClient().stream(
            PRO, arguments={"prompt": "snippet fal async stream"}
        )
        return [event async for event in events][-1]

    return [len(plain[-1]["images"]), len(asyncio.run(last())["images"])]


def asks_for_a_webhook() -> Any:
    """At the end."""
    handle = fal_client.submit(PRO, arguments={"prompt": "snippet fal hook"}, webhook_url=HOOK)
    return handle.request_id


def edits_a_picture() -> Any:
    """That is in a file, or is the result of another model."""
    Path("cat.png").write_bytes(PICTURE)
    data = fal_client.encode_file("cat.png")
    first = fal_client.run(PRO, arguments={"prompt": "snippet fal edit", "image_url": data})
    address = first["images"][0]["url"]
    second = fal_client.subscribe(PRO, {"prompt": "snippet fal again", "image_url": address})
    return [second["image"]["content_type"], second["images"][0]["file_size"] > 0]


def enlarges_a_picture() -> Any:
    """With a model that has no prompt."""
    data = fal_client.encode(PICTURE, "image/png")
    made = fal_client.subscribe(UPSCALER, arguments={"image_url": data, "scale": 2})
    return [made["image"]["content_type"], made["prompt"]]


def makes_a_video() -> Any:
    """From a picture."""
    made = fal_client.subscribe(
        "minimax/video-01",
        arguments={
            "prompt": "snippet fal video",
            "image_url": fal_client.encode(PICTURE, "image/png"),
        },
    )
    return made["video"]["content_type"]


def opens_an_own_client() -> Any:
    """With a key, for one user of several."""
    client = fal_client.SyncClient(key=os.environ["FAL_KEY"], default_timeout=60)
    made = client.subscribe(PRO, arguments={"prompt": "snippet fal client"}, priority="low")
    return len(made["images"])


def cancels() -> Any:
    """By the handle, and by the id."""
    arguments = {"prompt": "[[emu:predict=60]] snippet fal cancel"}
    fal_client.submit(PRO, arguments=arguments).cancel()
    request_id = fal_client.submit(PRO, arguments=arguments).request_id
    fal_client.cancel(PRO, request_id)
    status: Any = fal_client.status(PRO, request_id)
    return [type(status).__name__, status.error_type]


def handles_errors() -> Any:
    """Of arguments, content and key."""
    found = []
    stranger = fal_client.SyncClient(key="no:key")
    for call in (
        lambda: fal_client.subscribe(DEV, arguments={"seed": 1}),
        lambda: fal_client.subscribe(PRO, arguments={"prompt": "[[emu:nsfw]] snippet fal"}),
        lambda: stranger.run(PRO, arguments={"prompt": "x"}),
    ):
        try:
            call()
        except FalClientHTTPError as error:
            found.append(
                [error.status_code, error.response.headers.get("x-fal-request-id", "")[:1]]
            )
    return [status for status, _ in found]


def calls_the_api_itself() -> Any:
    """Without the client."""
    queue = f"https://{os.environ['FAL_QUEUE_RUN_HOST']}"
    with httpx.Client(headers={"Authorization": f"Key {os.environ['FAL_KEY']}"}) as http:
        made = http.post(f"{queue}/{DEV}", json={"prompt": "snippet fal plain"}).json()
        while http.get(made["status_url"]).json()["status"] != "COMPLETED":
            time.sleep(0.1)
        return list(http.get(made["response_url"]).json()["images"][0])[:2]


def is_refused() -> Any:
    """What Fleek does not do."""
    found: dict[str, Any] = {}
    calls = {
        "an argument that the model lacks": lambda: fal_client.subscribe(
            DEV, arguments={"prompt": "x", "guidance_scale": 3.5}
        ),
        "no prompt, for a model that needs one": lambda: fal_client.subscribe(
            PRO, arguments={"image_url": "https://example.com/a.png"}
        ),
        "an unknown application": lambda: fal_client.run(
            "no such app/x", arguments={"prompt": "x"}
        ),
    }
    for name, call in calls.items():
        try:
            found[name] = str(call())
        except FalClientHTTPError as error:
            found[name] = error.status_code
    return found


CHECKS = [
    subscribes_with_logs,
    downloads_the_first_image,
    submits_then_asks,
    follows_events,
    follows_events_asynchronously,
    runs_many_at_once,
    streams,
    asks_for_a_webhook,
    edits_a_picture,
    enlarges_a_picture,
    makes_a_video,
    opens_an_own_client,
    cancels,
    handles_errors,
    calls_the_api_itself,
    is_refused,
]
if __name__ == "__main__":
    report(CHECKS)
