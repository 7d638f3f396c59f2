"""An unusable plugin is a one-line `ConfigurationError`, in doctor as at the start."""

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

import samples
from backing_services import free_port
from fleek.bootstrap import open_provider, open_runtime
from fleek.doctor import examine
from fleek.domain.errors import (
    CallbackRejected,
    ConfigurationError,
    ProviderRejected,
    ProviderUnavailable,
)
from fleek.domain.job import PredictionId
from fleek.providers.base import Failed, Prediction, Provider, SupportsCallbacks
from fleek.settings import Settings
from lamp_host import KEY, Tasks, lamp_host
from plugins import (
    guide_source,
    install_guide,
    install_lamp,
    install_lamp_with_callbacks,
    install_provider,
)

OPENED = "async def connect"

FLAWS = {
    "lacking": (
        guide_source().replace("async def cancel", "async def stop"),
        "the adapter does not fit its port: cancel() is missing",
    ),
    "unsettled": (
        guide_source().replace('= "repeat"', '= "find"'),
        "reconcile_by is 'find', and find() is missing",
    ),
    "unnamed": (
        guide_source().replace(OPENED, "async def opened"),
        "the plugin's unnamed_plugin:connect cannot be imported: AttributeError",
    ),
    "unopened": (
        guide_source().replace("@asynccontextmanager", ""),
        "the plugin's connect() failed: TypeError",
    ),
    "unwritten": (
        guide_source() + "\n)",
        "the plugin's unwritten_plugin:connect cannot be imported: SyntaxError",
    ),
    "outdated": (
        f"from fleek.providers.base import Gone\n{guide_source()}",
        "ImportError at outdated_plugin.py, line 1: cannot import name 'Gone'",
    ),
    "alone": (
        f"import acme_s_library\n{guide_source()}",
        "ModuleNotFoundError at alone_plugin.py, line 1: No module named 'acme_s_library'",
    ),
    "broken": (
        guide_source().replace("yield EchoProvider()", "yield EchoProvider(1)"),
        "the plugin's connect() failed: TypeError at broken_plugin.py, line",
    ),
}
"""The source of each plugin, and the expected message."""


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Return settings of a service that can import what is installed into `tmp_path`."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("STORAGE_PATH", str(tmp_path / "storage"))
    return Settings(database_url=f"sqlite:///{tmp_path}/fleek.db", api_port=free_port())


@pytest.mark.parametrize("name", FLAWS)
async def test_an_invalid_plugin_is_a_one_line_error(
    name: str, settings: Settings, tmp_path: Path
) -> None:
    """It has the plugin's name, the setting and the fault; nothing is opened."""
    source, message = FLAWS[name]
    install_provider(tmp_path, name, source)
    chosen = settings.model_copy(update={"providers": ("placeholder", name)})

    with pytest.raises(ConfigurationError) as refused:
        async with open_runtime(chosen):
            pass
    errors = [finding for finding in await examine(chosen) if finding.status == "error"]

    assert str(refused.value).startswith(f"PROVIDERS={name}: ")
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
    assert [(one.subject, one.message) for one in errors] == [("provider", str(refused.value))]


async def test_the_provider_of_the_guide_is_accepted(settings: Settings, tmp_path: Path) -> None:
    """With the source and the metadata of the page."""
    install_guide(tmp_path)

    async with open_provider("echo") as provider:
        model = provider.default_model
    findings = await examine(settings.model_copy(update={"providers": ("echo",)}))

    assert model == "acme/echo"
    assert {finding.status for finding in findings} == {"ok"}


@pytest.fixture
async def lamp(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncGenerator[tuple[Provider, Tasks]]:
    """Yield the guide's provider that calls a host, and the tasks of that host."""
    install_lamp(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    async with lamp_host() as (address, tasks):
        monkeypatch.setenv("LAMP_KEY", KEY)
        monkeypatch.setenv("LAMP_URL", address)
        async with open_provider("lamp") as provider:
            yield provider, tasks


@pytest.mark.parametrize(
    ("task", "outcome"),
    [
        ({"state": "running"}, None),
        ({"state": "failed", "error": "x"}, Failed("prediction_failed", "x", retryable=False)),
        (
            {"state": "stopped"},
            Failed("prediction_cancelled", "the task was stopped", retryable=False),
        ),
    ],
)
async def test_the_guide_s_other_provider_reads_each_state(
    lamp: tuple[Provider, Tasks], task: dict[str, Any], outcome: Failed | None
) -> None:
    """As they are in the page's code."""
    provider, tasks = lamp
    key = PredictionId(str(UUID(int=1)))
    tasks[key] = task

    assert (await provider.poll([key]))[key].outcome == outcome
    assert await provider.cancel(key) == Prediction(id=key, outcome=outcome)


@pytest.mark.parametrize("task", [{"state": "new"}, {"state": "done"}, {"state": "failed"}])
async def test_the_guide_s_other_provider_tries_again_what_it_cannot_read(
    lamp: tuple[Provider, Tasks], task: dict[str, Any]
) -> None:
    """A host that changes its API must not fail jobs that are paid for."""
    provider, tasks = lamp
    key = PredictionId(str(UUID(int=1)))
    tasks[key] = task

    with pytest.raises(ProviderUnavailable):
        await provider.poll([key])


async def test_the_guide_s_other_provider_reports_refusals(
    lamp: tuple[Provider, Tasks], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of an input, which is final, and of the key, which pauses the account."""
    provider, tasks = lamp
    refused = samples.a_job(provider="lamp", prompt="refuse this", input={})
    with pytest.raises(ProviderRejected):
        await provider.start(refused, samples.an_attempt(refused))

    monkeypatch.setenv("LAMP_KEY", "wrong")
    async with open_provider("lamp") as other:
        with pytest.raises(ProviderUnavailable) as caught:
            await other.start(refused, samples.an_attempt(refused))

    assert caught.value.code == "provider_unauthorized"
    assert tasks == {}


async def test_the_guide_s_other_provider_receives_callbacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the two methods of the page, at the address that is sent with the task."""
    install_lamp_with_callbacks(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PUBLIC_URL", "https://fleek.example.com/")
    async with lamp_host() as (address, tasks):
        monkeypatch.setenv("LAMP_KEY", KEY)
        monkeypatch.setenv("LAMP_URL", address)
        async with open_provider("lit") as provider:
            job = samples.a_job(provider="lit", prompt="a cat", input={})
            attempt = samples.an_attempt(job)
            started = await provider.start(job, attempt)
            assert isinstance(provider, SupportsCallbacks)
            heard = await provider.callback({}, b'{"id": "%s"}' % started.id.encode())
            for body in (b"{", b"[]", b'{"id": "../x"}'):
                with pytest.raises(CallbackRejected):
                    await provider.callback({}, body)

    sent = tasks[started.id]["callback"]
    assert sent == f"https://fleek.example.com/webhooks/lamp/{attempt.id}.{attempt.nonce}"
    assert heard.prediction == Prediction(id=started.id)
