"""Media inputs: found at submission, and handed to the provider before each start.

What is sent is written with the intent, by its hash. An input that cannot be used fails the job before
anything is paid for; one that cannot be read now postpones the start.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import structlog
from uuid_utils.compat import uuid4

from fleek.domain.attempt import Attempt
from fleek.domain.data_uri import DataUriUnreadable, decode
from fleek.domain.errors import (
    FieldError,
    HostError,
    InputUnusable,
    InvalidInput,
    NotFound,
    ProviderUnavailable,
    TooLarge,
)
from fleek.domain.inputs import (
    MAX_DATA_BYTES,
    MAX_INPUTS,
    InputKind,
    MediaInput,
    media_inputs,
    texts_of,
    with_values,
)
from fleek.domain.job import Job, JobError, JobId, JobRequest, Status
from fleek.domain.media import Key
from fleek.domain.transitions import fail_permanently, postpone_start
from fleek.domain.uploads import UploadId
from fleek.domain.values import dataclass
from fleek.engine import failover, throttle
from fleek.engine.accounts import Account, account_of, choose_account
from fleek.engine.apply import apply_until_stored
from fleek.engine.fetch_input import check_address, fetch_input
from fleek.engine.runtime import Runtime
from fleek.engine.spool import Spooled, write_spool
from fleek.engine.uploads import accept_upload
from fleek.providers.base import InputFile, Provider, Schema, SupportsUpload
from fleek.storage.base import spool_file
from fleek.store import inputs, uploads
from fleek.store.updates import Update

STAND_IN: Final = "https://media.example.com/input"
"""Takes the place of a reference where parameters are checked by a model's schema."""

PROVIDERS_OWN: Final = frozenset({"input_refused", "input_unsupported"})
"""Codes of inputs that a provider does not take, and another one may."""

LIMIT_SECONDS: Final = 300.0  # to read all inputs of a job and hand them over

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Prepared:
    """The inputs of one job, ready to be sent."""

    route: tuple[str, str]  # the provider and the model that they are for
    parameters: Mapping[str, Any]  # with what the provider takes in the place of references
    sent: Mapping[str, Any]  # as `Attempt.inputs`
    account: str | None = None  # of the provider, that has them; None: any


def route_of(job: Job) -> tuple[str, str]:
    """Return the provider and the model of a job."""
    return (job.provider, job.model)


def find_inputs(
    rt: Runtime, provider: Provider, schema: Schema | None, request: JobRequest
) -> tuple[MediaInput, ...]:
    """Return the media inputs of a request.

    A provider that takes no files gets addresses and ``data:`` URIs as they are.

    Raises:
        InvalidInput: There are too many, or one cannot be used.
    """
    found = media_inputs(request.parameters, schema)
    if not found:
        return ()
    if not isinstance(provider, SupportsUpload):
        ours = [each for each in found if each.id is not None]
        if ours:
            raise _refused(ours[0], "input_not_supported", "this provider takes no files")
        return ()
    if len(found) > MAX_INPUTS:
        raise _refused(found[-1], "too_many_inputs", f"a job has at most {MAX_INPUTS} inputs")
    for each in found:
        if each.kind is InputKind.MALFORMED:
            detail = "must be upload:ID, job:ID or job:ID/NUMBER, with an id as the API returns it"
            raise _refused(each, "malformed_reference", detail)
        if each.kind is InputKind.HTTPS:
            _check_address(rt, each, texts_of(request.parameters)[each.pointer])
        if each.kind is InputKind.DATA:
            _check_data(each, texts_of(request.parameters)[each.pointer])
    return found


def _check_address(rt: Runtime, wanted: MediaInput, address: str) -> None:
    try:
        check_address(address, rt.inputs.policy)
    except InputUnusable as error:
        raise _refused(wanted, error.code, str(error)) from error


def _check_data(wanted: MediaInput, text: str) -> None:
    if len(text) > 3 * MAX_DATA_BYTES or len(content := _decoded(wanted, text)) > MAX_DATA_BYTES:
        detail = f"a data: URI holds at most {MAX_DATA_BYTES} bytes: upload the file instead"
        raise _refused(wanted, "input_too_large", detail)
    if not content:
        raise _refused(wanted, "input_unreadable", "the data: URI holds nothing")


