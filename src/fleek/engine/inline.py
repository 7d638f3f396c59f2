"""Answers that hold the bytes themselves: those go to storage before the answer is written down.

An answer is kept with the attempt, in the database, and a picture does not belong there. A
provider that forgets what it has answered leaves no other moment to save it.
"""

from dataclasses import replace
from typing import Final

import structlog

from fleek.domain.attempt import Attempt
from fleek.domain.errors import HostError, ProviderError
from fleek.domain.job import Job
from fleek.domain.long_text import LongText
from fleek.domain.media import Output
from fleek.domain.text import strip_unstorable
from fleek.engine.paid import recalls
from fleek.engine.runtime import Runtime
from fleek.engine.store_outputs import store_output
from fleek.providers.base import Failed, Succeeded
from fleek.store import jobs

INLINE_CHARS: Final = 8192  # what may stay in the answer
LEFT_CHARS: Final = 16 * 1024**2  # what may stay there while the storage is away

log = structlog.get_logger(__name__)


async def store_inline_outputs(
    rt: Runtime, attempt: Attempt, outcome: Succeeded
) -> Succeeded | Failed:
    """Return the outcome with its large content in storage, under the keys of the job's media.

    What cannot be stored now is left to collecting: at a provider that can be asked again it
    stays there, and else, within limits, in the answer. What is too large for either, and cannot
    be read, will never be: then the prediction has failed.

    Raises:
        HostError: It cannot be kept now; the answer must be asked for again.
    """
    if not any(map(is_large, outcome.outputs)):
        return outcome
    job = await jobs.get_any_tenant(rt.db, attempt.job_id)
    try:
        kept = [
            await _put_one(rt, job, attempt, index, output) if is_large(output) else output
            for index, output in enumerate(outcome.outputs)
        ]
    except (HostError, ProviderError) as error:
        left = _left(rt, attempt, outcome)
        if left is not None:
            log.warning("not_put_away", attempt_id=str(attempt.id), reason=str(error))
            return left
        if isinstance(error, HostError):
            raise
        return Failed(error.code, str(error), retryable=False)
    return Succeeded(tuple(kept))


def _left(rt: Runtime, attempt: Attempt, outcome: Succeeded) -> Succeeded | None:
    """Return the outcome with its large content left out or left in; None: it is too large."""
    if recalls(rt, attempt.provider) is not None:
        return Succeeded(tuple(Output() if is_large(one) else one for one in outcome.outputs))
    size = sum(len(one.uri or one.text or "") for one in outcome.outputs)
    if size > LEFT_CHARS:
        return None
    return Succeeded(tuple(map(_plain, outcome.outputs)))


def _plain(output: Output) -> Output:
    uri, text = output.uri, output.text
    return replace(
        output,
        uri=strip_unstorable(str(uri)) if isinstance(uri, LongText) else uri,
        text=strip_unstorable(str(text)) if isinstance(text, LongText) else text,
    )


async def discard_inline_outputs(rt: Runtime, outcome: Succeeded) -> None:
    """Remove from storage what `put_away` has put there: the job has moved on."""
    for output in outcome.outputs:
        if output.key is not None:
            await rt.storage.delete(output.key)


def is_large(output: Output) -> bool:
    """Whether an output's content is in the answer, and too large to stay there."""
    uri = output.uri or ""
    named = isinstance(uri, str) and uri[:5].lower() != "data:"
    inline = output.text or ("" if named else uri)
    return len(inline) > INLINE_CHARS


async def _put_one(rt: Runtime, job: Job, attempt: Attempt, index: int, output: Output) -> Output:
    media = await store_output(rt, job, attempt, index, output, most=rt.settings.max_job_bytes)
    return replace(output, uri=None, text=None, key=media.key)
