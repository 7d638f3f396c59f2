"""Other requests of callers: tags, a bulk operation, a webhook, an upload, a batch."""

import json
import threading
from collections.abc import Callable
from itertools import count
from typing import Any, Final

import httpx2

from chaos.rig import Rig
from service_process import until

DONE_SECONDS: Final = 180.0  # a delivery is repeated when its lease of a minute has ended
MEMBERS: Final = 3
TAGS: Final = ["kept"]
UPLOADS: Final = "/api/v1/uploads"
TAKES_PICTURES: Final = "black-forest-labs/flux-1.1-pro"
RUNS_ON: Final = "[[emu:predict=2]]"  # longer than the next job takes to be submitted
CONTENT: Final = b"GIF89a\x01\x00\x01\x00"
OWN: Final = "own"  # the receiver of webhooks of single jobs
_numbers = count(1)


class Requests:
    """Sends each of them until it succeeds, during all faults."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._asking = threading.Thread(target=self._ask)
        self._upload = ""  # its id
        self._error: BaseException | None = None
        self._asking.start()

    def close(self) -> None:
        """Wait until all have succeeded.

        Raises:
            AssertionError: They have not.
        """
        self._asking.join()
        if self._error is not None:
            raise self._error

    def _ask(self) -> None:
        try:
            self._until(self._read_secret)
            job_id = self._submitted()
            self._until(lambda: self._tagged(job_id))
            self._until(lambda: self._operated(job_id))
            self._until(lambda: self._delivered(job_id))
            self._until(self._uploaded)
            self._until(self._chained)
            self._until(self._deleted)
            self._batched()
        except BaseException as error:  # noqa: BLE001 - raised again by `close`
            self._error = error

    def _submitted(self) -> str:
        client = self._rig.client(3)
        found: list[str] = []

        def submitted() -> bool:
            prompt = f"with a webhook {next(_numbers)}"
            job_id = client.submit(prompt, webhook_url=self._rig.receiver.url(OWN))
            found.extend([job_id] if job_id else [])
            return job_id is not None

        self._until(submitted)
        client.close()
        return found[0]

    def _delivered(self, job_id: str) -> bool:
        """Whether the end of the job was delivered, any number of times, and recorded."""
        listed = self._call("GET", f"/api/v1/webhooks/deliveries?job={job_id}")
        if not listed or listed[0]["state"] != "delivered":
            return False
        (delivery,) = listed
        bodies = {one.body for one in self._rig.receiver.received if one.id == delivery["id"]}
        assert [json.loads(body)["data"]["id"] for body in bodies] == [job_id]
        return True

    def _read_secret(self) -> bool:
        response = self._call("GET", "/api/v1/webhooks/secret")
        self._rig.secrets[OWN] = () if response is None else (response["secret"],)
        return response is not None

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

    def _uploaded(self) -> bool:
        """Whether a file is stored; an upload without a response is repeated, and is the same."""
        made = self._call("POST", UPLOADS, content=CONTENT)
        if made is not None:
            self._upload = made["url"]
        return made is not None and self._stored() == [CONTENT]

    def _chained(self) -> bool:
        """Whether a job with the upload has completed, and one with its output."""
        upload = self._upload.rpartition("/")[2]
        first = self._take(f"upload:{upload}", RUNS_ON)
        second = None if first is None else self._take(f"job:{first}")
        if second is None:
            return False
        self._until(lambda: self._ended(second))
        return True

    def _batched(self) -> None:
        """Submit a batch, repeat it with its key until there is a response, and wait for its end."""
        client = self._rig.client(3)
        prompts = [f"of a batch {next(_numbers)}" for _ in range(MEMBERS)]
        key = prompts[0].replace(" ", "-")
        found: list[str] = []

        def created() -> bool:
            found.extend(filter(None, [client.batch(prompts, key=key)]))
            return len(found) > 1  # the second one repeats the first

        def ended() -> bool:
            batch = self._call("GET", f"/api/v1/batches/{found[0]}")
            return batch is not None and batch["status"] == "ended"

        self._until(created)
        client.close()
        assert len(set(found)) == 1
        self._until(ended)

    def _take(self, reference: str, fault: str = "") -> str | None:
        client = self._rig.client(3)
        try:
            prompt = f"with an input {next(_numbers)}{fault}"
            return client.submit(
                prompt, model_name=TAKES_PICTURES, parameters={"image_prompt": reference}
            )
        finally:
            client.close()

    def _ended(self, job_id: str) -> bool:
        job = self._call("GET", f"/api/v1/jobs/{job_id}")
        assert job is None or job["status"] not in {"failed", "cancelled"}, job
        return job is not None and job["status"] == "completed"

    def _deleted(self) -> bool:
        """Whether the upload and its file are removed."""
        self._call("DELETE", self._upload)
        return self._stored() == []

    def _stored(self) -> list[bytes]:
        files = (self._rig.folder / "storage/uploads").rglob("*")
        return [path.read_bytes() for path in files if path.is_file()]

    def _call(
        self, method: str, path: str, body: Any = None, *, content: bytes | None = None
    ) -> Any:
        sent = {"json": body} if content is None else {"content": content}
        try:
            answer = self._rig.http.request(method, path, timeout=10.0, **sent)
        except httpx2.HTTPError:
            return None
        return answer.json() if answer.is_success else None

    def _until(self, met: Callable[[], bool]) -> None:
        until(met, seconds=DONE_SECONDS, look_seconds=0.1, why=self._rig.tails)
