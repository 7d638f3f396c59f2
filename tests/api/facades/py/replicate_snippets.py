"""What people do with Replicate's Python client: its README's examples, and the snippets that are read most.

Only the address and the token, in the environment, are ours. Arguments: the version of `stability-ai/sdxl`, a picture
in hexadecimal, the address of a receiver of webhooks.
"""

import asyncio
import io
import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.request import urlopen, urlretrieve

import httpx
import replicate
from harness import report
from replicate.exceptions import ModelError, ReplicateError

SDXL, PICTURE, HOOK = sys.argv[1], bytes.fromhex(sys.argv[2]), sys.argv[3]
FLUX = "black-forest-labs/flux-schnell"
PRO = "black-forest-labs/flux-1.1-pro"
LLAMA = "meta/meta-llama-3-8b-instruct"


def saves_each_output() -> Any:
    """Write what a model has made to files."""
    for index, item in enumerate(replicate.run(FLUX, input={"prompt": "snippet wombat"})):
        Path(f"output_{index}.webp").write_bytes(item.read())
    return Path("output_0.webp").read_bytes()[8:12].decode()


def downloads_addresses() -> Any:
    """Have addresses in place of file objects, and download them with the standard library."""
    urls = replicate.run(FLUX, input={"prompt": "snippet urls"}, use_file_output=False)
    urlretrieve(urls[0], "downloaded.webp")  # noqa: S310 - https
    with urlopen(urls[0]) as answer:  # noqa: S310 - https
        kind = answer.headers["content-type"]
    return [Path("downloaded.webp").stat().st_size > 0, kind]


def runs_a_pinned_version() -> Any:
    """With the parameters of a diffusion model."""
    given = {"prompt": "snippet pinned", "width": 768, "height": 768, "num_outputs": 2}
    made = replicate.run(
        f"stability-ai/sdxl:{SDXL}", input=given | {"negative_prompt": "blurry", "seed": 3}
    )
    return [str(each).startswith("https://") for each in made]


def runs_four_at_once() -> Any:
    """In an asynchronous program."""

    async def together() -> Any:
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(replicate.async_run(PRO, input={"prompt": f"snippet {word}"}))
                for word in ("two", "four", "six", "eight")
            ]
        return [task.result().url for task in tasks]

    return len(set(asyncio.run(together())))


def streams_words() -> Any:
    """Print words as they come."""
    return "".join(
        str(event) for event in replicate.stream(LLAMA, input={"prompt": "snippet haiku"})
    )


def streams_asynchronously() -> Any:
    """The same in an asynchronous program."""

    async def said() -> str:
        client = replicate.Client()  # of this event loop
        stream = await client.async_stream(LLAMA, input={"prompt": "snippet async haiku"})
        return "".join([str(event) async for event in stream])

    return asyncio.run(said())


def joins_what_a_language_model_says() -> Any:
    """Iterate over its output."""
    return "".join(replicate.run(LLAMA, input={"prompt": "snippet chat", "max_tokens": 64}))


def follows_a_prediction() -> Any:
    """In the background: of a model's version, reloaded until it has ended."""
    version = replicate.models.get(PRO).versions.list()[0]
    made = replicate.predictions.create(
        version=version, input={"prompt": "[[emu:predict=0.6]] snippet follow"}
    )
    seen = [made.status]
    while made.status not in {"succeeded", "failed", "canceled"}:
        time.sleep(0.1)
        made.reload()
        seen.append(made.status)
    progress = made.progress
    return [seen[0], seen[-1], made.output[:6], progress is not None, dict(made)["id"] == made.id]


def waits_for_a_prediction() -> Any:
    """Until it has ended."""
    made = replicate.predictions.create(model=PRO, input={"prompt": "snippet wait"})
    made.wait()
    return [made.status, replicate.predictions.get(made.id).output == made.output]


def asks_for_a_webhook() -> Any:
    """At the end."""
    made = replicate.predictions.create(
        model=PRO,
        input={"prompt": "snippet hook"},
        webhook=HOOK,
        webhook_events_filter=["completed"],
    )
    return made.id


def feeds_one_model_with_another() -> Any:
    """The output of one is the input of the next."""
    first = replicate.run(PRO, input={"prompt": "snippet pipeline 1"})
    second = replicate.run(PRO, input={"prompt": "snippet pipeline 2", "image_prompt": first.url})
    return second.read()[1:4].decode()


def sends_an_open_file() -> Any:
    """As an input."""
    Path("mystery.png").write_bytes(PICTURE)
    with Path("mystery.png").open("rb") as image:
        made = replicate.run(PRO, input={"prompt": "snippet file", "image_prompt": image})
    inline = replicate.run(
        PRO,
        input={"prompt": "snippet base64", "image_prompt": io.BytesIO(PICTURE)},
        file_encoding_strategy="base64",
    )
    return [made.read()[1:4].decode(), inline.read()[1:4].decode()]


