# ruff: noqa: INP001 - a program, not a package
"""The reference of every error: its code, its status, its exit code."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from scripts.docs.table import MADE, page, table

import fleek.app  # loads every error there is
import fleek.client.errors
from fleek.api.errors import CODES as ROUTER_CODES
from fleek.api.errors import status_of
from fleek.cli.exit_codes import Exit, exit_code
from fleek.domain import errors
from fleek.domain.errors import FleekError

HEAD: Final = """
Every refusal of the HTTP API is a problem document (RFC 9457, `application/problem+json`) with a
`code`. Codes are stable: write programs against them, not against the words. **Again** says
whether the same request may succeed later; answers with status 429 and 503 say in `Retry-After`
after how many seconds. **Exit code** is how a command of `fleek` ends; see
[the command line](cli.md).
"""

TREE: Final = frozenset({errors.__name__})

CLIENT: Final = """
What the command line and `fleek.Client` meet beside the classes above. A RequestError is raised
again as the server raised it; any other refusal becomes `ServerBusy` or `ServerError` and keeps
its `code`.
"""

PRECISE: Final[Mapping[str, tuple[type[FleekError], str]]] = {
    "unknown_provider": (errors.InvalidInput, "`provider` is not configured here."),
    "unknown_model": (errors.InvalidInput, "The provider has no model of this name."),
    "price_unknown": (
        errors.InvalidInput,
        "The model has no price, see [Costs and budgets](../how-to/costs-and-budgets.md).",
    ),
    "invalid_parameters": (
        errors.InvalidInput,
        "The model does not accept these `parameters`; `errors` names each of them.",
    ),
    "unsafe_url": (
        errors.InvalidInput,
        "Webhooks may not be sent to this address; see [Receive webhooks](../how-to/receive-webhooks.md).",
    ),
    "max_cost_exceeded": (
        errors.BudgetExceeded,
        "The job would cost more than its `max_cost`, or its price is not known.",
    ),
    "batch_cancelled": (
        errors.Conflict,
        "The batch was cancelled while its members were being accepted.",
    ),
    "too_many_members": (errors.InvalidInput, "A batch has at most 10,000 members."),
    "no_members": (errors.InvalidInput, "A batch needs at least one member."),
    "too_many_endpoints": (errors.Conflict, "The tenant has the maximum number of endpoints."),
    "endpoint_deleted": (errors.Conflict, "The endpoint of this delivery has been deleted."),
    "endpoint_disabled": (
        errors.Conflict,
        "The endpoint of this delivery is disabled: enable it first.",
    ),
    "too_many_keys": (errors.Conflict, "The tenant has the maximum number of keys: revoke one."),
    "too_many_operations": (
        errors.Conflict,
        "20 operations on many jobs of the tenant have not ended: wait for one of them.",
    ),
    "own_tenant": (errors.Conflict, "A key cannot disable its own tenant."),
    "not_retryable": (errors.Conflict, "Only a failed or cancelled job can be asked for again."),
    "already_ended": (errors.Conflict, "The job has completed or failed: too late to cancel it."),
    "nothing_to_collect": (
        errors.Conflict,
        "The job has no paid result: it was cancelled, it goes on, or no prediction succeeded.",
    ),
    "upload_in_use": (errors.Conflict, "A job that has not ended refers to the upload."),
    "upload_exists": (
        errors.Conflict,
        "Another file has the id that was reserved for this upload.",
    ),
    "unknown_upload": (errors.InvalidInput, "The upload that a parameter names is not there."),
    "unknown_job": (errors.InvalidInput, "The job whose output a parameter names is not there."),
    "unknown_output": (errors.InvalidInput, "That job has no output with this index."),
    "input_not_supported": (
        errors.InvalidInput,
        "The provider takes no files, and a parameter names an upload or a job.",
    ),
    "input_unreadable": (errors.InvalidInput, "A `data:` URI among the parameters is not one."),
    "parameter_not_supported": (
        errors.InvalidInput,
        "The provider's model cannot express a parameter; see `strict_parameters`.",
    ),
    "too_many_inputs": (errors.InvalidInput, "The parameters name more than 32 files."),
    "empty_upload": (errors.InvalidInput, "The uploaded file has no bytes."),
    "too_many_parts": (errors.InvalidInput, "A form has more parts than it may."),
    "not_one_file": (errors.InvalidInput, "The uploaded form holds no file, or several."),
    "missing_required_parameter": (errors.InvalidInput, "OpenAI's API: a parameter is missing."),
    "unknown_parameter": (errors.InvalidInput, "OpenAI's API: the model has no such parameter."),
    "unsupported_parameter": (
        errors.InvalidInput,
        "OpenAI's API: the parameter is needed for the result, and the model has none like it.",
    ),
    "not_completed": (errors.Conflict, "The job has no files, as it has not completed."),
}
"""Codes that are given where an error is raised."""

ENDINGS: Final[Mapping[str, str]] = {
    "input_gone": "A media input is not there any more, or its address responds that there is none.",
    "input_failed": "A job whose output it needs failed, was cancelled or was removed.",
    "input_unsafe": "The address of a media input, or one that it redirects to, may not be called.",
    "input_too_large": "A media input is larger than `MAX_UPLOAD_BYTES`, or than 256 KiB in a `data:` URI.",
    "input_not_media": "The address of a media input is that of a web page.",
    "input_unsupported": "The provider does not take files of this type.",
    "input_refused": "The provider refuses the file of a media input.",
    "moderation_flagged": "The moderation service at `MODERATION_URL` flagged the prompt or an input before a start, or all outputs.",
    "prediction_failed": "The provider ran it, and it failed.",
    "prediction_aborted": "The provider gave up before the prediction ran.",
    "prediction_cancelled": "It was cancelled at the provider, not by Fleek.",
    "prediction_gone": "The provider no longer has the prediction.",
    "prediction_lost": "The provider does not run it any more, and its answer has not come.",
    "content_flagged": "The provider's filter refused the prompt or the result.",
    "empty_output": "The provider says that it succeeded, and gave no file.",
    "output_unsupported": "The output is an address that cannot be fetched, such as `gs://…`.",
    "invalid_output": "The provider's answer names no output that can be read.",
    "output_too_large": "An output is larger than the limit.",
    "attempt_timeout": "The prediction ran longer than `ATTEMPT_TIMEOUT` and was stopped.",
    "deadline_exceeded": "The job's deadline passed.",
    "worker_crashed": "`MAX_WORKER_CRASHES` workers crashed while starting this job. Nothing was paid for, as far as the provider can tell.",
    "collecting_crashed": "Twenty workers in a row crashed while collecting its outputs, over an hour at least. The result is paid for, and can be collected again.",
    "provider_outcome_unknown": "It cannot be found out whether the provider was paid.",
    "provider_bad_request": "The provider calls the request malformed.",
    "provider_forbidden": "The provider does not allow this with this token.",
    "provider_model_not_found": "The provider has no such model.",
    "provider_too_large": "The provider calls the request too large.",
    "provider_invalid_input": "The provider does not accept the parameters.",
}
"""Codes of jobs that no error class has; a job may carry a provider's error as well."""

