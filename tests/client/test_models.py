"""The client's values are those of the wire format, without the library that the server reads them by."""

import json
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fleek import ServerError
from fleek.client import models, wire
from fleek.schemas import Addresses, JobRead, example

ROOT = Path(__file__).parents[2]
Maker = Callable[..., dict[str, Any]]


def test_they_are_made_from_the_wire_format() -> None:
    """Run ``python -m scripts.make_client_models`` after changing a schema."""
    script = runpy.run_path(str(ROOT / "scripts/make_client_models.py"))

    assert (ROOT / "src/fleek/client/models.py").read_text() == script["source"]()


def test_a_job_reads_as_the_server_writes_it() -> None:
    """And is written as the server would, to the last digit."""
    value = example(Addresses(public="http://x", media="http://x/media"))
    sent = JobRead.model_validate(value).model_dump(mode="json")

    job = wire.parse(models.JobRead, {**sent, "field_of_a_later_version": 1})

    assert job.to_dict() == sent
    assert job.outputs[0].thumbnails["320"].endswith("?size=320")
    assert job.route is not None
    assert job.route.tried == []


@pytest.mark.parametrize(
    "change",
    [
        *({"id": "7"}, {"id": 7}, {"status": "new"}, {"priority": True}, {"priority": "5"}),
        *({"created_at": "soon"}, {"created_at": "2026-01-02T03:04:05"}, {"outputs": {}}),
        *({"outputs": [1]}, {"parameters": []}, {"links": None}, {"progress": "0.5"}),
    ],
)
def test_anything_else_is_not_read(a_job: Maker, change: dict[str, Any]) -> None:
    """It is another server's, or damaged."""
    with pytest.raises(ServerError, match="version 1"):
        wire.parse(models.JobRead, {**a_job(), **change})


def test_a_missing_field_is_not_read(a_job: Maker) -> None:
    """Unless it is younger than version 1."""
    job = a_job()
    del job["status"]

    with pytest.raises(ServerError):
        wire.parse(models.JobRead, job)


def test_a_value_is_readable(a_job: Maker) -> None:
    """In a log and at a prompt: what matters, and no secrets."""
    job = models.JobRead.from_json(a_job(prompt="a cat " * 30))
    secret = models.SecretRead.from_json({"secret": "whsec_x"})

    assert repr(job).startswith(
        "JobRead(id='0198f000-0000-7000-8000-000000000001', status='pending'"
    )
    assert "…" in repr(job)
    assert len(repr(job)) < 250
    assert repr(secret) == "SecretRead()"


def imported(statement: str) -> set[str]:
    """Return the modules that a statement loads in a new process."""
    code = f"import sys; before = set(sys.modules); {statement}; import json"
    code += "; print(json.dumps(sorted(set(sys.modules) - before)))"
    done = subprocess.run(  # noqa: S603 - ourselves
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return set(json.loads(done.stdout))


def test_the_client_loads_a_third_of_what_a_server_does() -> None:
    """Counted, as time depends on the machine. httpx2 is loaded by the first client."""
    client = imported("from fleek import Client")
    opened = imported("from fleek import Client; Client()")
    server = imported("import fastapi, uvicorn")

    assert 3 * len(client) <= len(server), (len(client), len(server))
    assert len(opened) < len(server)
    packages = {name.partition(".")[0] for name in opened}
    assert packages & {"asyncio", "pydantic", "fastapi", "sqlalchemy", "typer", "rich"} == set()