def _decoded(wanted: MediaInput, text: str) -> bytes:
    try:
        return b"".join(decode(iter((text,))))
    except DataUriUnreadable as error:
        raise _refused(wanted, "input_unreadable", f"cannot be read: {error}") from error


def _refused(wanted: MediaInput, code: str, detail: str) -> InvalidInput:
    field = FieldError(f"/parameters{wanted.pointer}", code, detail)
    return InvalidInput(detail, code=code, errors=[field])


def checkable(request: JobRequest, found: tuple[MediaInput, ...]) -> Mapping[str, Any]:
    """Return the parameters as a model's schema can check them."""
    if not found:
        return request.parameters
    return with_values(request.parameters, {each.pointer: STAND_IN for each in found})


async def prepare(rt: Runtime, job: Job) -> Prepared | None:
    """Hand the inputs of a pending job to its provider, and ask the moderation service.

    None: the job does not start now. The reason is recorded on it: nothing was paid for.
    """
    prepared = Prepared(route_of(job), job.input, {})
    account = choose_account(rt, job.provider) if job.provider in rt.providers else None
    try:
        async with asyncio.timeout(LIMIT_SECONDS):
            if job.inputs:
                prepared = await hand_over(rt, job, account)
            if rt.moderator is not None:
                await rt.moderator.check(job, content_of(job, prepared.sent), prepared.sent)
            return prepared
    except InputUnusable as error:
        await _fail(rt, job, error)
    except ProviderUnavailable as error:
        await throttle.record_failure(rt, job, error, None if account is None else account.key)
        await _postpone(rt, job, error)
    except HostError as error:
        await _postpone(rt, job, ProviderUnavailable(str(error), code=error.code))
    except TimeoutError:
        late = ProviderUnavailable("handing over the inputs took too long", code="input_late")
        await _postpone(rt, job, late)
    return None


async def hand_over(rt: Runtime, job: Job, account: Account | None) -> Prepared:
    """Hand the inputs of a job to an account of its provider; None: there is none now.

    Raises:
        InputUnusable: One of them never can be.
        ProviderUnavailable: One of them cannot be now.
        HostError: The same.
    """
    provider: object = None if account is None else account.provider
    if account is None or not isinstance(provider, SupportsUpload):
        message = f"the provider {job.provider} is not configured here, or takes nothing now"
        raise ProviderUnavailable(message, code="provider_not_configured")
    values: dict[str, str] = {}
    sent: dict[str, Any] = {}
    for wanted in job.inputs:
        value, file = await _hand_over_one(rt, provider, job, wanted)
        values[wanted.pointer] = value
        sent[wanted.pointer] = {
            "sha256": file.sha256,
            "size_bytes": file.size_bytes,
            "content_type": file.content_type,
            **({} if value[:5] == "data:" else {"address": value}),
        }
    return Prepared(route_of(job), with_values(job.input, values), sent, account.name)


async def _hand_over_one(
    rt: Runtime, provider: SupportsUpload, job: Job, wanted: MediaInput
) -> tuple[str, InputFile]:
    most = rt.settings.max_upload_bytes
    limit = f"{wanted.pointer}: the file is larger than MAX_UPLOAD_BYTES={most}"
    async with spool_file(rt.storage, f"input-{uuid4()}") as path:
        spooled = await write_spool(
            await _chunks(rt, job, wanted),
            path,
            most=most,
            too_large=InputUnusable(limit, code="input_too_large"),
            min_free_bytes=rt.settings.min_free_bytes,
        )
        file = _described(path, spooled)
        return await provider.upload(file), file


def _described(path: Path, spooled: Spooled) -> InputFile:
    return InputFile(
        path=path,
        name=f"{spooled.sha256[:16]}.{spooled.sniffed.extension}",
        sha256=spooled.sha256,
        size_bytes=spooled.size_bytes,
        content_type=spooled.sniffed.content_type,
    )


async def _chunks(rt: Runtime, job: Job, wanted: MediaInput) -> AsyncIterator[bytes]:
    """Return the bytes of an input."""
    if wanted.kind is InputKind.DATA:
        return _one(_decoded(wanted, texts_of(job.input)[wanted.pointer]))
    return _stored(rt, await _key(rt, job, wanted))