def enlarges_a_picture() -> Any:
    """With a model that has no prompt."""
    made = replicate.run(
        "nightmareai/real-esrgan", input={"image": io.BytesIO(PICTURE), "scale": 2}
    )
    needed = replicate.models.get("nightmareai/real-esrgan").latest_version.openapi_schema
    schema = needed["components"]["schemas"]["Input"]
    return [made.read()[1:4].decode(), schema["required"], "prompt" in schema["properties"]]


def cancels() -> Any:
    """A prediction that runs."""
    made = replicate.predictions.create(
        model=PRO, input={"prompt": "[[emu:predict=60]] snippet cancel"}
    )
    made.cancel()
    made.reload()
    return made.status


def lists_predictions() -> Any:
    """Page by page, by hand and by itself."""
    first = replicate.predictions.list()
    if first.next:
        replicate.predictions.list(first.next)
    pages = [page.results for page in replicate.paginate(replicate.predictions.list)]
    return first.results[0].id == pages[0][0].id


def lists_models() -> Any:
    """Page by page, and what else there is."""
    models = []
    for page in replicate.paginate(replicate.models.list):
        models.extend(page.results)
    collections = [
        each for page in replicate.paginate(replicate.collections.list) for each in page
    ]
    return [any(model.name == "flux-schnell" for model in models), collections]


def looks_up_the_schema() -> Any:
    """Of a model's inputs."""
    version = replicate.models.get(FLUX).latest_version
    known = version.openapi_schema["components"]["schemas"]["Input"]["properties"]
    return sorted(known)[:3]


def handles_a_failure() -> Any:
    """Of the model: the exception has the prediction."""
    try:
        replicate.run(PRO, input={"prompt": "[[emu:nsfw]] snippet"})
    except ModelError as error:
        found = error.prediction
        return [found.status, "NSFW" in found.error, isinstance(found.logs, str), len(found.id)]
    return None


def handles_a_refusal() -> Any:
    """Of the token, and of what does not exist."""
    found = []
    stranger = replicate.Client(api_token="r8_wrong")
    for call in (
        lambda: stranger.run(PRO, input={"prompt": "x"}),
        lambda: replicate.predictions.get("gm3qorzdhgbfurvjtvhg6dckhu"),
        lambda: replicate.models.get("no/such/model"),
    ):
        try:
            call()
        except ReplicateError as error:
            found.append(error.status)
    return found


def opens_an_own_client() -> Any:
    """With headers and a time limit, and without blocking requests."""
    client = replicate.Client(
        api_token=os.environ["REPLICATE_API_TOKEN"],
        headers={"User-Agent": "my-app/1.0"},
        timeout=httpx.Timeout(30),
    )
    made = client.run(PRO, input={"prompt": "snippet client"}, wait=False)
    return made.read()[1:4].decode()


def calls_the_api_itself() -> Any:
    """With the former scheme of the token, polling the address in the answer."""
    base = os.environ["REPLICATE_BASE_URL"]
    headers = {"Authorization": f"Token {os.environ['REPLICATE_API_TOKEN']}"}
    body = {"version": SDXL, "input": {"prompt": "snippet plain"}}
    with httpx.Client(headers=headers, timeout=30) as http:
        made = http.post(f"{base}/v1/predictions", json=body)
        shown = made.json()
        while shown["status"] not in {"succeeded", "failed"}:
            time.sleep(0.1)
            shown = http.get(shown["urls"]["get"]).json()
    return [made.status_code, shown["status"], len(shown["output"])]


def is_refused() -> Any:
    """What Fleek does not do."""
    found: dict[str, Any] = {}
    calls = {
        "no prompt, for a model that needs one": lambda: replicate.run(
            PRO, input={"image_prompt": "https://example.com/a.png"}
        ),
        "training": lambda: replicate.trainings.create(
            version=f"stability-ai/sdxl:{SDXL}", input={}, destination="me/mine"
        ),
        "creation of a model": lambda: replicate.models.create(
            owner="me", name="mine", visibility="private", hardware="cpu"
        ),
        "deployments.get": lambda: replicate.deployments.get("me/mine"),
        "collections.get": lambda: replicate.collections.get("text-to-image"),
    }
    for name, call in calls.items():
        try:
            found[name] = str(call())
        except ReplicateError as error:
            found[name] = error.status
    return found


CHECKS = [
    saves_each_output,
    downloads_addresses,
    runs_a_pinned_version,
    runs_four_at_once,
    streams_words,
    streams_asynchronously,
    joins_what_a_language_model_says,
    follows_a_prediction,
    waits_for_a_prediction,
    asks_for_a_webhook,
    feeds_one_model_with_another,
    sends_an_open_file,
    enlarges_a_picture,
    cancels,
    lists_predictions,
    lists_models,
    looks_up_the_schema,
    handles_a_failure,
    handles_a_refusal,
    opens_an_own_client,
    calls_the_api_itself,
    is_refused,
]
if __name__ == "__main__":
    with suppress(BrokenPipeError):
        report(CHECKS)
