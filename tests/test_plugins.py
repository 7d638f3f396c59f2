"""An unusable plugin is a one-line `ConfigurationError`, in doctor as at the start."""

from pathlib import Path

import pytest

from backing_services import free_port
from fleek.bootstrap import open_provider, open_runtime
from fleek.doctor import examine
from fleek.domain.errors import ConfigurationError
from fleek.settings import Settings
from plugins import guide_source, install_guide, install_provider

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
