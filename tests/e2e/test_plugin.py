"""The provider of the how-to guide, installed as a package with a real service."""

from collections.abc import Generator
from pathlib import Path

import pytest

from plugins import guide_source, install_guide, install_provider
from service_process import Service, running, until


@pytest.fixture
def service(_full_suite: None, tmp_path: Path) -> Generator[Service]:
    """Yield a service that imports plugins from its folder ``site``; it is not started."""
    site = tmp_path / "site"
    site.mkdir()
    with running(tmp_path, PYTHONPATH=str(site)) as opened:
        yield opened


def test_the_provider_of_the_guide_serves_jobs(service: Service) -> None:
    """Its code runs as it is printed, with coordinator, watch and doctor."""
    install_guide(service.folder / "site")
    service.env["PROVIDERS"] = "echo"
    process = service.serve()

    job_id = service.submit("Hello", parameters={"shout": True})
    until(lambda: service.job(job_id)["status"] == "completed", why=service.tails)
    until(lambda: health(service) == "healthy", why=service.tails)
    content = service.http.get(service.job(job_id)["outputs"][0]["url"]).content
    listed = service.http.get("/api/v1/models").json()
    doctor = service.start("doctor").wait()

    assert content == b"HELLO"
    assert [model["name"] for model in listed if model["default"]] == ["acme/echo"]
    assert doctor == 0
    assert process.stop() == 0, process.tail()


def health(service: Service) -> str:
    """Return the health of all parts, with a coordinator."""
    return str(service.http.get("/health/detailed").json()["status"])


def test_an_incomplete_plugin_prevents_the_start(service: Service) -> None:
    """With one line and exit code 2, before the first job is accepted."""
    source = guide_source().replace("async def poll", "def poll")
    install_provider(service.folder / "site", "flawed", source)

    process = service.start("serve", PROVIDERS="flawed")

    assert process.wait() == 2
    lines = [line for line in process.log.read_text().splitlines() if not line.startswith("{")]
    message = "the adapter does not fit its port: poll() must be 'async def' without 'yield'"
    assert lines == [f"fleek: PROVIDERS=flawed: {message}"]
