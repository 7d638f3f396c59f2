"""Replicate's official Python client, unmodified, with the facade: a process and an environment of its own."""

import asyncio
import json
import ssl
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest

from facade_site import KEY, Site
from fakes import PNG
from fleek.domain.job import Job, Status
from fleek.store import listing

PRO: Final = "black-forest-labs/flux-1.1-pro"
SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"

RunProgram = Callable[..., dict[str, Any]]
Check = Callable[..., dict[str, Any]]


@pytest.fixture
def check(run_program: RunProgram, site: Site) -> Check:
    """Return a function that runs checks with the client; it appends `/v1` to the address itself."""

    def check(*checks: str) -> dict[str, Any]:
        return run_program(
            *("replicate", "replicate_checks.py", PNG.hex(), site.hook.url, *checks),
            REPLICATE_BASE_URL=f"{site.base}/replicate",
            REPLICATE_API_TOKEN=KEY,
        )

    return check


@pytest.fixture
def plain(site: Site) -> Generator[httpx2.Client]:
    """Open an HTTP client without a key."""
    trusting = ssl.create_default_context(cafile=site.ca)
    with httpx2.Client(base_url=site.base, verify=trusting, timeout=60) as plain:
        yield plain


def _job(site: Site, job_id: str) -> Job:
    return next(job for job in site.jobs() if str(job.id) == job_id)


def test_run_returns_files(check: Check, site: Site, plain: httpx2.Client) -> None:
    """Read with the key, and without; a wait that was in vain goes on."""
    results = check("runs", "run_in_vain", "from_the_module")

    several, kinds, content, url = results.pop("runs")
    assert (several, kinds) == (2, ["FileOutput"])
    assert bytes.fromhex(content).startswith(SIGNATURE)
    assert plain.get(url).content.hex() == content
    assert results == {"run_in_vain": True, "from_the_module": "flux-1.1-pro"}
    assert site.purchases("run one") == 1
    assert site.purchases("[[emu:predict=1.5]] patience") == 1


def test_a_prediction_is_an_ordinary_job(check: Check, site: Site) -> None:
    """With its prompt, its parameters and its files."""
    (made,) = check("ordinary").values()

    asked = {"prompt": "ordinary", "seed": 7}
    assert made[1:] == [asked, True, PRO, 64, "succeeded"]
    job = _job(site, made[0])
    assert (job.prompt, dict(job.input), job.model) == ("ordinary", {"seed": 7}, PRO)
    assert job.status is Status.COMPLETED


def test_models_run_by_version_and_as_streams(check: Check) -> None:
    """A version is described with its schema; a language model returns text, others addresses of files."""
    results = check("versions", "texts", "streams", "catalogue")

    story = "Once upon a time there was a ledger."
    assert results == {
        "versions": [1, 1, True, True, True],
        "texts": [story, story, "done"],
        "streams": [["output", "done"], True, True],
        "catalogue": [True, ["black-forest-labs"], "default", []],
    }


def test_failures_and_refusals_are_raised(check: Check) -> None:
    """With the model's message, and with the name of the field."""
    results = check("failure", "refusals", "strangers")

    assert results["failure"] is True
    assert results["refusals"].keys() == {
        "input.seed",
        "input.prompt",
        "version",
        "colour",
        "webhook",
    }
    for name, (status, _, detail) in results["refusals"].items():
        assert status == 422, name
        assert f"- {name}: " in detail, name
    assert results["strangers"] == [[404, "Not Found"], [401, "Unauthenticated"]]


def test_cancelling(check: Check, site: Site) -> None:
    """The provider's prediction is cancelled, too; a prediction that has ended stays as it is."""
    (made,) = check("cancels").values()

    assert made[1:] == ["canceled", "canceled", "succeeded"]
    assert _job(site, made[0]).status is Status.CANCELLED


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


def test_lists_have_pages(check: Check, site: Site) -> None:
    """Newest first; each page has the address of the next one."""
    made, found, prompts = check("lists")["lists"]

    assert found == [str(job.id) for job in site.jobs()][: len(found)]
    assert found[:3] == made[::-1]
    assert prompts == ["list 2", "list 1", "list 0"]


def test_files_are_inputs(check: Check, site: Site) -> None:
    """An open file is uploaded first; the prediction names it as it was sent."""
    (found,) = check("files").values()

    job = _job(site, found.pop("prediction"))
    assert job.input["image_prompt"] == f"upload:{found.pop('upload')}"  # kept once
    assert found == {
        "shown": True,
        "described": ["dog.png", {"a": 1}, "image/png", len(PNG)],
        "listed": [True, True],
        "gone": 404,
    }


def test_webhooks_are_signed_for_the_clients_verifier(
    check: Check, site: Site, tmp_path: Path
) -> None:
    """The body is the prediction; start and end, if both were asked for."""
    before = len(site.hook.received)
    made = check("hooked")["hooked"]
    site.call(site.hook.wait_for(before + 2))
    received = site.hook.received[before:]
    sent = [[dict(each.headers), each.body.decode()] for each in received]
    (tmp_path / "received.json").write_text(json.dumps(sent))

    results = check("verified")

    assert results == {"verified": 2}
    assert [each.event["id"] for each in received] == [made, made]
    assert [each.event["status"] for each in received] == ["starting", "succeeded"]
    assert received[1].event["output"].startswith("https://")
    assert received[1].event["webhook_events_filter"] == ["start", "completed"]


def test_runs_at_once_are_separate(check: Check, site: Site) -> None:
    """Two calls that were meant as two are two jobs, though they are equal."""
    assert check("at_once") == {"at_once": 2}
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
    page = await listing.page(site.rt.db, tenant_id="default", limit=100)
    return [view.job for view in page.views]


def _post(plain: httpx2.Client, prompt: str) -> httpx2.Response:
    headers = {"Authorization": f"Bearer {KEY}", "Prefer": "wait=30"}
    body = {"input": {"prompt": prompt}}
    return plain.post(f"/replicate/v1/models/{PRO}/predictions", json=body, headers=headers)


def test_streams_of_others_are_not_found(plain: httpx2.Client) -> None:
    """Their address holds a signature, for that stream alone."""
    made, other = (_post(plain, prompt).json() for prompt in ("a", "b"))
    own, query = made["urls"]["stream"].split("?")

    answers = [plain.get(f"{own.replace(made['id'], other['id'])}?{query}"), plain.get(own)]

    assert [answer.status_code for answer in answers] == [401, 401]
    assert plain.get(f"{own}?{query}").status_code == 200


def test_unknown_paths_have_the_services_form(plain: httpx2.Client) -> None:
    """And methods that a path does not have."""
    headers = {"Authorization": f"Bearer {KEY}"}

    missing = plain.get("/replicate/v1/nothing", headers=headers)
    wrong = plain.put("/replicate/models", headers=headers)

    assert missing.json() == {"title": "Not Found", "detail": "No such route.", "status": 404}
    assert wrong.json()["status"] == wrong.status_code == 405
