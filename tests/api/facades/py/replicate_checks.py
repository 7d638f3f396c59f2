"""Run Replicate's Python client against the facade that the environment names, and print what it got.

Arguments: a picture in hexadecimal, the address of a receiver of webhooks, and the names of the checks.
"""

import asyncio
import io
import json
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import replicate
from harness import report
from replicate.client import Client
from replicate.exceptions import ModelError, ReplicateError
from replicate.helpers import FileOutput
from replicate.pagination import paginate
from replicate.stream import ServerSentEvent
from replicate.webhook import InvalidSignatureError, Webhooks

PICTURE, HOOK = bytes.fromhex(sys.argv[1]), sys.argv[2]
FLUX = "black-forest-labs/flux-schnell"
PRO = "black-forest-labs/flux-1.1-pro"
LLAMA = "meta/meta-llama-3-8b-instruct"
OUTPUT = ServerSentEvent.EventType.OUTPUT
NONE = "0198f3c2-7d4e-7a10-9c55-3f0d2b6a8e41"

client = Client()  # the address and the key are in the environment
client.poll_interval = 0.02
create = partial(client.predictions.create, model=PRO)


def raised(call: Callable[[], Any]) -> Any:
    """Return the error that a call raises: its status, title and detail; None: it raises none."""
    try:
        call()
    except ReplicateError as error:
        return [error.status, error.title, str(error.detail)]
    return None


def runs() -> Any:
    """A list where the model can make several, else one file."""
    several: Any = client.run(FLUX, {"prompt": "run several", "num_outputs": 2})
    one: Any = client.run(PRO, {"prompt": "run one"})
    kinds = {type(each).__name__ for each in (*several, one)}
    return [len(several), sorted(kinds), one.read().hex(), one.url]


def run_in_vain() -> Any:
    """Wait for a second; with any status but `starting` it would return None at once."""
    output: Any = client.run(PRO, {"prompt": "[[emu:predict=1.5]] patience"}, wait=1)
    return isinstance(output, FileOutput)


def ordinary() -> Any:
    """Create a prediction, and wait for it."""
    made = create(input={"prompt": "ordinary", "seed": 7})
    made.wait()
    timed = made.metrics["predict_time"] <= made.metrics["total_time"]
    return [made.id, made.input, timed, made.model, len(made.version), made.status]


def versions() -> Any:
    """Run by id and by name, and look a version up."""
    model = client.models.get(FLUX)
    version = model.latest_version
    bare = client.predictions.create(version=version.id, input={"prompt": "bare"}, wait=30)
    named: Any = client.run(f"{FLUX}:{version.id}", {"prompt": "by version"})
    properties = version.openapi_schema["components"]["schemas"]["Input"]["properties"]
    return [
        len(named),
        len(bare.output),
        model.versions.get(version.id).id == version.id,
        [one.id for one in model.versions.list()] == [version.id],
        {"prompt", "num_outputs"} <= properties.keys(),
    ]


def texts() -> Any:
    """Have a language model speak, at once and as a stream."""
    said: Any = client.run(LLAMA, {"prompt": "tell me"})
    events = list(client.stream(LLAMA, input={"prompt": "stream it"}))
    streamed = "".join(str(event) for event in events if event.event is OUTPUT)
    return ["".join(said), streamed, events[-1].event.value]


def streams() -> Any:
    """A picture is one event; a failure is raised."""
    made = list(client.stream(PRO, input={"prompt": "stream a picture"}))
    failed = None
    try:
        list(client.stream(PRO, input={"prompt": "[[emu:nsfw]] stream"}))
    except RuntimeError as error:
        failed = "NSFW" in str(error)
    kinds = [event.event.value for event in made]
    return [kinds, isinstance(made[0].data, FileOutput), failed]


def failure() -> Any:
    """Let the model refuse the content."""
    try:
        client.run(PRO, {"prompt": "[[emu:nsfw]]"})
    except ModelError as error:
        return "NSFW" in str(error)
    return None


