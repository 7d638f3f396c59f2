"""What clients saw, line by line: a call begins, and ends with success, an error, or unknown."""

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Literal

import httpx2

from service_process import Service

Phase = Literal["invoke", "ok", "fail", "info"]
"""A call that begins; that did what it said; that certainly did nothing; of which nobody knows."""

PATIENCE: Final = 10.0  # seconds until a client gives a call up


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
    """One caller with a connection of its own; nothing is tried twice behind its back."""

    def __init__(self, service: Service, history: History, number: int) -> None:
        self.number = number
        self._history = history
        base = f"http://127.0.0.1:{service.port}"
        self._http = httpx2.Client(base_url=base, timeout=PATIENCE, trust_env=False)

    def submit(self, prompt: str, **fields: Any) -> str | None:
        """Submit a job; returns its id, or None if nobody knows whether there is one."""
        body: dict[str, Any] = {"prompt": prompt, **fields}
        answer = self._call(
            "submit", lambda: self._http.post("/api/v1/generate", json=body), **body
        )
        return None if answer is None else str(answer.json()["id"])

    def cancel(self, job_id: str) -> bool:
        """Cancel a job; returns whether an answer came: it has won, or it has lost."""
        path = f"/api/v1/jobs/{job_id}/cancel"
        answer = self._call("cancel", lambda: self._http.post(path), job=job_id, good=(200, 409))
        return answer is not None

    def collect(self, job_id: str) -> bool:
        """Collect a failed job's result again; returns whether an answer came."""
        path = f"/api/v1/jobs/{job_id}/collect"
        answer = self._call(
            "collect", lambda: self._http.post(path), job=job_id, good=(200, 202, 409, 410)
        )
        return answer is not None

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def _call(
        self,
        op: str,
        ask: Callable[[], httpx2.Response],
        *,
        good: tuple[int, ...] = (201,),
        **facts: Any,
    ) -> httpx2.Response | None:
        self._history.note(self.number, op, "invoke", **facts)
        try:
            answer = ask()
        except httpx2.ConnectError as error:
            self._history.note(self.number, op, "fail", **facts, status=repr(error))
            return None
        except httpx2.HTTPError as error:
            self._history.note(self.number, op, "info", **facts, status=repr(error))
            return None
        if answer.status_code not in good:
            self._history.note(self.number, op, "info", **facts, status=answer.status_code)
            return None
        told = answer.json()
        said = {"status": answer.status_code, "job": told.get("id", facts.get("job"))}
        self._history.note(self.number, op, "ok", **{**facts, **said})
        return answer
