"""LiteLLM's proxy itself, between `fleek serve` and the emulator of OpenAI, whose ledger says what was paid.

It is installed once in a run: 120 packages, 750 MB, in a minute or more, and starts in up to one more. So this
runs when it is asked for: ``pytest -m live tests/providers/openai``.
"""

import subprocess
from base64 import b64encode
from collections.abc import Callable, Generator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest
import yaml

from backing_services import free_port
from chaos.host import Host
from client_environments import child_variables, environment_of
from fleek.emulator.media import render
from service_process import PATIENCE, Service, running, until

pytestmark = pytest.mark.live

LOCKS: Final = Path(__file__).parent / "proxy"
KEY: Final = "sk-of-the-proxy"
IMAGE, SPEECH, VIDEO = MODELS = ("gpt-image-2.5-flare", "tts-1", "sora-2")
ROUTES: Final = {"own": "/v1", "pass-through": "/openai_passthrough/v1"}
START_SECONDS: Final = 300.0
ENDED: Final = ("completed", "failed")

Run = Callable[..., dict[str, Any]]


class Proxy:
    """LiteLLM in a process of its own, in front of an emulator; it can be killed and started again."""

    def __init__(self, python: Path, folder: Path, host: Host) -> None:
        self.port, self._folder = free_port(), folder
        upstream = f"{host.url}/openai"
        (folder / "proxy.yaml").write_text(yaml.safe_dump(_config(f"{upstream}/v1")))
        settings = ["--config", "proxy.yaml", "--host", "127.0.0.1", "--telemetry", "False"]
        self._command = [str(python.parent / "litellm"), *settings, "--port", str(self.port)]
        self._env = child_variables(
            OPENAI_API_BASE=upstream,
            OPENAI_API_KEY="sk-of-the-host",
            LITELLM_LOCAL_MODEL_COST_MAP=True,
        )
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        log = self._folder / "proxy.log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(  # noqa: S603 - the program under test
                self._command, cwd=self._folder, env=self._env, stdout=output, stderr=output
            )
        until(self._answers, seconds=START_SECONDS, look_seconds=0.5, why=log.read_text)

    def _answers(self) -> bool:
        with suppress(httpx2.HTTPError):
            answer = httpx2.get(f"http://127.0.0.1:{self.port}/health/liveliness", timeout=5)
            return answer.status_code == 200
        return False

    def kill(self) -> None:
        """Kill it, as a power failure would."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(PATIENCE)


def _config(upstream: str) -> dict[str, Any]:
    """Return the settings that the guide names for routes of its own."""
    route = {"api_base": upstream, "api_key": "sk-of-the-host", "max_retries": 0}
    return {
        "model_list": [
            {"model_name": name, "litellm_params": {"model": f"openai/{name}", **route}}
            for name in MODELS
        ],
        "router_settings": {"disable_cooldowns": True},
        "general_settings": {"master_key": KEY},
    }


@pytest.fixture(scope="module")
def host(_full_suite: None, tmp_path_factory: pytest.TempPathFactory) -> Generator[Host]:
    """Yield the emulator of OpenAI."""
    host = Host(tmp_path_factory.mktemp("host"), seed=1)
    host.plan(queue_seconds=0, predict_seconds=0.2)
    yield host
    host.close()


@pytest.fixture(scope="module")
def proxy(host: Host, tmp_path_factory: pytest.TempPathFactory) -> Generator[Proxy]:
    """Yield LiteLLM in front of it."""
    base = tmp_path_factory.mktemp("litellm")
    proxy = Proxy(environment_of("litellm", base, locks=LOCKS), base, host)
    proxy.start()
    yield proxy
    proxy.kill()


@pytest.fixture(params=ROUTES)
def routes(request: pytest.FixtureRequest) -> str:
    """Return whose routes are used: those of LiteLLM, or those of the host through it."""
    return str(request.param)


@pytest.fixture
def service(proxy: Proxy, routes: str, tmp_path: Path) -> Generator[Service]:
    """Yield a service that uses LiteLLM."""
    settings = {
        "PROVIDERS": "openai",
        "OPENAI_BASE_URL": f"http://127.0.0.1:{proxy.port}{ROUTES[routes]}",
        "OPENAI_API_KEY": KEY,
        "OPENAI_MODELS": f"image:{IMAGE},speech:{SPEECH},video:{VIDEO}",
        "OPENAI_VOICE": "alloy",
        "RECONCILE_SECONDS": "3",
    }
    with running(tmp_path, **settings) as service:
        service.serve()
        yield service


@pytest.fixture
def run(service: Service, host: Host) -> Run:
    """Return a function that runs a job to its end, and returns it with the number of paid predictions."""

    def _run(model: str, prompt: str, **parameters: Any) -> dict[str, Any]:
        before = _paid(host)
        job_id = service.submit(prompt, model=model, parameters=parameters)
        until(lambda: service.job(job_id)["status"] in ENDED, why=service.tails)
        return {**service.job(job_id), "paid": _paid(host) - before}

    return _run


def _paid(host: Host) -> int:
    return len(host.ledger()["predictions"])


def _data_uri() -> str:
    return "data:image/png;base64," + b64encode(render("a/0", "png")).decode()


def test_each_kind_is_made_once(run: Run) -> None:
    """Images, edits with a mask and with two images, speech, and videos."""
    picture = _data_uri()

    made = [
        run(IMAGE, "a cat", size="1024x1024"),
        run(IMAGE, "a cat with a hat", image=picture, mask=picture),
        run(IMAGE, "two cats", image=[picture, picture]),
        run(SPEECH, "Good morning"),
        run(VIDEO, "waves", seconds=4),
        run(VIDEO, "waves at night", seconds=4, input_reference=picture),
    ]

    assert [(job["status"], job["paid"]) for job in made] == [("completed", 1)] * 6
    assert all(float(job["cost"]) > 0 for job in made)


@pytest.mark.parametrize(
    ("fault", "model", "code"),
    [
        ("nsfw", IMAGE, "content_flagged"),
        ("nsfw", SPEECH, "content_flagged"),
        ("nsfw", VIDEO, "content_flagged"),
        ("create_422", IMAGE, "provider_bad_request"),
        ("create_422", VIDEO, "provider_bad_request"),
        ("create_403=problem", SPEECH, "provider_forbidden"),
    ],
)
def test_a_refusal_of_the_host_is_recognized(
    run: Run, routes: str, fault: str, model: str, code: str
) -> None:
    """Also in the sentence that LiteLLM's own routes make of it."""
    job = run(model, f"[[emu:{fault}]] {routes} {model}")

    assert (job["status"], job["error_code"]) == ("failed", code)


