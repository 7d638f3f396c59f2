"""What callers ask for beside jobs: tags, an operation on many jobs, a webhook."""

import json
import threading
from collections.abc import Callable
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import Any, Final

import httpx2

from chaos.history import Client
from chaos.rig import Rig
from service_process import until

DONE_SECONDS: Final = 180.0  # a delivery is repeated when its lease of a minute has ended
TAGS: Final = ["kept"]
_numbers = count(1)


class Requests:
    """Asks for each of them, again and again until it is done, whatever happens to the service."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._received: list[dict[str, Any]] = []
        receive = partial(_Receiver, self._received)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), receive)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        self._asking = threading.Thread(target=self._ask)
        self._error: BaseException | None = None
        self._asking.start()

    def close(self) -> None:
        """Wait until all is done.

        Raises:
            AssertionError: It is not.
        """
        self._asking.join()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        if self._error is not None:
            raise self._error

    def _ask(self) -> None:
        try:
            job_id = self._submitted()
            self._until(lambda: self._tagged(job_id))
            self._until(lambda: self._operated(job_id))
            self._until(lambda: job_id in [event["data"]["id"] for event in self._received])
        except BaseException as error:  # noqa: BLE001 - raised again by `close`
            self._error = error

    def _submitted(self) -> str:
        client = Client(self._rig, self._rig.history, 3)
        port = self._server.server_address[1]
        found: list[str] = []

        def submitted() -> bool:
            prompt = f"with a webhook {next(_numbers)}"
            job_id = client.submit(prompt, webhook_url=f"http://127.0.0.1:{port}/hook")
            found.extend([job_id] if job_id else [])
            return job_id is not None

        self._until(submitted)
        client.close()
        return found[0]

    def _tagged(self, job_id: str) -> bool:
        changed = self._call("PATCH", f"/api/v1/jobs/{job_id}", {"tags": TAGS})
        return changed is not None and changed["tags"] == TAGS

    def _operated(self, job_id: str) -> bool:
        """Retry a job that cannot be retried: it is skipped, and the operation ends."""
        accepted = self._call("POST", "/api/v1/jobs/retry", {"ids": [job_id]})
        if accepted is None:
            return False
        path = f"/api/v1/operations/{accepted['id']}"

        def ended() -> bool:
            operation = self._call("GET", path)
            return operation is not None and operation["ended_at"] is not None

        self._until(ended)
        return True

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        try:
            answer = self._rig.http.request(method, path, json=body, timeout=10.0)
        except httpx2.HTTPError:
            return None
        return answer.json() if answer.is_success else None

    def _until(self, met: Callable[[], bool]) -> None:
        until(met, seconds=DONE_SECONDS, look_seconds=0.1, why=self._rig.tails)


class _Receiver(BaseHTTPRequestHandler):
    """Accepts every webhook."""

    def __init__(self, received: list[dict[str, Any]], *args: Any) -> None:
        self._received = received
        super().__init__(*args)

    def do_POST(self) -> None:
        """Take a webhook."""
        body = self.rfile.read(int(self.headers["content-length"]))
        self._received.append(json.loads(body))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""
