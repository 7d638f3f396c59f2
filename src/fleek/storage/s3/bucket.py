"""Operations on a bucket. Everything here blocks, and is called in threads.

The library's asynchronous functions would abort the process when the interpreter ends.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from io import SEEK_END, BytesIO
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
    from obstore import Attributes, ObjectMeta  # only for type checking
    from obstore.store import ClientConfig, S3Credential  # only for type checking

PART_BYTES: Final = 5 * 1024 * 1024  # S3's minimum; all parts but the last must be equal
MAX_PARTS: Final = 9_000  # S3's maximum is 10,000
PARALLEL_PARTS: Final = 2  # R2 accepts two or three parts of a file at once
CHUNK_BYTES: Final = 256 * 1024
IMMUTABLE: Final = "public, max-age=31536000, immutable"
PROBE: Final = "media/.probe"  # hidden, so not a valid key
CONNECT_SECONDS: Final = 5
DIRECT: "Final[ClientConfig]" = {  # else the library would use the proxies in the environment
    "proxy_url": "http://127.0.0.1:9",
    "proxy_excludes": "*,0.0.0.0/0,::/0",  # every host, by name, IPv4 or IPv6
}


def open_store(settings: S3Settings) -> S3Store:
    """Return the bucket from the settings, without checking that it exists."""
    endpoint, seconds = settings.endpoint, settings.s3_timeout
    return S3Store(
        settings.s3_bucket,
        config={} if endpoint is None else {"endpoint": endpoint},
        region=settings.region,
        # Amazon expects the bucket in the host name, where a dot would not match the certificate.
        virtual_hosted_style_request=endpoint is None and "." not in settings.s3_bucket,
        skip_signature=False,
        disable_bulk_delete=True,  # not available everywhere
        credential_provider=_static(settings),
        client_options={
            "allow_http": endpoint is not None and endpoint.startswith("http://"),
            "connect_timeout": min(timedelta(seconds=CONNECT_SECONDS), seconds),
            "read_timeout": seconds,
            "timeout": timedelta(days=1),  # for a whole file, with a slow reader
            **(DIRECT if settings.s3_proxy is None else {"proxy_url": settings.s3_proxy}),
        },
        retry_config={
            "max_retries": 3,
            "retry_timeout": seconds / 2,
        },  # the engine repeats it later
    )


def _static(settings: S3Settings) -> "Callable[[], S3Credential] | None":
    """Return a provider of the keys in the settings, which ignores others in the environment.

    None: the library uses the role of this machine or container.
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
    """The upload was cancelled, or the storage was closed."""


class Bucket:
    """The files in a bucket, by key."""

    def __init__(self, store: S3Store) -> None:
        self._store = store

    def put(
        self, key: Key, source: Path | bytes, *, content_type: str, stopped: Callable[[], bool]
    ) -> None:
        """Upload a file, which is removed, or its content, and check that it was received completely.

        The signature of every part covers its SHA-256, so the server refuses corrupted bytes. A
        large file is never in memory as a whole, and is visible only when complete.

        Args:
            key: The file's key.
            source: The file, or its content.
            content_type: The detected type.
            stopped: Whether to stop, called before each part.

        Raises:
            StorageFull: There is no free space.
            StorageError: It could not be stored.
            ValueError: The key is not valid: a defect of Fleek.
        """
        if split(key) is None:
            raise ValueError(f"{key!r} is not a valid key")
        attributes = presentation(content_type, name=public_name(key))
        if key.startswith("media/"):
            attributes["Cache-Control"] = IMMUTABLE
        try:
            failpoints.hit("storage.place")
            size, sent, meta = self._upload(key, source, attributes, stopped)
            failpoints.hit("storage.placed")
        finally:
            if isinstance(source, Path):
                with suppress(OSError):  # the error of the upload is more useful
                    source.unlink(missing_ok=True)
        if meta["size"] != size or (sent and sent != meta["e_tag"]):
            raise StorageError(f"cannot save {key}: the stored file differs from what was sent")

    def _upload(
        self, key: Key, source: Path | bytes, attributes: "Attributes", stopped: Callable[[], bool]
    ) -> "tuple[int, str | None, ObjectMeta]":
        """Upload a file; returns its size, the tag in the response, and its state in the bucket."""
        with translated(f"save {key}"), _opened(source) as file:
            size = file.seek(0, SEEK_END)
            file.seek(0)
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
        """Return the number of bytes, and an iterator over them.

        Errors of the iterator are to be handled with `translated`.

        Raises:
            NotFound: There is no such file.
            StorageError: It cannot be read.
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
            StorageError: It cannot be read.
        """
        _known(key)
        with translated(f"read {key}"):
            try:
                meta = obstore.head(self._store, key)
            except FileNotFoundError:  # or the bucket is missing: the response has no body
                meta = obstore.get(self._store, key).meta
        return _stored(meta)

    def delete(self, key: Key) -> None:
        """Remove a file, if it exists.

        Raises:
            StorageError: It cannot be removed.
        """
        if split(key) is not None:
            self._delete(key)

    def find(self, prefix: str) -> Iterator[list[Stored]]:
        """List the files whose key begins with `prefix`, page by page.

        Raises:
            StorageError: They cannot be listed.
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
        """Return a signed address for reading the file without credentials.

        Raises:
            StorageError: There are no keys for the signature.
        """
        with translated(f"sign an address of {key}"):
            return obstore.sign(self._store, "GET", key, expiry)

    def check(self) -> None:
        """Write and remove a file.

        Raises:
            StorageFull: There is no free space.
            StorageError: It is not writable.
        """
        with translated("write"):
            obstore.put(self._store, PROBE, b"probe", use_multipart=False)
        self._delete(PROBE)

    def _delete(self, path: str) -> None:
        with translated(f"delete {path}"):
            try:
                obstore.delete(self._store, path)
            except FileNotFoundError:  # or the bucket is missing
                for _ in islice(obstore.list(self._store, "media", chunk_size=1), 1):
                    pass


def part_bytes(size: int) -> int:
    """Return the size of a file's parts, so that their number stays below S3's maximum."""
    return max(PART_BYTES, math.ceil(size / MAX_PARTS))


def _opened(source: Path | bytes) -> IO[bytes]:
    return BytesIO(source) if isinstance(source, bytes) else source.open("rb")


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
        ),  # lists contain microseconds, responses to HEAD do not
    )
