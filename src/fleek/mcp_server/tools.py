"""The tools: submit, status, wait, list, cancel, models, upload.

Each is one call of the HTTP API, so that a job outlives this process, the conversation and the
program that holds it: whoever has its id asks again.
"""

import asyncio
import base64
import binascii
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, Final
from uuid import UUID

from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations
from pydantic import Field

from fleek import __version__
from fleek.client import AsyncClient, JobFailed, WaitTimeout
from fleek.client.models import JobRead
from fleek.domain.errors import FleekError, InvalidInput
from fleek.domain.job import Status
from fleek.mcp_server.views import JobsView, JobView, ModelsView, ModelView, UploadView

MAX_WAIT_SECONDS: Final = 600
MAX_LISTED: Final = 100

INSTRUCTIONS: Final = """\
Makes pictures, videos and sound. `submit` returns a job at once; `wait` until it has ended; then
`files` has the addresses. Jobs are kept: a job outlives this conversation and restarts, and is paid for
once. After an unclear failure of `submit`, look with `list` before submitting again, or give
`idempotency_key`: the same key makes the same job. `models` shows what there is, with a name also the
parameters. A parameter that takes a file is `upload:ID` (see `upload`), `job:ID` for what another job
makes, or an https address."""

READS: Final = ToolAnnotations(read_only_hint=True, open_world_hint=False)
REPEATABLE: Final = ToolAnnotations(
    read_only_hint=False, destructive_hint=True, idempotent_hint=True, open_world_hint=False
)
MAKES: Final = ToolAnnotations(
    read_only_hint=False, destructive_hint=False, idempotent_hint=False, open_world_hint=True
)
KEEPS: Final = ToolAnnotations(
    read_only_hint=False, destructive_hint=False, idempotent_hint=True, open_world_hint=False
)

Call = Context[Any, Any]
JobId = Annotated[UUID, Field(description="The id of the job.")]
Open = Callable[[str | None], AsyncClient]
"""Makes the client of a call, with the key of its caller; None: the key of this process."""


class Tools:
    """The tools on one service."""

    def __init__(self, open_client: Open, *, folders: Sequence[Path]) -> None:
        """Open nothing yet. `folders`: those whose files may be uploaded by their path."""
        self._open = open_client
        self._folders = [folder.resolve() for folder in folders]

    async def submit(
        self,
        ctx: Call,
        *,
        prompt: Annotated[
            str, Field(description="What to make; a model whose schema has x-prompt needs none.")
        ] = "",
        model: Annotated[
            str | None, Field(description="owner/name; default: the default model.")
        ] = None,
        parameters: Annotated[
            dict[str, Any] | None, Field(description="Parameters of the model.")
        ] = None,
        provider: str | None = None,
        idempotency_key: Annotated[
            str | None, Field(description="The same key makes the same job, for a day.")
        ] = None,
    ) -> JobView:
        """Create a job that makes media, and return it at once; see `wait`. This can cost money."""
        async with self._client(ctx) as client:
            job = await client.submit(
                prompt,
                model=model,
                parameters=parameters,
                provider=provider,
                idempotency_key=idempotency_key,
            )
        return JobView.of(job)

    async def status(self, ctx: Call, job_id: JobId) -> JobView:
        """Return a job as it is now."""
        async with self._client(ctx) as client:
            return JobView.of(await client.status(job_id))

    async def wait(
        self,
        ctx: Call,
        job_id: JobId,
        seconds: Annotated[
            float, Field(ge=0, le=MAX_WAIT_SECONDS, description="How long to wait at most.")
        ] = 50,
    ) -> JobView:
        """Wait until a job has ended, or the time is over, and return it as it is then.

        If it has not `ended`, wait again: it goes on.
        """
        reports = Reports(ctx)
        async with self._client(ctx) as client:
            try:
                job = await client.wait(job_id, timeout=seconds, on_update=reports.job)
            except (JobFailed, WaitTimeout) as ended:
                job = ended.job or await client.status(job_id)
            await reports.sent()
        return JobView.of(job)

    async def list_jobs(
        self,
        ctx: Call,
        status: Annotated[Status | None, Field(description="Only jobs with this status.")] = None,
        words: Annotated[str | None, Field(description="Words of the prompt.")] = None,
        limit: Annotated[int, Field(ge=1, le=MAX_LISTED)] = 10,
    ) -> JobsView:
        """List jobs, newest first."""
        async with self._client(ctx) as client:
            listed = client.jobs(status, q=words, limit=limit)
            return JobsView(jobs=[JobView.of(job) async for job in listed])

    async def cancel(self, ctx: Call, job_id: JobId) -> JobView:
        """Cancel a job that has not ended, also at its provider; cancelling twice is no error."""
        async with self._client(ctx) as client:
            return JobView.of(await client.cancel(job_id))

    async def models(
        self,
        ctx: Call,
        name: Annotated[
            str | None, Field(description="Only this model, with its parameters.")
        ] = None,
    ) -> ModelsView:
        """List the models; with a name, show one with the JSON schema of its parameters."""
        async with self._client(ctx) as client:
            one = None if name is None else await client.model(name)
            found = await client.models() if one is None else [one]
        return ModelsView(
            models=[ModelView.of(model, with_parameters=one is not None) for model in found]
        )

    async def upload(
        self,
        ctx: Call,
        content: Annotated[str, Field(description="The bytes of the file in base64.")],
    ) -> UploadView:
        """Upload a file for a parameter of a model; `reference` is the parameter's value."""
        return await self._upload(ctx, _decoded(content))

    async def upload_file(
        self,
        ctx: Call,
        path: Annotated[
            str | None, Field(description="The path of the file; or give `content`.")
        ] = None,
        content: Annotated[
            str | None, Field(description="The bytes of the file in base64.")
        ] = None,
    ) -> UploadView:
        """Upload a file for a parameter of a model; `reference` is the parameter's value."""
        if (path is None) == (content is None):
            raise ToolError("give either path or content")
        given = self._file(path) if path is not None else _decoded(content or "")
        return await self._upload(ctx, given)

    async def _upload(self, ctx: Call, file: Path | bytes) -> UploadView:
        async with self._client(ctx) as client:
            made = await client.upload(file)
        return UploadView.model_validate(made.to_dict())

    def _file(self, path: str) -> Path:
        """Return a file that may be uploaded: what the model asks for may be another's idea."""
        asked = Path(path).expanduser().resolve()
        if not any(asked.is_relative_to(folder) for folder in self._folders):
            allowed = ", ".join(map(str, self._folders))
            raise ToolError(f"{path} is outside of the folders for uploads: {allowed}")
        return asked

    @asynccontextmanager
    async def _client(self, ctx: Call) -> AsyncGenerator[AsyncClient]:
        """Open the client of a call, and present its errors to the model."""
        try:
            async with self._open(_key(ctx)) as client:
                yield client
        except FleekError as error:
            raise ToolError(_explained(error)) from error


