"""Ask a moderation service before a start, and about outputs.

What it flags before a start is not paid for; flagged outputs are withheld.
"""

import asyncio
import base64
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Final

import structlog

from fleek import strict
from fleek.domain.errors import (
    InputUnusable,
    ModerationUnavailable,
    OutputUnsafe,
    Unreadable,
)
from fleek.domain.inputs import texts_of
from fleek.domain.job import Job
from fleek.domain.media import Key, Media
from fleek.domain.text import one_line
from fleek.outbound.addresses import UnsafeAddress
from fleek.outbound.client import CallFailed, Client

MAX_ANSWER: Final = 65_536  # bytes
MAX_CONTENT: Final = 8 * 1_048_576  # bytes of all files in one question
AT_ONCE: Final = 8
FLAGGED: Final = "moderation_flagged"

log = structlog.get_logger(__name__)


class Moderator:
    """A service that decides about prompts.

    Args:
        client: Calls it, and no other host.
        url: Its address.
        seconds: Maximum duration of a call.
        fails_open: Whether a job may go on without an answer.
        outputs: Whether it decides about outputs, too.
    """

    def __init__(
        self, client: Client, url: str, *, seconds: float, fails_open: bool, outputs: bool = False
    ) -> None:
        self.outputs = outputs
        self._client = client
        self._url = url
        self._seconds = seconds
        self._fails_open = fails_open
        self._places = asyncio.Semaphore(AT_ONCE)

    async def check(
        self, job: Job, parameters: Mapping[str, Any], sent: Mapping[str, Any]
    ) -> None:
        """Return if a job may start.

        Args:
            job: As it was submitted.
            parameters: With the hashes of inputs in their place.
            sent: Its inputs, as `Attempt.inputs`.

        Raises:
            InputUnusable: It was flagged.
            ModerationUnavailable: There is no answer now, and jobs wait for one.
        """
        verdict = await self._verdict(job, _question(job, parameters, sent))
        if verdict["flagged"]:
            log.info("moderation_flagged", job_id=str(job.id), tenant_id=job.tenant_id)
            raise InputUnusable(f"flagged by moderation: {_reason(verdict)}", code=FLAGGED)

    async def check_outputs(
        self, job: Job, files: Sequence[Media], read: Callable[[Key], AsyncIterator[bytes]]
    ) -> dict[int, str]:
        """Return the indexes of flagged files, each with the reason.

        Args:
            job: Whose files they are.
            files: In storage.
            read: Reads one of them there.

        Raises:
            OutputUnsafe: All of them are flagged.
            ModerationUnavailable: There is no answer now, and jobs wait for one.
        """
        question = {**_about(job), "stage": "output", "outputs": await _shown(files, read)}
        verdict = await self._verdict(job, question)
        rows = verdict.get("outputs")
        flagged = {
            row["index"]: _reason(row)
            for row in (rows if isinstance(rows, list) else ())
            if isinstance(row, dict) and row.get("flagged") is True and _is_index(row.get("index"))
        }
        if verdict["flagged"]:
            flagged = {file.index: _reason(verdict) for file in files}
        known = {file.index: flagged[file.index] for file in files if file.index in flagged}
        if known:
            log.info("moderation_flagged", job_id=str(job.id), tenant_id=job.tenant_id)
        if known and len(known) == len(files):
            reason = next(iter(known.values()))
            raise OutputUnsafe(f"flagged by moderation: {reason}", code=FLAGGED)
        return known

    async def _verdict(self, job: Job, question: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the answer to a question; without one, a good verdict if it fails open.

        Raises:
            ModerationUnavailable: There is none now.
        """
        try:
            async with self._places, asyncio.timeout(self._seconds):
                return await self._ask(question)
        except (CallFailed, UnsafeAddress, Unreadable, TimeoutError) as error:
            reason = one_line(str(error), 200) or "no response in time"
            log.warning("moderation_unreachable", job_id=str(job.id), reason=reason)
            if self._fails_open:
                return {"flagged": False}
            raise ModerationUnavailable(f"the moderation service: {reason}") from error

    async def _ask(self, question: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the answer to a question.

        Raises:
            CallFailed, UnsafeAddress, Unreadable: There is none.
        """
        headers = {"content-type": "application/json", "accept": "application/json"}
        content = await asyncio.to_thread(strict.dumps, question)
        async with self._client.open("POST", self._url, content, headers) as response:
            if response.status != 200:
                raise Unreadable(f"responded with status {response.status}")
            body = b""
            async for chunk in response.body:
                body += chunk
                if len(body) > MAX_ANSWER:
                    raise Unreadable("the response is too large")
        verdict = strict.loads(body)
        if not isinstance(verdict, dict) or not isinstance(verdict.get("flagged"), bool):
            raise Unreadable('the response has no "flagged": true or false')
        return verdict


def _is_index(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _reason(verdict: Mapping[str, Any]) -> str:
    return one_line(str(verdict.get("reason") or "no reason given"), 300)


def _about(job: Job) -> Mapping[str, Any]:
    return {
        "job_id": str(job.id),
        "tenant_id": job.tenant_id,
        "provider": job.provider,
        "model": job.model,
        "prompt": job.prompt,
    }


async def _shown(
    files: Sequence[Media], read: Callable[[Key], AsyncIterator[bytes]]
) -> list[dict[str, Any]]:
    """Return the files as the service sees them: with their bytes, as far as they are small."""
    rows: list[dict[str, Any]] = []
    left = MAX_CONTENT
    for file in files:
        content = None
        if file.size_bytes <= left:
            left -= file.size_bytes
            joined = b"".join([chunk async for chunk in read(file.key)])
            content = base64.b64encode(joined).decode()
        rows.append(
            {
                "index": file.index,
                "sha256": file.sha256,
                "size_bytes": file.size_bytes,
                "content_type": file.content_type,
                "content": content,
            }
        )
    return rows


def _question(
    job: Job, parameters: Mapping[str, Any], sent: Mapping[str, Any]
) -> Mapping[str, Any]:
    texts = texts_of(job.input) if sent else {}
    return {
        **_about(job),
        "stage": "input",
        "parameters": parameters,
        "inputs": [
            {
                "pointer": pointer,
                "reference": None if texts[pointer][:5] == "data:" else texts[pointer],
                "sha256": file["sha256"],
                "size_bytes": file["size_bytes"],
                "content_type": file["content_type"],
            }
            for pointer, file in sent.items()
        ],
    }