async def _key(rt: Runtime, job: Job, wanted: MediaInput) -> Key:
    """Return where the file of an input is stored."""
    where = wanted.pointer
    if wanted.kind is InputKind.HTTPS:
        return await _fetched(rt, job, wanted)
    if wanted.kind is InputKind.UPLOAD:
        try:
            upload = await uploads.get(rt.db, UploadId(UUID(wanted.id)), tenant_id=job.tenant_id)
        except NotFound as error:
            raise InputUnusable(f"{where}: the upload is gone", code="input_gone") from error
        return upload.key
    media = await inputs.output(
        rt.db, JobId(UUID(wanted.id)), index=wanted.index, tenant_id=job.tenant_id
    )
    if media is None:
        message = f"{where}: job {wanted.id} has no output {wanted.index} any more"
        raise InputUnusable(message, code="input_gone")
    return media.key


async def _fetched(rt: Runtime, job: Job, wanted: MediaInput) -> Key:
    """Return where the file at an address is stored; it is fetched once for a job, and kept."""
    number = job.inputs.index(wanted)
    if (known := await inputs.fetched(rt.db, job.id, number)) is not None:
        return known
    address = texts_of(job.input)[wanted.pointer]
    try:
        upload = await accept_upload(rt, fetch_input(rt.inputs, address), tenant_id=job.tenant_id)
    except (TooLarge, InvalidInput) as error:
        code = "input_too_large" if isinstance(error, TooLarge) else "input_gone"
        raise InputUnusable(f"{wanted.pointer}: {error}", code=code) from error
    if upload.content_type == "text/html":
        message = f"{wanted.pointer}: the address is that of a page, not of a file"
        raise InputUnusable(message, code="input_not_media")
    return await inputs.keep_fetched(rt.db, job.id, number, upload)


async def _one(content: bytes) -> AsyncIterator[bytes]:
    yield content


async def _stored(rt: Runtime, key: Key) -> AsyncIterator[bytes]:
    try:
        async for chunk in rt.storage.read(key):
            yield chunk
    except NotFound as error:
        raise InputUnusable("an input is not in storage any more", code="input_gone") from error


async def _fail(rt: Runtime, job: Job, error: InputUnusable) -> None:
    reason = JobError(code=error.code, message=str(error))

    def decide(current: Job, _: Attempt | None) -> Update:
        """Fail, or reroute what its provider alone refuses; nothing if the job has moved on."""
        if current.status is not Status.PENDING or current.attempt_id != job.attempt_id:
            return Update()
        if route_of(current) != route_of(job):
            return Update()
        if error.code not in PROVIDERS_OWN:
            return Update(change=fail_permanently(current, reason, now=rt.now()))
        return Update(change=failover.refused(rt, current, reason))

    await apply_until_stored(rt, job.id, decide, event="failed")


async def _postpone(rt: Runtime, job: Job, error: ProviderUnavailable) -> None:
    def decide(current: Job, _: Attempt | None) -> Update:
        if current.status is not Status.PENDING or current.version != job.version:
            return Update()
        change = postpone_start(current, error, now=rt.now(), backoff=rt.settings.backoff)
        return Update(change=change)

    log.info("input_postponed", job_id=str(job.id), code=error.code, reason=str(error))
    await apply_until_stored(rt, job.id, decide, event="input_postponed")


async def with_inputs(rt: Runtime, job: Job, attempt: Attempt | None = None) -> Job:
    """Return the job as its provider takes it, for another call about a prediction of it.

    `attempt`: that the same bytes must be sent for as before.

    Raises:
        ProviderUnavailable: Its inputs cannot be had now, or are not those any more.
        HostError: The same.
    """
    if not job.inputs:
        return job
    account = None
    if job.provider in rt.providers:
        account = account_of(rt, job.provider, None if attempt is None else attempt.account)
    try:
        prepared = await hand_over(rt, job, account)
    except InputUnusable as error:
        raise ProviderUnavailable(str(error), code=error.code) from error
    if attempt is not None and _hashes(prepared.sent) != _hashes(attempt.inputs or {}):
        raise ProviderUnavailable("the inputs are not those that were sent", code="input_changed")
    return replace(job, input=prepared.parameters)


def _hashes(sent: Mapping[str, Any]) -> dict[str, str]:
    return {pointer: each["sha256"] for pointer, each in sent.items()}


def content_of(job: Job, sent: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """Return the parameters with the hashes of inputs in their place."""
    if not sent:
        return job.input
    hashes = {pointer: f"sha256:{digest}" for pointer, digest in _hashes(sent).items()}
    return with_values(job.input, hashes)
