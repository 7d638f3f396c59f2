"""A whole service behind TLS, with the emulator as its provider: what official clients are run against."""

import asyncio
import shutil
import ssl
from collections.abc import Callable, Coroutine, Generator
from concurrent.futures import Future
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from threading import Thread
from typing import Any, Final, TypeVar

import pytest
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pydantic import SecretStr
from structlog.testing import capture_logs

from default_settings import defaults
from fleek.api.facades import repeats
from fleek.api.sse import disconnected
from fleek.bootstrap import open_runtime
from fleek.domain.job import Job
from fleek.emulator.plan import Plan
from fleek.emulator.replicate.models import BY_NAME
from fleek.emulator.server import Emulator, serve
from fleek.engine.runtime import Runtime
from fleek.store import listing
from fleek.worker import work
from in_process_service import serving_on
from receivers import Receiver, receiving
from service_process import PATIENCE

KEY: Final = "facade-test-key-facade-test-key-facade"
ALIASES: Final = (
    "gpt-image-1=black-forest-labs/flux-schnell",
    "gpt-image-1-mini=black-forest-labs/flux-1.1-pro",
    "dall-e-2=black-forest-labs/flux-1.1-pro",
    "dall-e-3=black-forest-labs/flux-1.1-pro",
    "sora-2=minimax/video-01",
    f"tts-1=meta/musicgen:{BY_NAME['meta/musicgen'].version}",
    f"gpt-4o-mini-tts=meta/musicgen:{BY_NAME['meta/musicgen'].version}",
    "fal-ai/flux/dev=black-forest-labs/flux-schnell",
)
T = TypeVar("T")


@dataclass
class Line:
    """TLS in front of the service, which can lose answers."""

    port: int
    upstream: int = 0
    lose: int = 0  # answers to be lost: of the next requests that begin with `where`
    where: str = "POST"
    lost: int = 0
    breaking: bool = False  # the latest request is one whose answer is lost
    losing: Callable[[], Coroutine[Any, Any, None]] | None = None  # what is awaited before
    lines: list[str] = field(default_factory=list)  # the first lines of all requests

    async def visit(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self.upstream)
        back = asyncio.create_task(_pump(up_reader, writer))
        try:
            while await self._request(reader, up_writer, back):
                pass
        except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            pass
        finally:
            back.cancel()
            await asyncio.gather(back, return_exceptions=True)
            up_writer.transport.abort()
            writer.transport.abort()

    async def _request(
        self, reader: asyncio.StreamReader, up: asyncio.StreamWriter, back: asyncio.Task[None]
    ) -> bool:
        """Pass a request on; False: its answer is lost, which `back` would bring."""
        head = await reader.readuntil(b"\r\n\r\n")
        self.lines.append(head.partition(b"\r\n")[0].decode())
        losing = self.lose > 0 and head.startswith(self.where.encode())
        self.lose -= losing
        self.breaking = losing
        if losing:
            back.cancel()  # now: the answer may come before what is awaited below
        up.write(head)
        fields = [line.lower() for line in head.split(b"\r\n")]
        length = next((int(f[15:]) for f in fields if f.startswith(b"content-length:")), 0)
        if b"transfer-encoding: chunked" in fields:
            up.write(await reader.readuntil(b"0\r\n\r\n"))
        up.write(await reader.readexactly(length))
        await up.drain()
        if losing and self.losing is not None:
            await self.losing()
        self.lost += losing
        return not losing


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


@dataclass
class Site:
    """A running service: at `base`, with a key, for clients that trust `ca`."""

    base: str
    ca: Path
    line: Line
    rt: Runtime
    emulator: Emulator
    hook: Receiver
    loop: asyncio.AbstractEventLoop

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run something in the event loop of the service."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(PATIENCE)

    def jobs(self) -> list[Job]:
        """Return the latest jobs, newest first."""
        page = self.call(listing.page(self.rt.db, tenant_id="default", limit=100))
        return [view.job for view in page.views]

    def purchases(self, prompt: str) -> int:
        """Return how many predictions with a prompt were made at the provider."""
        known = self.emulator.account.by_id.values()
        return sum(each.input.get("prompt") == prompt for each in known)


