"""Ask a moderation service before a start, so that nothing that it flags is paid for."""

import asyncio
from collections.abc import Mapping
from typing import Any, Final

import structlog

from fleek import strict
from fleek.domain.errors import InputUnusable, ModerationUnavailable, Unreadable
from fleek.domain.inputs import texts_of
from fleek.domain.job import Job
from fleek.domain.text import one_line
from fleek.outbound.addresses import UnsafeAddress
from fleek.outbound.client import CallFailed, Client

MAX_ANSWER: Final = 65_536  # bytes
AT_ONCE: Final = 32
FLAGGED: Final = "moderation_flagged"

log = structlog.get_logger(__name__)


class Moderator:
    """A service that decides about prompts.

    Args:
        client: Calls it, and no other host.
        url: Its address.
        seconds: Maximum duration of a call.
        fails_open: Whether a job may start without an answer.
    """

    def __init__(self, client: Client, url: str, *, seconds: float, fails_open: bool) -> None:
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
        question = _question(job, parameters, sent)
        try:
            async with self._places, asyncio.timeout(self._seconds):
                verdict = await self._ask(question)
        except (CallFailed, UnsafeAddress, Unreadable, TimeoutError) as error:
            reason = one_line(str(error), 200) or "no response in time"
            log.warning("moderation_unreachable", job_id=str(job.id), reason=reason)
            if self._fails_open:
                return
            raise ModerationUnavailable(f"the moderation service: {reason}") from error
        if verdict["flagged"]:
            reason = one_line(str(verdict.get("reason") or "no reason given"), 300)
            log.info("moderation_flagged", job_id=str(job.id), tenant_id=job.tenant_id)
            raise InputUnusable(f"flagged by moderation: {reason}", code=FLAGGED)

    async def _ask(self, question: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the answer to a question.

        Raises:
            CallFailed, UnsafeAddress, Unreadable: There is none.
        """
        headers = {"content-type": "application/json", "accept": "application/json"}
        content = strict.dumps(question)
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


def _question(
    job: Job, parameters: Mapping[str, Any], sent: Mapping[str, Any]
) -> Mapping[str, Any]:
    texts = texts_of(job.input) if sent else {}
    return {
        "stage": "input",
        "job_id": str(job.id),
        "tenant_id": job.tenant_id,
        "provider": job.provider,
        "model": job.model,
        "prompt": job.prompt,
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
