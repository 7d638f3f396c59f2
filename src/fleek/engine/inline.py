"""Answers that hold the bytes themselves: those go to storage before the answer is written down.

An answer is kept with the attempt, in the database, and a picture does not belong there. A
provider that forgets what it has answered leaves no other moment to save it.
"""

from dataclasses import replace
from typing import Final

from fleek.domain.attempt import Attempt
from fleek.domain.errors import ProviderError
from fleek.domain.job import Job
from fleek.domain.media import Output
from fleek.engine.keep import keep_one
from fleek.engine.runtime import Runtime
from fleek.providers.base import Failed, Succeeded
from fleek.store import jobs

INLINE_CHARS: Final = 8192  # what may stay in the answer


async def put_away(rt: Runtime, attempt: Attempt, outcome: Succeeded) -> Succeeded | Failed:
    """Return the outcome with its large content in storage, under the keys of the job's media.

    What cannot be read out of the answer will never be: then the prediction has failed.

    Raises:
        StorageError: It cannot be kept now; the answer must be asked for again.
    """
    if not any(map(_is_large, outcome.outputs)):
        return outcome
    job = await jobs.peek(rt.db, attempt.job_id)
    try:
        kept = [
            await _put_one(rt, job, attempt, index, output) if _is_large(output) else output
            for index, output in enumerate(outcome.outputs)
        ]
    except ProviderError as error:
        return Failed(error.code, str(error), retryable=False)
    return Succeeded(tuple(kept))


async def take_out(rt: Runtime, outcome: Succeeded) -> None:
    """Remove from storage what `put_away` has put there: the job has moved on."""
    for output in outcome.outputs:
        if output.key is not None:
            await rt.storage.delete(output.key)


def _is_large(output: Output) -> bool:
    uri = output.uri or ""
    inline = output.text or (uri if uri[:5].lower() == "data:" else "")
    return len(inline) > INLINE_CHARS


async def _put_one(rt: Runtime, job: Job, attempt: Attempt, index: int, output: Output) -> Output:
    media = await keep_one(rt, job, attempt, index, output, most=rt.settings.max_job_bytes)
    return replace(output, uri=None, text=None, key=media.key)
