"""A service with short retentions: files are removed in time, and metrics show it."""

from pathlib import Path

import pytest

from backing_services import SLOW_LOCKS, both_databases
from service_process import Service, delay, running, until

SECOND = "0.00001"  # of a day
TEXT = {"accept": "text/plain"}
ERASED = "fleek_erased_files_total 1.0\n"


@pytest.mark.usefixtures("_full_suite")
@both_databases
def test_files_expire(database: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """The coordinator removes them in time; the job and its metadata document stay."""
    settings = {**delay("0.01"), "MEDIA_RETENTION_DAYS": SECOND}
    if database == "postgresql":
        url: str = request.getfixturevalue("database_url")
        settings["DATABASE_URL"] = url.removesuffix(SLOW_LOCKS)
    with running(tmp_path, **settings) as service:
        service.serve()
        job_id = service.submit()
        media = tmp_path / "storage" / "media"

        until(lambda: service.job(job_id)["purged_at"] is not None, why=service.tails)
        until(lambda: not list(media.iterdir()), why=service.tails)
        until(lambda: ERASED in metrics(service), why=lambda: metrics(service))

        job = service.job(job_id)
        assert (job["status"], job["result_url"], job["outputs"]) == ("completed", None, [])
        assert service.http.get(f"/media/{job_id}.png").status_code == 410
        assert service.http.get(f"/api/v1/jobs/{job_id}/metadata").status_code == 200


def metrics(service: Service) -> str:
    """Return the metrics of monitoring."""
    return service.http.get("/metrics", headers=TEXT).text
