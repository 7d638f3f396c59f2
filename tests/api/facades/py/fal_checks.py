"""Run fal's Python client against the facade that the environment names, and print what it got."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import fal_client
from fal_client.client import FalClientHTTPError
from harness import report

FLUX = "black-forest-labs/flux-schnell"
PRO = "black-forest-labs/flux-1.1-pro"


def run() -> Any:
    """Wait for a direct call."""
    made = fal_client.run(
        FLUX, arguments={"prompt": "fal run", "num_images": 2, "sync_mode": False}
    )
    return [len(made["images"]), made["images"][0]["url"][:6], made["prompt"]]


def subscribe() -> Any:
    """Follow the queue to the result."""
    seen: list[str] = []
    made = fal_client.subscribe(
        PRO,
        arguments={"prompt": "[[emu:predict=0.3]] fal subscribe"},
        with_logs=True,
        on_queue_update=lambda update: seen.append(type(update).__name__),
    )
    return [seen[-1], len(made["images"])]


def lifecycle() -> Any:
    """Submit, then ask for status and result."""
    handle = fal_client.submit(PRO, arguments={"prompt": "fal lifecycle"}, priority="low")
    made = handle.get()
    status: Any = handle.status(with_logs=True)
    again = fal_client.result(PRO, handle.request_id)
    named = fal_client.status(PRO, handle.request_id)
    return [
        type(status).__name__,
        type(named).__name__,
        status.metrics["inference_time"] >= 0,
        again["images"][0]["file_name"] == made["images"][0]["file_name"],
    ]


def cancelled() -> Any:
    """Cancel."""
    handle = fal_client.submit(PRO, arguments={"prompt": "[[emu:predict=60]] fal cancel"})
    handle.cancel()
    status: Any = handle.status()
    try:
        handle.get()
    except FalClientHTTPError as error:
        return [status.error_type, error.status_code, str(error)]
    return None


def failed() -> Any:
    """Let the provider refuse the content."""
    handle = fal_client.submit(PRO, arguments={"prompt": "[[emu:nsfw]] fal"})
    try:
        handle.get()
    except FalClientHTTPError as error:
        status: Any = handle.status()
        return [error.status_code, "NSFW" in str(error), status.error is not None]
    return None


def refused() -> Any:
    """Send what is not acceptable."""
    codes = {}
    for name, app, arguments in (
        ("argument", PRO, {"prompt": "x", "seed": "seven"}),
        ("prompt", PRO, {"seed": 7}),
        ("application", "a b/c", {"prompt": "x"}),
    ):
        try:
            fal_client.submit(app, arguments=arguments)
        except FalClientHTTPError as error:
            codes[name] = error.status_code
    return codes


def stream() -> Any:
    """Stream."""
    return [
        len(event["images"])
        for event in fal_client.stream(PRO, arguments={"prompt": "fal stream"})
    ]


def uploaded() -> Any:
    """Send a file."""
    image = fal_client.encode(bytes.fromhex(sys.argv[2]), "image/png")
    made = fal_client.run(PRO, arguments={"prompt": "fal file", "image_url": image})
    return len(made["images"])


def uploaded_files() -> Any:
    """Send files in the three ways, to either of the services for them, whose addresses are constants."""
    base = f"https://{os.environ['FAL_RUN_HOST']}"
    fal_client.client.REST_URL = fal_client.client.CDN_URL = base
    data = bytes.fromhex(sys.argv[2])
    Path("cat.png").write_bytes(data)
    addresses = [
        fal_client.upload(data, "image/png"),
        fal_client.upload_file("cat.png"),
        fal_client.upload_file("cat.png", repository="fal"),
        asyncio.run(fal_client.AsyncClient().upload(data, "image/png", repository="fal")),
    ]
    for number, address in enumerate(addresses):
        arguments = {"prompt": f"fal upload {number}", "image_url": address}
        fal_client.run(PRO, arguments=arguments)
    return [len(set(addresses[:2])), len(set(addresses))]


def at_once() -> Any:
    """Send equal requests, each of which is meant."""

    async def both() -> Any:
        calls = (fal_client.run_async(PRO, arguments={"prompt": "fal at once"}) for _ in range(2))
        return await asyncio.gather(*calls)

    made = asyncio.run(both())
    made.append(fal_client.run(PRO, arguments={"prompt": "fal at once"}))
    return len({each["images"][0]["url"] for each in made})


def webhook() -> Any:
    """Ask for a webhook."""
    handle = fal_client.submit(PRO, arguments={"prompt": "fal hook"}, webhook_url=sys.argv[3])
    return handle.request_id


def lost() -> Any:
    """Have the answers lost."""
    made = fal_client.subscribe(PRO, arguments={"prompt": "fal lost"})
    also = fal_client.run(PRO, arguments={"prompt": "fal run lost"})
    return [len(made["images"]), len(also["images"])]


CHECKS = [
    run,
    subscribe,
    lifecycle,
    cancelled,
    failed,
    refused,
    stream,
    uploaded,
    uploaded_files,
    at_once,
    webhook,
]
if __name__ == "__main__":
    report([lost] if sys.argv[1] == "lost" else CHECKS)
