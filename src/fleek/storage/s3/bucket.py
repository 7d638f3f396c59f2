"""A bucket, opened as the settings say. Everything here blocks, and is called in threads.

The library's asynchronous functions would abort the process when the interpreter ends.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from fleek import failpoints
from fleek.domain.errors import NotFound, StorageError
from fleek.domain.media import Key, public_name
from fleek.sniff import presentation
from fleek.storage.base import Stored, folders_of, split
from fleek.storage.s3.errors import beyond_the_end, translated
from fleek.storage.s3.settings import S3Settings

if TYPE_CHECKING:
    from obstore import Attributes, ObjectMeta  # not there at run time
    from obstore.store import ClientConfig, S3Credential  # likewise

PART_BYTES: Final = 5 * 1024 * 1024  # the least that S3 takes; all but the last must be equal
MAX_PARTS: Final = 9_000  # S3 takes 10,000
PARALLEL_PARTS: Final = 2  # R2 takes two or three of one file at once
CHUNK_BYTES: Final = 256 * 1024
IMMUTABLE: Final = "public, max-age=31536000, immutable"
PROBE: Final = "media/.probe"  # hidden: no key of ours
CONNECT_SECONDS: Final = 5
DIRECT: "Final[ClientConfig]" = {  # else the library would use what the environment names
    "proxy_url": "http://127.0.0.1:9",
    "proxy_excludes": "*,0.0.0.0/0,::/0",  # every host: by name, by IPv4, by IPv6
}


def open_store(settings: S3Settings) -> S3Store:
    """Return the bucket that the settings name, without checking that it exists."""
    endpoint, seconds = settings.endpoint, settings.s3_timeout
    return S3Store(
        settings.s3_bucket,
        config={} if endpoint is None else {"endpoint": endpoint},
        region=settings.region,
        # Amazon wants the bucket in the host's name, where a dot would not fit its certificate.
        virtual_hosted_style_request=endpoint is None and "." not in settings.s3_bucket,
        skip_signature=False,
        disable_bulk_delete=True,  # not every S3 has it
        credential_provider=_static(settings),
        client_options={
            "allow_http": endpoint is not None and endpoint.startswith("http://"),
            "connect_timeout": min(timedelta(seconds=CONNECT_SECONDS), seconds),
            "read_timeout": seconds,
            "timeout": timedelta(days=1),  # of a whole file, which a slow reader may take
            **(DIRECT if settings.s3_proxy is None else {"proxy_url": settings.s3_proxy}),
        },
        retry_config={"max_retries": 3, "retry_timeout": seconds / 2},  # the engine tries again
    )


def _static(settings: S3Settings) -> "Callable[[], S3Credential] | None":
    """Return what gives the keys of the settings, and not what else the environment holds.

    None: the library looks for a role of this machine or container.
    """
    secret, token = settings.s3_secret_access_key, settings.session_token
    if settings.s3_access_key_id is None or secret is None:
        return None
    keys: S3Credential = {
        "access_key_id": settings.s3_access_key_id,
        "secret_access_key": secret.get_secret_value(),
        "token": None if token is None else token.get_secret_value(),
        "expires_at": None,
    }
    return lambda: keys


class Stopped(StorageError):
    """The caller of this upload was cancelled, or the storage was closed."""


class Bucket:
    """The files in a bucket, each under its key."""

    def __init__(self, store: S3Store) -> None:
        self._store = store

    def put(
        self, key: Key, source: Path, *, content_type: str, stopped: Callable[[], bool]
    ) -> None:
        """Upload a file and make sure that it has arrived whole.

        Every part is signed together with its SHA-256, so the server refuses bytes that were
        changed on their way. A large file is never in memory, and is seen only when complete.

        Args:
            key: Where to.
            source: The file.
            content_type: As sniffed.
            stopped: Whether to give up, asked before each part.

        Raises:
            StorageFull: No room.
            StorageError: Could not be stored.
            ValueError: This is no key: a mistake of ours.
        """
        if split(key) is None:
            raise ValueError(f"{key!r} is no key")
        attributes = presentation(content_type, name=public_name(key))
        if key.startswith("media/"):
            attributes["Cache-Control"] = IMMUTABLE
        try:
            failpoints.hit("storage.place")
            size, sent, meta = self._upload(key, source, attributes, stopped)
            failpoints.hit("storage.placed")
        finally:
            with suppress(OSError):  # the error of the upload says more
                source.unlink(missing_ok=True)
        if meta["size"] != size or (sent and sent != meta["e_tag"]):
            raise StorageError(f"cannot save {key}: what is there is not what was sent")

    def _upload(
        self, key: Key, source: Path, attributes: "Attributes", stopped: Callable[[], bool]
    ) -> "tuple[int, str | None, ObjectMeta]":
        """Put a file; returns its size, its tag as answered, and what is there then."""
        with translated(f"save {key}"), source.open("rb") as file:
            size = source.stat().st_size
            part = part_bytes(size)
            large = size > part
            put = obstore.put(
                self._store,
                key,
                _parts(file, part, stopped) if large else file.read(),
                attributes=attributes,
                use_multipart=large,
                chunk_size=part,
                max_concurrency=PARALLEL_PARTS,
            )
            return size, put["e_tag"], obstore.head(self._store, key)

    def open(self, key: Key, *, start: int, end: int | None) -> tuple[int, Iterator[bytes]]:
        """Return how many bytes are to come, and these.

        What the iterator raises is for `translated`.

        Raises:
            NotFound: There is no such file.
            StorageError: Cannot be read.
        """
        if end is not None and start >= end:
            self.stat(key)
            return 0, iter(())
        _known(key)
        with translated(f"read {key}"):
            try:
                if end is not None:
                    got = obstore.get(self._store, key, options={"range": (start, end)})
                elif start:
                    got = obstore.get(self._store, key, options={"range": {"offset": start}})
                else:
                    got = obstore.get(self._store, key)
            except BaseError as error:
                if beyond_the_end(error):
                    return 0, iter(())
                raise
            first, last = got.range
            return last - first, iter(got.stream(CHUNK_BYTES))

    def stat(self, key: Key) -> Stored:
        """Return size and time of a file.

        Raises:
            NotFound: There is no such file.
            StorageError: Cannot be looked at.
        """
        _known(key)
        with translated(f"look at {key}"):
            try:
                meta = obstore.head(self._store, key)
            except FileNotFoundError:  # or there is no such bucket: this answer has no words
                meta = obstore.get(self._store, key).meta
        return _stored(meta)

    def delete(self, key: Key) -> None:
        """Remove a file, if it is there.

        Raises:
            StorageError: Cannot be removed.
        """
        if split(key) is not None:
            self._delete(key)

    def find(self, prefix: str) -> Iterator[list[Stored]]:
        """List the files whose key begins with `prefix`, some at a time.

        Raises:
            StorageError: Cannot be listed.
        """
        for folder in folders_of(prefix):
            with translated("list files"):
                for batch in obstore.list(self._store, folder, chunk_size=500):
                    yield [
                        _stored(meta)
                        for meta in batch
                        if meta["path"].startswith(prefix) and split(meta["path"]) is not None
                    ]

    def sign(self, key: Key, *, expiry: timedelta) -> str:
        """Return an address that gets the file, for everybody who has it.

        Raises:
            StorageError: There are no keys to sign with.
        """
        with translated(f"sign an address of {key}"):
            return obstore.sign(self._store, "GET", key, expiry)

    def check(self) -> None:
        """Write and remove a file.

        Raises:
            StorageFull: No room.
            StorageError: Not writable.
        """
        with translated("write"):
            obstore.put(self._store, PROBE, b"probe", use_multipart=False)
        self._delete(PROBE)

    def _delete(self, path: str) -> None:
        with translated(f"delete {path}"):
            try:
                obstore.delete(self._store, path)
            except FileNotFoundError:  # or there is no such bucket
                for _ in islice(obstore.list(self._store, "media", chunk_size=1), 1):
                    pass


def part_bytes(size: int) -> int:
    """Return how large the parts of a file are, which S3 takes only so many of."""
    return max(PART_BYTES, math.ceil(size / MAX_PARTS))


def _parts(file: IO[bytes], size: int, stopped: Callable[[], bool]) -> Iterator[bytes]:
    while part := file.read(size):
        if stopped():
            raise Stopped("the upload was cancelled")
        yield part


def _known(key: Key) -> None:
    if split(key) is None:
        raise NotFound("there is no such file")


def _stored(meta: "ObjectMeta") -> Stored:
    return Stored(
        key=Key(meta["path"]),
        size_bytes=meta["size"],
        modified_at=meta["last_modified"].replace(
            microsecond=0
        ),  # lists return microseconds, heads do not
    )
