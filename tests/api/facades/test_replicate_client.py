"""Replicate's official Python client, unmodified, with the facade."""

import asyncio
import io
from collections.abc import Callable, Generator
from typing import Any, Final

import httpx2
import pytest
from replicate.client import Client
from replicate.exceptions import ModelError, ReplicateError
from replicate.helpers import FileOutput
from replicate.pagination import paginate
from replicate.stream import ServerSentEvent
from replicate.webhook import InvalidSignatureError, Webhooks

from facade_site import KEY, Site
from fakes import PNG
from fleek.domain.job import Status

FLUX: Final = "black-forest-labs/flux-schnell"
PRO: Final = "black-forest-labs/flux-1.1-pro"
LLAMA: Final = "meta/meta-llama-3-8b-instruct"
OUTPUT: Final = ServerSentEvent.EventType.OUTPUT
DONE: Final = ServerSentEvent.EventType.DONE
SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def client(site: Site) -> Generator[Client]:
    """Open the client; it appends `/v1` itself."""
    client = Client(api_token=KEY, base_url=f"{site.base}/replicate")
    client.poll_interval = 0.02
    yield client
    client._client.close()


@pytest.fixture
def plain(site: Site) -> Generator[httpx2.Client]:
    """Open an HTTP client without a key."""
    with httpx2.Client(base_url=site.base, verify=_trusting(site), timeout=60) as plain:
        yield plain


def _trusting(site: Site) -> Any:
    import ssl  # noqa: PLC0415 - here alone

    return ssl.create_default_context(cafile=site.ca)


def test_run_returns_files(client: Client, site: Site, plain: httpx2.Client) -> None:
    """A list where the model can make several, else one; read with the key, and without."""
    several: Any = client.run(FLUX, {"prompt": "run several", "num_outputs": 2})
    one: Any = client.run(PRO, {"prompt": "run one"})

    assert [type(each) for each in (*several, one)] == [FileOutput] * 3
    assert one.read().startswith(SIGNATURE)
    assert plain.get(one.url).content == one.read()
    assert site.purchases("run one") == 1


def test_a_prediction_is_an_ordinary_job(client: Client, site: Site) -> None:
    """With its prompt, its parameters and its files."""
    made = client.predictions.create(model=PRO, input={"prompt": "ordinary", "seed": 7})
    made.wait()

    job = next(job for job in site.jobs() if str(job.id) == made.id)
    assert (job.prompt, dict(job.input), job.model) == ("ordinary", {"seed": 7}, PRO)
    assert job.status is Status.COMPLETED
    assert made.input == {"prompt": "ordinary", "seed": 7}
    assert made.metrics is not None
    assert made.metrics["predict_time"] <= made.metrics["total_time"]
    assert (made.model, len(made.version), made.status) == (PRO, 64, "succeeded")


def test_run_waits_after_a_wait_in_vain(client: Client, site: Site) -> None:
    """With any status but `starting` it would return None at once."""
    output: Any = client.run(PRO, {"prompt": "[[emu:predict=1.5]] patience"}, wait=1)

    assert isinstance(output, FileOutput)
    assert site.purchases("[[emu:predict=1.5]] patience") == 1


def test_versions_run_by_id_and_by_name(client: Client) -> None:
    """A version is described with the schema of its input and its output."""
    model = client.models.get(FLUX)
    version = model.latest_version
    assert version is not None

    outputs: list[Any] = [
        client.run(f"{FLUX}:{version.id}", {"prompt": "by version"}),
        client.predictions.create(version=version.id, input={"prompt": "bare"}, wait=30).output,
    ]

    assert model.versions.get(version.id).id == version.id
    assert [one.id for one in model.versions.list()] == [version.id]
    known = version.openapi_schema["components"]["schemas"]
    assert {"prompt", "num_outputs"} <= known["Input"]["properties"].keys()
    assert [len(each) for each in outputs] == [1, 1]


def test_a_language_model_returns_and_streams_text(client: Client) -> None:
    """As an iterator of its parts."""
    said: Any = client.run(LLAMA, {"prompt": "tell me"})
    events = list(client.stream(LLAMA, input={"prompt": "stream it"}))

    assert "".join(said) == "Once upon a time there was a ledger."
    assert "".join(str(e) for e in events if e.event is OUTPUT) == "".join(said)
    assert events[-1].event is DONE


def test_streams_send_files_and_failures(client: Client) -> None:
    """A picture is one event with its address."""
    made = list(client.stream(PRO, input={"prompt": "stream a picture"}))
    with pytest.raises(RuntimeError, match="NSFW"):
        list(client.stream(PRO, input={"prompt": "[[emu:nsfw]] stream"}))

    assert [event.event for event in made] == [OUTPUT, DONE]
    data: Any = made[0].data
    assert isinstance(data, FileOutput)