def refusals() -> Any:
    """Send what is not acceptable."""
    post = partial(client._request, "POST", "/v1/predictions")
    calls: dict[str, Callable[[], Any]] = {
        "input.seed": lambda: client.run(PRO, {"prompt": "x", "seed": "seven"}),
        "input.prompt": lambda: client.run(PRO, {"seed": 7}),
        "version": lambda: post(json={"input": {}, "version": "a b"}),
        "colour": lambda: post(json={"input": {}, "colour": 1}),
        "webhook": lambda: create(input={"prompt": "x"}, webhook="https://10.0.0.1/"),
    }
    return {name: raised(call) for name, call in calls.items()}


def strangers() -> Any:
    """Ask for what there is not, and with a key that there is not."""
    stranger = Client(api_token="x" * 40)
    return [
        raised(lambda: client.predictions.get(NONE))[:2],
        raised(stranger.predictions.list)[:2],
    ]


def cancels() -> Any:
    """Cancel twice, and what has ended."""
    made = create(input={"prompt": "[[emu:predict=60]] cancel"})
    made.cancel()
    again = client.predictions.cancel(made.id)
    ended = create(input={"prompt": "ended"})
    ended.wait()
    ended.cancel()
    return [made.id, made.status, again.status, ended.status]


def lists() -> Any:
    """Newest first, across pages."""
    made = [create(input={"prompt": f"list {number}"}).id for number in range(3)]
    pages = list(paginate(client.predictions.list))
    found = [one for page in pages for one in page.results]
    prompts = [one.input["prompt"] for one in found[:3]]
    return [made, [one.id for one in found], prompts]


def files() -> Any:
    """Use an open file as an input; create, read, list and remove a file."""
    picture = io.BytesIO(PICTURE)
    picture.name = "cat.png"
    made = create(input={"prompt": "file", "image_prompt": picture})
    made.wait()
    uploaded = client.files.create(io.BytesIO(PICTURE), filename="dog.png", metadata={"a": 1})
    found = client.files.get(uploaded.id)
    listed = uploaded.id in [each.id for each in client.files.list()]
    removed = client.files.delete(uploaded.id)
    return {
        "prediction": made.id,
        "upload": uploaded.id,
        "shown": made.input["image_prompt"] == found.urls["get"],
        "described": [uploaded.name, uploaded.metadata, found.content_type, found.size],
        "listed": [listed, bool(removed)],
        "gone": raised(lambda: client.files.get(uploaded.id))[0],
    }


def hooked() -> Any:
    """Ask for webhooks."""
    made = create(
        input={"prompt": "webhook"},
        webhook=HOOK,
        webhook_events_filter=["start", "completed"],
    )
    return made.id


def verified() -> Any:
    """Verify the webhooks that the file names, and one whose body is another's."""
    with open("received.json") as file:  # noqa: PTH123 - in the folder of the test
        received = json.load(file)
    secret = client.webhooks.default.secret()
    for headers, body in received:
        Webhooks.validate(headers=headers, body=body, secret=secret)
    try:
        Webhooks.validate(headers=received[0][0], body=received[1][1], secret=secret)
    except InvalidSignatureError:
        return len(received)
    return None


def catalogue() -> Any:
    """List and search models, and ask for what has no counterpart."""
    listed = [f"{model.owner}/{model.name}" for model in client.models.list()]
    found = client._request(
        "QUERY", "/v1/models", content="flux", headers={"Content-Type": "text/plain"}
    )
    return [
        PRO in listed,
        sorted({each["owner"] for each in found.json()["results"]}),
        client.accounts.current().username,
        [*client.collections.list(), *client.deployments.list(), *client.hardware.list()],
    ]


def at_once() -> Any:
    """Two equal runs that are meant as two."""

    async def both() -> list[Any]:
        own = Client()
        own.poll_interval = 0.02
        return await asyncio.gather(*(own.async_run(PRO, {"prompt": "at once"}) for _ in range(2)))

    return len({each.url for each in asyncio.run(both())})


def from_the_module() -> Any:
    """As most snippets do."""
    return replicate.models.get(PRO).name


if __name__ == "__main__":
    report([globals()[name] for name in sys.argv[3:]])
