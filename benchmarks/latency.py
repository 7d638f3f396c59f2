"""How long a finished prediction waits: from its end at the provider to the job's event `completed`."""

import json
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from datetime import datetime
from typing import Any, Final

from benchmarks.api import PICTURE
from benchmarks.databases import Databases
from benchmarks.figures import Row, Scale, Series
from benchmarks.servers import HOST, PATIENCE, Server, at, provider, service

PREDICT_SECONDS: Final = 0.7  # polling looks after 0.5 s, and again half a second later
WARM_JOBS: Final = 1
MS: Final = 1000


def latency(databases: Databases, scale: Scale) -> Iterator[Row]:
    """Jobs one by one, as nothing else is to be done; with callbacks and by polling alone."""
    with ExitStack() as stack:
        host = stack.enter_context(provider(PREDICT_SECONDS))
        for name, callbacks, target in (
            ("callback", True, "< 25 ms"),
            ("polling", False, "< interval + 25 ms"),
        ):
            env = at(host)
            with service(databases.fresh(), env, callbacks=callbacks) as ours:
                for _ in range(WARM_JOBS):
                    _waited(ours, host, env)
                waited = Series([_waited(ours, host, env) for _ in range(scale.singles)])
            figure = f"{waited:.0f} ms of wall time"
            yield Row(
                f"P5 provider's end to completed, {name}", databases.kind, figure, target=target
            )


def _waited(ours: Server, host: Server, env: Mapping[str, str]) -> float:
    """Run a job; returns the milliseconds from the end of its prediction until a follower knows."""
    job_id = _ask(ours, "/api/v1/generate", PICTURE)["id"]
    known = _followed(ours, job_id)
    prediction = ours.get(f"/api/v1/jobs/{job_id}")["external_job_id"]
    token = {"Authorization": f"Bearer {env['REPLICATE_API_TOKEN']}"}
    ended = _ask(host, f"/v1/predictions/{prediction}", headers=token)["completed_at"]
    return (known - datetime.fromisoformat(ended).timestamp()) * MS


def _followed(ours: Server, job_id: str) -> float:
    """Return when the event stream of a job has said that it is completed."""
    request = urllib.request.Request(f"http://{HOST}:{ours.port}/api/v1/jobs/{job_id}/events")
    with urllib.request.urlopen(request, timeout=PATIENCE) as stream:  # noqa: S310 - ours
        for line in stream:
            if line.startswith(b"event: job.completed"):
                return time.time()
    raise RuntimeError("the stream has ended before the job")


def _ask(
    server: Server,
    path: str,
    body: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] = {},
) -> Any:
    """Return the JSON that a server answers."""
    request = urllib.request.Request(
        f"http://{HOST}:{server.port}{path}",
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json", "Accept": "application/json", **headers},
    )
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:  # noqa: S310 - ours
        return json.load(answer)
