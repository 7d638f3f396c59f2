"""What clients saw, line by line: a call begins, and ends with success, an error, or unknown."""

import json
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal
from uuid import uuid4

import httpx2

from authorities import trusted
from service_process import Service

Phase = Literal["invoke", "ok", "fail", "info"]
"""A call begins, succeeds, certainly fails, or has an unknown outcome."""

PATIENCE: Final = 10.0  # time-out of a call in seconds
REPEATED_SECONDS: Final = 60.0  # period of repetitions without a response
PAUSE_SECONDS: Final = 0.2
SUBMIT: Final = "/api/v1/generate"
CERTAIN: Final = range(400, 500)  # refusals that certainly create no job
FULL: Final = 429
PEEKS: Final = (  # requests for a job by its id; none may find a foreign job
    ("GET", "/api/v1/jobs/{}"),
    ("GET", "/api/v1/status/{}"),
    ("GET", "/api/v1/jobs/{}/history"),
    ("GET", "/api/v1/jobs/{}/metadata"),
    ("GET", "/api/v1/download/{}"),
    ("POST", "/api/v1/jobs/{}/cancel"),
    ("POST", "/api/v1/jobs/{}/retry"),
)


class History:
    """Lines of all clients in the order in which they were noted; also kept in a file."""

    def __init__(self, path: Path) -> None:
        self.rows: list[dict[str, Any]] = []
        self._lock = threading.Lock()
        self._file = path.open("a", encoding="utf-8")

    def note(self, client: int, op: str, phase: Phase, **facts: Any) -> None:
        """Add a line."""
        row = {"t": time.time(), "client": client, "op": op, "phase": phase, **facts}
        with self._lock:
            self.rows.append(row)
            self._file.write(json.dumps(row) + "\n")
            self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class Client:
    """One caller of one tenant with its own connection; each of its calls is recorded."""

    def __init__(
        self, service: Service, history: History, number: int, *, tenant: str, key: str
    ) -> None:
        self.number = number
        self.tenant = tenant
        self._history = history
        base = f"http://127.0.0.1:{service.port}"
        self._http = httpx2.Client(
            base_url=base,
            verify=trusted(),
            timeout=PATIENCE,
            trust_env=False,
            headers={"X-API-Key": key},
        )

    def submit(
        self,
        prompt: str,
        *,
        key: str | None = None,
        first_seconds: float = PATIENCE,
        **fields: Any,
    ) -> str | None:
        """Submit a job with an idempotency key, and return its id, or None without a response.

        A request with an unknown outcome is repeated. `first_seconds`: the time-out of the first
        request.
        """
        key, seconds = key or uuid4().hex, first_seconds
        deadline = time.monotonic() + REPEATED_SECONDS
        doubtful = False
        while True:
            answer, certain = self._submit("submit", key, {"prompt": prompt, **fields}, seconds)
            if answer is not None:
                return str(answer.json()["id"])
            doubtful |= not certain
            if not doubtful or time.monotonic() > deadline:
                return None
            time.sleep(PAUSE_SECONDS if seconds == PATIENCE else 0)
            seconds = PATIENCE

    def batch(self, prompts: Sequence[str], *, key: str) -> str | None:
        """Submit a batch with an idempotency key; return its id, or None without a response."""
        for prompt in prompts:
            self._history.note(self.number, "batch", "invoke", tenant=self.tenant, prompt=prompt)
        body = {"requests": [{"prompt": prompt} for prompt in prompts]}
        headers = {"Idempotency-Key": key}
        try:
            answer = self._http.post("/api/v1/batches", json=body, headers=headers)
        except httpx2.HTTPError:
            return None
        return str(answer.json()["id"]) if answer.is_success else None

    def repeat(self, prompt: str, *, key: str, **fields: Any) -> None:
        """Send an accepted request again."""
        self._submit("repeat", key, {"prompt": prompt, **fields}, PATIENCE)

    def misuse(self, prompt: str, *, key: str) -> None:
        """Send another request with a used key."""
        self._submit("misuse", key, {"prompt": prompt}, PATIENCE, good=(201, 422))

    def cancel(self, job_id: str) -> bool:
        """Cancel a job, and return whether there was a response."""
        path = f"/api/v1/jobs/{job_id}/cancel"
        return self._call("cancel", "POST", path, job=job_id, good=(200, 409))[0] is not None

    def collect(self, job_id: str) -> bool:
        """Collect a failed job's result again, and return whether there was a response."""
        path = f"/api/v1/jobs/{job_id}/collect"
        good = (200, 202, 409, 410)
        return self._call("collect", "POST", path, job=job_id, good=good)[0] is not None

    def peek(self, job_id: str, turn: int) -> None:
        """Request a job of another tenant, on one of the routes."""
        method, path = PEEKS[turn % len(PEEKS)]
        self._call("peek", method, path.format(job_id), job=job_id, good=range(200, 500))

    def list(self) -> None:
        """List jobs, and record them."""
        self._call("list", "GET", "/api/v1/jobs?limit=100", good=(200,))

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def _submit(
        self,
        op: str,
        key: str,
        body: Mapping[str, Any],
        seconds: float,
        good: tuple[int, ...] = (201,),
    ) -> tuple[httpx2.Response | None, bool]:
        options = {"json": body, "headers": {"Idempotency-Key": key}, "timeout": seconds}
        facts = {"key": key, "prompt": body["prompt"]}
        return self._call(op, "POST", SUBMIT, options, good=good, **facts)

    def _call(
        self,
        op: str,
        method: str,
        path: str,
        options: Mapping[str, Any] | None = None,
        *,
        good: tuple[int, ...] | range = (201,),
        **facts: Any,
    ) -> tuple[httpx2.Response | None, bool]:
        """Make a call, and return a successful response and whether the outcome is certain."""
        facts["tenant"] = self.tenant
        self._history.note(self.number, op, "invoke", **facts)
        try:
            answer = self._http.request(method, path, **(options or {}))
        except httpx2.ConnectError as error:
            self._history.note(self.number, op, "fail", **facts, status=repr(error))
            return None, True
        except httpx2.HTTPError as error:
            self._history.note(self.number, op, "info", **facts, status=repr(error))
            return None, False
        if answer.status_code not in good or answer.status_code == FULL:
            certain = answer.status_code in CERTAIN
            phase: Phase = "fail" if certain else "info"
            self._history.note(self.number, op, phase, **facts, status=answer.status_code)
            return None, certain
        self._history.note(self.number, op, "ok", **{**facts, **_summary(answer)})
        return answer, True


def _summary(answer: httpx2.Response) -> Mapping[str, Any]:
    """Return the content of a response: status, job or jobs, and whether it is a repetition."""
    facts: dict[str, Any] = {"status": answer.status_code}
    if "json" not in answer.headers.get("content-type", ""):
        return facts
    summary = answer.json()
    if isinstance(summary, list):
        facts["jobs"] = [one["id"] for one in summary if "id" in one]
    elif "id" in summary:
        facts["job"] = summary["id"]
    if "idempotent-replayed" in answer.headers:
        facts["replayed"] = True
    return facts
