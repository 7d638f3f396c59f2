"""A service that keeps things for a short time: they go by themselves, and it says so."""

from pathlib import Path

import pytest

from backing_services import both_databases
from service_process import Service, delay, running, until

SECOND = "0.00001"  # of a day
TEXT = {"accept": "text/plain"}
ERASED = "fleek_erased_files_total 1.0\n"


@pytest.mark.usefixtures("_full_suite")
@both_databases
def test_files_go_by_themselves(
    database: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """The coordinator finds them in time; the job stays, and its document with it."""
    settings = {**delay("0.01"), "MEDIA_RETENTION_DAYS": SECOND}
    if database == "postgresql":
        settings["DATABASE_URL"] = request.getfixturevalue("database_url")
    with running(tmp_path, **settings) as service:
        service.serve()
        job_id = service.submit()
        media = tmp_path / "storage" / "media"

        until(lambda: service.job(job_id)["purged_at"] is not None, why=service.tails)
        until(lambda: not list(media.iterdir()), why=service.tails)
        until(lambda: ERASED in figures(service), why=lambda: figures(service))

        job = service.job(job_id)
        assert (job["status"], job["result_url"], job["outputs"]) == ("completed", None, [])
        assert service.http.get(f"/media/{job_id}.png").status_code == 410
        assert service.http.get(f"/api/v1/jobs/{job_id}/metadata").status_code == 200


def figures(service: Service) -> str:
    """Return what monitoring is told."""
    return service.http.get("/metrics", headers=TEXT).text
