"""Sign outputs with C2PA before they are stored, so that their readers can verify where they come from.

A program of its own (`fleek.output_signer`) works on the bytes, as they are untrusted. What cannot be signed
is stored as it was received, or waits: the setting decides, and no result is lost in either case.
"""

import asyncio
import hashlib
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import structlog

import fleek
from fleek import strict
from fleek.domain.errors import SigningFailed, StorageFull
from fleek.domain.job import Job
from fleek.domain.text import one_line
from fleek.engine.programs import run_program
from fleek.engine.spool import Spooled
from fleek.sniff import Sniffed
from fleek.storage.base import Storage, spool_file

SIGNABLE: Final = frozenset(
    {
        *("audio/flac", "audio/mp4", "audio/mpeg", "audio/wav", "image/avif", "image/gif"),
        *("image/heic", "image/heif", "image/jpeg", "image/png", "image/svg+xml", "image/tiff"),
        *("image/webp", "video/mp4", "video/quicktime", "video/x-msvideo"),
    }
)
"""The types that C2PA has a place for a manifest in. Files of other types are stored as they are."""

SIGNED: Final = "signed"
"""The note of a file that was signed; of others it is the reason."""

AT_ONCE: Final = 2  # programs of one process
MEMORY: Final = 1 << 30  # bytes of a program, in addition to four times the file's size
SOURCE_TYPE: Final = "http://cv.iptc.org/newscodes/digitalsourcetype/"

log = structlog.get_logger(__name__)


class Signer:
    """Signs files with one certificate.

    Args:
        certificates: The chain in PEM, the certificate of the key first.
        key: The private key in PEM, as PKCS #8.
        algorithm: By C2PA's name, such as ``es256``.
        seconds: Maximum duration of signing one file.
        fails_open: Whether what cannot be signed is stored unsigned.
    """

    command: tuple[str, ...] = (sys.executable, "-m", "fleek.output_signer")

    def __init__(
        self, certificates: str, key: str, algorithm: str, *, seconds: float, fails_open: bool
    ) -> None:
        self.fails_open = fails_open
        self._secrets = {"certificates": certificates, "key": key, "algorithm": algorithm}
        self._seconds = seconds
        self._places = asyncio.Semaphore(AT_ONCE)

    async def sign(self, source: Path, target: Path, content_type: str, job: Job) -> None:
        """Write a signed copy of a file.

        Raises:
            SigningFailed: It cannot be signed now, or never.
        """
        size = (await asyncio.to_thread(source.stat)).st_size
        order = {
            **self._secrets,
            "source": str(source),
            "target": str(target),
            "content_type": content_type,
            "manifest": _manifest(job, content_type),
            "seconds": max(1, round(self._seconds)),
            "memory": MEMORY + 4 * size,
        }
        try:
            async with self._places:
                code, _, errors = await run_program(
                    self.command, seconds=self._seconds, given=strict.dumps(order)
                )
        except (OSError, TimeoutError) as error:
            raise SigningFailed(
                f"signing: {one_line(str(error), 200) or 'took too long'}"
            ) from error
        if code != 0 or not await asyncio.to_thread(target.exists):
            reason = errors.decode("utf-8", "replace").strip().rpartition("\n")[2]
            raise SigningFailed(f"signing: {one_line(reason, 200) or f'ended with code {code}'}")


class Signing:
    """The signing of one job's outputs.

    Attributes:
        notes: Whether each file that could be signed was, by its index: ``signed``, or why not.
        added_bytes: What the manifests have added to all files.
    """

    def __init__(
        self, signer: Signer | None, storage: Storage, job: Job, *, min_free_bytes: int
    ) -> None:
        self.notes: dict[int, str] = {}
        self.added_bytes = 0
        self._signer = signer
        self._storage = storage
        self._job = job
        self._min_free_bytes = min_free_bytes

    @property
    def needed(self) -> bool:
        """Whether outputs may be signed, as files of the spool."""
        return self._signer is not None

    async def sign(self, index: int, received: Spooled) -> Spooled:
        """Put a signed copy in the place of a file of the spool; returns what is there then.

        Raises:
            SigningFailed: It cannot be signed, and has to be.
            StorageFull: There is no room for the copy.
        """
        signer, sniffed, path = self._signer, received.sniffed, received.source
        if signer is None or isinstance(path, bytes) or sniffed.content_type not in SIGNABLE:
            return received
        async with spool_file(self._storage, f"{path.name}-signed") as copy:
            free = (await asyncio.to_thread(shutil.disk_usage, path.parent)).free
            if free < self._min_free_bytes + received.size_bytes:
                raise StorageFull("less than MIN_FREE_BYTES would be left on the spool's disk")
            try:
                await signer.sign(path, copy, sniffed.content_type, self._job)
            except SigningFailed as error:
                log.warning("output_not_signed", job_id=str(self._job.id), reason=str(error))
                if not signer.fails_open:
                    raise
                self.notes[index] = str(error)
                return received
            signed = await asyncio.to_thread(_measured, copy, sniffed)
            await asyncio.to_thread(copy.replace, path)
            signed = signed._replace(source=path)
        self.notes[index] = SIGNED
        self.added_bytes += signed.size_bytes - received.size_bytes
        return signed


def _measured(path: Path, sniffed: Sniffed) -> Spooled:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return Spooled(file.tell(), digest, sniffed, path)


def _manifest(job: Job, content_type: str) -> Mapping[str, Any]:
    """Return what is claimed: that a model made it. Prompts and parameters stay private."""
    kind = "algorithmicMedia" if job.provider == "placeholder" else "trainedAlgorithmicMedia"
    created = {
        "action": "c2pa.created",
        "digitalSourceType": SOURCE_TYPE + kind,
        "softwareAgent": {"name": f"{job.provider}:{job.model}"},
    }
    return {
        "claim_generator_info": [{"name": "Fleek", "version": fleek.__version__}],
        "format": content_type,
        "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": [created]}}],
    }