@pytest.mark.parametrize("fault", ["create_then_5xx", "create_then_drop", "create_cut_body"])
@pytest.mark.parametrize("model", [SPEECH, VIDEO, "edit"])
def test_a_lost_response_is_paid_for_once(
    run: Run, routes: str, fault: str, model: str, request: pytest.FixtureRequest
) -> None:
    """A video is found by the list, which LiteLLM's own routes do not have."""
    files = {"image": _data_uri()} if model == "edit" else {}
    prompt = f"[[emu:{fault}]] {request.node.name}"

    job = run(IMAGE if model == "edit" else model, prompt, **files)

    found = model == VIDEO and routes == "pass-through"
    assert job["error_code"] == (None if found else "provider_outcome_unknown")
    assert job["paid"] == 1


def test_an_image_is_paid_for_once_through_the_pass_through_alone(run: Run, routes: str) -> None:
    """The client within LiteLLM's own route sends it three times; this says when that changes."""
    job = run(IMAGE, f"[[emu:create_then_drop*all]] {routes}")

    assert (job["error_code"], job["paid"]) == (
        "provider_outcome_unknown",
        1 if routes == "pass-through" else 3,
    )


def test_nothing_is_paid_for_twice_if_the_proxy_is_killed(
    service: Service, proxy: Proxy, host: Host, routes: str
) -> None:
    """Videos go on when it is back; images and speech that were being made cannot be found again."""
    before = _paid(host)
    ids = [
        service.submit(f"[[emu:predict=8]] killed {routes} {model}", model=model)
        for model in MODELS
    ]
    until(lambda: _paid(host) == before + len(MODELS), why=service.tails)
    until(lambda: service.job(ids[-1])["external_job_id"], why=service.tails)

    proxy.kill()
    proxy.start()
    until(lambda: all(service.job(one)["status"] in ENDED for one in ids), why=service.tails)

    codes = [service.job(one)["error_code"] for one in ids]
    assert codes == ["provider_outcome_unknown", "provider_outcome_unknown", None]
    assert _paid(host) == before + len(MODELS)