def test_failures_and_refusals_are_raised(client: Client, site: Site) -> None:
    """With the model's message, and with the name of the field."""
    with pytest.raises(ModelError, match="NSFW"):
        client.run(PRO, {"prompt": "[[emu:nsfw]]"})
    path = "/v1/predictions"
    refusals: dict[str, Callable[[], Any]] = {
        "input.seed": lambda: client.run(PRO, {"prompt": "x", "seed": "seven"}),
        "input.prompt": lambda: client.run(PRO, {"seed": 7}),
        "version": lambda: client._request("POST", path, json={"input": {}, "version": "a b"}),
        "colour": lambda: client._request("POST", path, json={"input": {}, "colour": 1}),
        "webhook": lambda: client.predictions.create(
            model=PRO, input={"prompt": "x"}, webhook="https://10.0.0.1/"
        ),
    }
    for name, call in refusals.items():
        with pytest.raises(ReplicateError) as refusal:
            call()
        assert refusal.value.status == 422, name
        assert f"- {name}: " in str(refusal.value.detail), name
    with pytest.raises(ReplicateError) as missing:
        client.predictions.get("0198f3c2-7d4e-7a10-9c55-3f0d2b6a8e41")
    stranger = Client(api_token="x" * 40, base_url=f"{site.base}/replicate")
    with pytest.raises(ReplicateError) as unknown:
        stranger.predictions.list()
    stranger._client.close()

    assert (missing.value.status, missing.value.title) == (404, "Not Found")
    assert (unknown.value.status, unknown.value.title) == (401, "Unauthenticated")


def test_cancelling(client: Client, site: Site) -> None:
    """The provider's prediction is cancelled, too; a prediction that has ended stays as it is."""
    made = client.predictions.create(model=PRO, input={"prompt": "[[emu:predict=60]] cancel"})

    made.cancel()
    again = client.predictions.cancel(made.id)
    ended = client.predictions.create(model=PRO, input={"prompt": "ended"})
    ended.wait()
    ended.cancel()

    assert [made.status, again.status, ended.status] == ["canceled", "canceled", "succeeded"]
    job = next(job for job in site.jobs() if str(job.id) == made.id)
    assert job.status is Status.CANCELLED


def test_cancel_after(site: Site, plain: httpx2.Client) -> None:
    """It is the deadline of the job."""
    body = {"input": {"prompt": "deadline"}}
    path = f"/replicate/v1/models/{PRO}/predictions"
    headers = {"Authorization": f"Token {KEY}", "Cancel-After": "1m30s"}

    made = plain.post(path, json=body, headers=headers)
    refused = plain.post(path, json=body, headers=headers | {"Cancel-After": "1s"})

    job = next(job for job in site.jobs() if str(job.id) == made.json()["id"])
    assert (job.deadline - job.created_at).total_seconds() == 90
    assert refused.status_code == 422


def test_lists_have_pages(client: Client, site: Site) -> None:
    """Newest first; each page has the address of the next one."""
    for number in range(3):
        client.predictions.create(model=PRO, input={"prompt": f"list {number}"})

    pages = list(paginate(client.predictions.list))

    found = [one.id for page in pages for one in page.results]
    assert found == [str(job.id) for job in site.jobs()][: len(found)]
    assert [one.input["prompt"] for one in pages[0].results[:3]] == ["list 2", "list 1", "list 0"]  # type: ignore[index]  # set


def test_files_are_inputs(client: Client, site: Site) -> None:
    """An open file is uploaded first; the prediction names it as it was sent."""
    picture = io.BytesIO(PNG)
    picture.name = "cat.png"
    made = client.predictions.create(model=PRO, input={"prompt": "file", "image_prompt": picture})
    made.wait()
    uploaded = client.files.create(io.BytesIO(PNG), filename="dog.png", metadata={"a": 1})
    found = client.files.get(uploaded.id)

    job = next(job for job in site.jobs() if str(job.id) == made.id)
    assert job.input["image_prompt"] == f"upload:{uploaded.id}"  # the same bytes are kept once
    assert made.input is not None
    assert made.input["image_prompt"] == found.urls["get"]
    assert (uploaded.name, uploaded.metadata) == ("dog.png", {"a": 1})
    assert (found.content_type, found.size) == ("image/png", len(PNG))
    assert uploaded.id in [each.id for each in client.files.list()]
    assert client.files.delete(uploaded.id)
    with pytest.raises(ReplicateError):
        client.files.get(uploaded.id)


