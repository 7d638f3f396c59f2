"""A file on its way into storage: made in the spool, and removed whatever happens."""

import asyncio
import secrets
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import structlog

from fleek.domain.host_errors import host_errors
from fleek.engine.runtime import Runtime

log = structlog.get_logger(__name__)


@asynccontextmanager
async def spool_file(rt: Runtime, name: str) -> AsyncGenerator[Path]:
    """Give the path of a new file in the spool; it is removed at the end if it is still there.

    What the file system says inside is translated, and a file that cannot be removed hides
    nothing of it: a disk that turned read-only refuses both.

    Raises:
        HostError: The spool cannot be used now.
    """
    with host_errors("write the spool"):
        folder = await asyncio.to_thread(rt.storage.spool)
        path = folder / f"{name}-{secrets.token_hex(8)}"
        try:
            yield path
        finally:
            await _remove(path)


async def _remove(path: Path) -> None:
    try:
        await asyncio.to_thread(path.unlink, missing_ok=True)
    except (OSError, RuntimeError) as error:  # no thread could be started: a RuntimeError
        log.warning("spool_file_not_removed", file=path.name, reason=str(error))