class Reports:
    """The progress of a job, sent to a caller that has asked for it while the job is polled."""

    def __init__(self, ctx: Call) -> None:
        self._ctx = ctx
        self._sending: set[asyncio.Task[None]] = set()
        self._last = -1.0

    def job(self, job: JobRead) -> None:
        """Send the progress if it has grown; the protocol demands that it does."""
        progress = job.progress or 0.0
        if progress <= self._last:
            return
        self._last = progress
        sending = self._ctx.report_progress(progress, 1.0, job.status.value)
        self._sending.add(asyncio.create_task(sending))

    async def sent(self) -> None:
        """Wait until all is sent; a caller that takes none gets none."""
        await asyncio.gather(*self._sending, return_exceptions=True)


def server_of(tools: Tools, *, by_path: bool) -> MCPServer[Any]:
    """Return the MCP server with these tools. `by_path`: files may be uploaded by their path."""
    server: MCPServer[Any] = MCPServer(
        "fleek",
        title="Fleek",
        version=__version__,
        instructions=INSTRUCTIONS,
        log_level="WARNING",
        subscriptions=False,
    )
    server.add_tool(tools.submit, annotations=MAKES)
    server.add_tool(tools.status, annotations=READS)
    server.add_tool(tools.wait, annotations=READS)
    server.add_tool(tools.list_jobs, name="list", annotations=READS)
    server.add_tool(tools.cancel, annotations=REPEATABLE)
    server.add_tool(tools.models, annotations=READS)
    upload = tools.upload_file if by_path else tools.upload
    server.add_tool(upload, name="upload", annotations=KEEPS)
    return server


def _key(ctx: Call) -> str | None:
    """Return the key that came with a call over HTTP, "" if none did; None: not over HTTP."""
    if ctx.headers is None:
        return None
    scheme, _, key = ctx.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and key:
        return key.strip()
    return ctx.headers.get("x-api-key", "")


def _decoded(content: str) -> bytes:
    try:
        return base64.b64decode(content, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ToolError("content is not base64") from error


def _explained(error: FleekError) -> str:
    """Return what is wrong, with its code, and each field that is."""
    fields = error.errors if isinstance(error, InvalidInput) else []
    details = [f"{field.pointer or '/'}: {field.detail}" for field in fields]
    return "\n".join([f"{error} ({error.code})", *details])