def test_webhooks_are_signed_for_the_clients_verifier(client: Client, site: Site) -> None:
    """The body is the prediction; start and end, if both were asked for."""
    before = len(site.hook.received)
    made = client.predictions.create(
        model=PRO,
        input={"prompt": "webhook"},
        webhook=site.hook.url,
        webhook_events_filter=["start", "completed"],
    )
    secret = client.webhooks.default.secret()
    site.call(site.hook.wait_for(before + 2))

    received = site.hook.received[before:]
    for each in received:
        Webhooks.validate(headers=each.headers, body=each.body.decode(), secret=secret)
    with pytest.raises(InvalidSignatureError):
        Webhooks.validate(
            headers=received[0].headers, body=received[1].body.decode(), secret=secret
        )
    assert [each.event["id"] for each in received] == [made.id, made.id]
    assert [each.event["status"] for each in received] == ["starting", "succeeded"]
    assert received[1].event["output"].startswith("https://")
    assert received[1].event["webhook_events_filter"] == ["start", "completed"]


def test_the_catalogue(client: Client) -> None:
    """Models can be listed and searched; what has no counterpart is empty."""
    listed = [f"{model.owner}/{model.name}" for model in client.models.list()]
    found = client._request(
        "QUERY", "/v1/models", content="flux", headers={"Content-Type": "text/plain"}
    )

    assert PRO in listed
    assert {each["owner"] for each in found.json()["results"]} == {"black-forest-labs"}
    assert client.accounts.current().username == "default"
    assert list(client.collections.list()) == list(client.deployments.list()) == []
    assert client.hardware.list() == []


def test_async_runs_at_once_are_separate(site: Site) -> None:
    """Two calls that were meant as two are two jobs, though they are equal."""

    async def both() -> list[Any]:
        client = Client(api_token=KEY, base_url=f"{site.base}/replicate")
        client.poll_interval = 0.02
        made = await asyncio.gather(
            *(client.async_run(PRO, {"prompt": "at once"}) for _ in range(2))
        )
        await client._async_client.aclose()
        return made

    urls = [each.url for each in asyncio.run(both())]

    assert len(set(urls)) == 2
    assert site.purchases("at once") == 2


@pytest.mark.parametrize("moment", ["before", "accepted"])
def test_a_repetition_pays_once(site: Site, plain: httpx2.Client, moment: str) -> None:
    """As JavaScript's client repeats a request whose answer is lost: at once, without a mark."""
    prompt = f"lost {moment}"

    async def accepted() -> None:
        while not any(job.prompt == prompt for job in await _all(site)):
            await asyncio.sleep(0.01)

    site.line.losing = None if moment == "before" else accepted
    site.line.lose = 2
    answers = []
    for _ in range(3):
        try:
            answers.append(_post(plain, prompt))
        except httpx2.TransportError:
            continue
    meant = _post(plain, prompt)

    assert site.line.lost == 2
    assert [answer.status_code for answer in answers] == [201]
    ids = {str(job.id) for job in site.jobs() if job.prompt == prompt}
    assert ids == {answers[0].json()["id"], meant.json()["id"]}
    assert len(ids) == 2
    assert site.purchases(prompt) == 2


async def _all(site: Site) -> Any:
    from fleek.store import listing  # noqa: PLC0415 - here alone

    page = await listing.page(site.rt.db, tenant_id="default", limit=100)
    return [view.job for view in page.views]


def _post(plain: httpx2.Client, prompt: str) -> httpx2.Response:
    headers = {"Authorization": f"Bearer {KEY}", "Prefer": "wait=30"}
    body = {"input": {"prompt": prompt}}
    return plain.post(f"/replicate/v1/models/{PRO}/predictions", json=body, headers=headers)


def test_streams_of_others_are_not_found(client: Client, plain: httpx2.Client) -> None:
    """Their address holds a signature, for that stream alone."""
    made, other = (
        client.predictions.create(model=PRO, input={"prompt": prompt}) for prompt in ("a", "b")
    )
    assert made.urls is not None
    own, query = made.urls["stream"].split("?")

    answers = [plain.get(f"{own.replace(made.id, other.id)}?{query}"), plain.get(own)]

    assert [answer.status_code for answer in answers] == [401, 401]
    assert plain.get(f"{own}?{query}").status_code == 200


def test_unknown_paths_have_the_services_form(plain: httpx2.Client) -> None:
    """And methods that a path does not have."""
    headers = {"Authorization": f"Bearer {KEY}"}

    missing = plain.get("/replicate/v1/nothing", headers=headers)
    wrong = plain.put("/replicate/models", headers=headers)

    assert missing.json() == {"title": "Not Found", "detail": "No such route.", "status": 404}
    assert wrong.json()["status"] == wrong.status_code == 405