DEFERRALS: Final[Mapping[str, str]] = {
    "provider_unreachable": "No connection to the provider.",
    "provider_rate_limited": "The provider limits the rate of requests.",
    "provider_not_configured": "The worker has no provider of this name.",
    "provider_payment_required": "The account at the provider has no credit left.",
    "provider_unauthorized": "The provider refuses the token: jobs wait until it takes one.",
    "provider_storage_unavailable": "The provider's storage does not take a file now; jobs without files go on.",
    "provider_busy": "The provider has no slot free.",
    "provider_not_ready": "The provider is starting, or its model is not loaded.",
    "waiting_for_input": "The job waits for another one whose output it needs.",
    "input_late": "Handing over the media inputs took longer than five minutes.",
    "input_changed": "An input is not the file any more that was sent when the outcome became unknown.",
    "not_bought": "The provider was searched, and no prediction had been created.",
}
"""Why an attempt was given back; these stand in the metadata document and the history."""


def errors_page() -> str:
    """Return the reference of every error."""
    meaning = ("Code", "Meaning")
    status = ("Code", "Status", "Meaning")
    return page(
        "# Errors",
        MADE,
        HEAD,
        *_branches(),
        "## Any other error",
        f"A mistake of ours: status {status_of(FleekError)}, code `{FleekError.code}`. The log "
        "has the rest, under the same `request_id`.",
        "## More precise codes",
        "Where a request is refused, the code may say more than its class does.",
        table(
            status,
            ((f"`{code}`", str(status_of(kind)), text) for code, (kind, text) in PRECISE.items()),
        ),
        "The router itself refuses with these:",
        table(
            status,
            ((f"`{code}`", str(number), text) for number, (code, text) in ROUTER_CODES.items()),
        ),
        "## Why a job failed",
        "`error_code` of a failed job is one of these, or the code of a ProviderError above.",
        table(meaning, ((f"`{code}`", text) for code, text in ENDINGS.items())),
        "## Why an attempt was given back",
        "No prediction was created, and the job continues; the metadata document and the history say why. "
        "Beside the codes of ProviderError:",
        table(meaning, ((f"`{code}`", text) for code, text in DEFERRALS.items())),
        "## Inside the service",
        "These do not reach a caller under their own name; they may stand in the log.",
        table(meaning, ((f"`{kind.code}`", _first_line(kind)) for kind in _inner())),
        "## ClientError",
        CLIENT,
        _classes(_tree(fleek.client.errors.ClientError), "Code", "Class", "Exit code", "Meaning"),
    )


def _branches() -> Iterator[str]:
    head = ("Code", "Class", "Status", "Exit code", "Again", "Meaning")
    for branch in FleekError.__subclasses__():
        if branch.__module__ in TREE:
            yield f"## {branch.__name__}"
            yield _first_line(branch)
            yield _classes(_tree(branch), *head)


def _classes(found: Iterable[type[FleekError]], *head: str) -> str:
    rows = (
        {
            "Code": f"`{kind.code}`",
            "Class": f"`{kind.__name__}`",
            "Status": str(status_of(kind)),
            "Exit code": str(int(_exit(kind))),
            "Again": "yes" if kind.retryable else "no",
            "Meaning": _first_line(kind),
        }
        for kind in found
    )
    return table(head, (tuple(row[name] for name in head) for row in rows))


def _exit(kind: type[FleekError]) -> Exit:
    raised_by_server = kind.__module__ in TREE and kind is not errors.ConfigurationError
    if raised_by_server and status_of(kind) >= 500:  # the client keeps its code, not its class
        kind = fleek.client.errors.ServerError
    return exit_code(kind.__new__(kind, ""))


def _tree(kind: type[FleekError]) -> Iterator[type[FleekError]]:
    yield kind
    for below in kind.__subclasses__():
        if below.__module__ in TREE or below.__module__ == kind.__module__:
            yield from _tree(below)


def _inner(kind: type[FleekError] = FleekError) -> Iterator[type[FleekError]]:
    listed = {*TREE, fleek.client.errors.__name__}
    if kind.__module__ not in listed and "code" in vars(kind):
        yield kind
    for below in kind.__subclasses__():
        yield from _inner(below)


def _first_line(kind: type[FleekError]) -> str:
    return (kind.__doc__ or "").partition("\n")[0]