class _Running(Thread):
    """The service and all around it, in a thread."""

    def __init__(self, folder: Path, schema: Path) -> None:
        super().__init__()
        self._folder, self._schema = folder, schema
        self.site: Future[Site] = Future()
        self._stopping: asyncio.Event
        self._loop: asyncio.AbstractEventLoop

    def run(self) -> None:
        """Serve until `stop` is called."""
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner, capture_logs():
            try:
                runner.run(self._serve())
            except BaseException as error:
                if not self.site.done():
                    self.site.set_exception(error)
                raise

    async def _serve(self) -> None:
        self._stopping, self._loop = asyncio.Event(), asyncio.get_running_loop()
        async with AsyncExitStack() as stack:
            plan = Plan(queue_seconds=0, predict_seconds=0)
            emulator = await stack.enter_async_context(serve(plan))
            hook = await stack.enter_async_context(receiving())
            line = Line(0)
            secured = await asyncio.start_server(
                line.visit, "127.0.0.1", 0, ssl=_certified(self._folder)
            )
            line.port = secured.sockets[0].getsockname()[1]
            base = f"https://localhost:{line.port}"
            rt = await self._opened(stack, base, emulator)
            service = await stack.enter_async_context(serving_on(rt))
            line.upstream = service.port
            stopping = asyncio.Event()
            working = asyncio.create_task(work(service.rt, stopping))
            ca = self._folder / "ca.pem"
            self.site.set_result(Site(base, ca, line, service.rt, emulator, hook, self._loop))
            await self._stopping.wait()
            secured.close()
            stopping.set()
            await working

    async def _opened(self, stack: AsyncExitStack, base: str, emulator: Emulator) -> Runtime:
        shutil.copy(self._schema, self._folder / "fleek.db")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("STORAGE_PATH", str(self._folder / "storage"))
            patch.setenv("REPLICATE_API_TOKEN", "r8_facade")
            patch.setenv("REPLICATE_BASE_URL", emulator.api_url)
            settings = defaults(
                database_url=f"sqlite+aiosqlite:///{self._folder}/fleek.db",
                providers=("replicate",),
                model_aliases=ALIASES,
                public_url=base,
                api_keys=SecretStr(f"tests:{KEY}"),
                ssrf_allow_cidrs=("127.0.0.0/8",),
                webhook_allow_http=True,
                rate_per_minute=0,
                make_thumbnails=False,  # no second process for a job
                max_write_wait_seconds=timedelta(seconds=60),  # the machine may be busy
            )
            return await stack.enter_async_context(open_runtime(settings))

    def stop(self) -> None:
        """Stop, and wait for the end."""
        self._loop.call_soon_threadsafe(self._stopping.set)
        self.join(PATIENCE)
        assert not self.is_alive()


def _certified(folder: Path) -> ssl.SSLContext:
    """Return a context for a server on this machine; who trusts ``ca.pem`` trusts it."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    names = [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    form = serialization.Encoding.PEM
    (folder / "ca.pem").write_bytes(certificate.public_bytes(form))
    (folder / "key.pem").write_bytes(
        key.private_bytes(form, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "ca.pem", folder / "key.pem")
    return context


@pytest.fixture(scope="module")
def running_site(schema: Path, tmp_path_factory: pytest.TempPathFactory) -> Generator[Site]:
    """Run one service for the tests of a module.

    Not longer: its worker draws from `random`, and Hypothesis fails tests while others draw from it.
    """
    running = _Running(tmp_path_factory.mktemp("site"), schema)
    running.start()
    yield running.site.result(PATIENCE)
    running.stop()


@pytest.fixture
def site(running_site: Site, monkeypatch: pytest.MonkeyPatch) -> Site:
    """Return the service, trusted by clients that are opened in this test."""
    monkeypatch.setenv("SSL_CERT_FILE", str(running_site.ca))
    running_site.line.lose = running_site.line.lost = 0
    running_site.line.losing, running_site.line.where = None, "POST"
    monkeypatch.setattr(repeats._Noticed, "__call__", _held(running_site.line))
    return running_site


def _held(line: Line) -> Callable[..., Coroutine[Any, Any, None]]:
    """Return what gives an answer that is to be lost only when its connection has broken: not by chance."""
    answer = repeats._Noticed.__call__

    async def held(response: Any, scope: Any, receive: Any, send: Any) -> None:
        if line.breaking:
            await disconnected(receive)
        await answer(response, scope, receive, send)

    return held
