"""The servers on the page about proxies work as shown, where nginx and Caddy are installed.

With TLS, event streams that are not buffered, and large uploads.
"""

import os
import shutil
import subprocess
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Final

import pytest

from backing_services import free_port
from examples import FENCE, ROOT
from service_process import Service, running, until

PAGE: Final = ROOT / "docs/how-to/behind-a-proxy.md"
HOST: Final = "media.example.com"
UPLOAD_BYTES: Final = 3_000_000  # nginx refuses 1 MiB if it is not told otherwise

Write = Callable[[Path, Service, int], list[str]]  # returns the command


def shown(language: str) -> str:
    """Return the first example of a proxy."""
    blocks: list[tuple[str, str]] = FENCE.findall(PAGE.read_text())
    return next(text for found, text in blocks if found == language)


def nginx(folder: Path, service: Service, port: int) -> list[str]:
    """Write the page's servers for these ports."""
    servers = shown("nginx").replace("127.0.0.1:8000", f"127.0.0.1:{service.port}")
    servers = servers.replace("listen 80;", f"listen 127.0.0.1:{free_port()};")
    servers = servers.replace("listen 443 ssl", f"listen 127.0.0.1:{port} ssl")
    servers = servers.replace(f"/etc/letsencrypt/live/{HOST}/fullchain.pem", f"{folder}/cert.pem")
    servers = servers.replace(f"/etc/letsencrypt/live/{HOST}/privkey.pem", f"{folder}/key.pem")
    own = "".join(
        f"{kind}_temp_path {folder}/{kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = (
        "user root; " if os.geteuid() == 0 else ""
    )  # else its processes could not read the folder
    text = f"{user}daemon off; pid {folder}/pid; error_log stderr;\nevents {{}}\nhttp {{\naccess_log off;\n{own}{servers}}}\n"
    (folder / "nginx.conf").write_text(text)
    return ["nginx", "-e", "stderr", "-c", str(folder / "nginx.conf")]


def caddy(folder: Path, service: Service, port: int) -> list[str]:
    """Write the page's site for these ports, with our certificate instead of one from the internet."""
    site = shown("caddyfile").replace("127.0.0.1:8000", f"127.0.0.1:{service.port}")
    site = site.replace(" {\n", f" {{\n\ttls {folder}/cert.pem {folder}/key.pem\n", 1)
    options = f"{{\n\tadmin off\n\thttp_port {free_port()}\n\thttps_port {port}\n}}\n"
    (folder / "Caddyfile").write_text(options + site)
    return ["caddy", "run", "--adapter", "caddyfile", "--config", str(folder / "Caddyfile")]


def certify(folder: Path) -> None:
    """Write a certificate that signs itself, and its key."""
    new = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -keyout key.pem -out cert.pem"
    names = ["-subj", f"/CN={HOST}", "-addext", f"subjectAltName=DNS:{HOST}"]
    subprocess.run([*new.split(), *names], cwd=folder, check=True, capture_output=True)  # noqa: S603 - ours


@pytest.fixture(params=[nginx, caddy], ids=["nginx", "caddy"])
def curl(
    _full_suite: None, request: pytest.FixtureRequest, tmp_path: Path
) -> Generator[Callable[..., list[str]]]:
    """Yield what makes a command of curl for a path, through a proxy with TLS before a service."""
    write: Write = request.param
    if shutil.which(write.__name__) is None:
        pytest.skip(f"{write.__name__} is not installed")
    certify(tmp_path)
    port = free_port()
    with running(tmp_path, PUBLIC_URL=f"https://{HOST}:{port}") as service:
        service.serve()
        command = write(tmp_path, service, port)
        with (tmp_path / "proxy.log").open("wb") as log:
            proxy = subprocess.Popen(  # noqa: S603 - a proxy that the developer has installed
                command,
                stdout=log,
                stderr=log,
                env={"HOME": str(tmp_path), "PATH": "/usr/sbin:/usr/bin:/bin"},
            )

        def make(path: str, *options: str) -> list[str]:
            tls = ["--cacert", str(tmp_path / "cert.pem"), "--resolve", f"{HOST}:{port}:127.0.0.1"]
            return [
                "curl",
                "-sSN",
                "--fail-with-body",
                *tls,
                *options,
                f"https://{HOST}:{port}{path}",
            ]

        def answers() -> bool:
            assert proxy.poll() is None, (tmp_path / "proxy.log").read_text()
            return subprocess.run(make("/livez"), capture_output=True, check=False).returncode == 0  # noqa: S603 - ours

        try:
            until(answers, why=(tmp_path / "proxy.log").read_text)
            yield make
        finally:
            proxy.terminate()
            proxy.wait(60)


def test_the_service_works_through_the_proxy(
    curl: Callable[..., list[str]], tmp_path: Path, subtests: pytest.Subtests
) -> None:
    """One proxy, as its start takes long."""
    with subtests.test("addresses are public"):
        job = subprocess.check_output(  # noqa: S603 - ours
            curl("/api/v1/generate", "--json", '{"prompt": "A lighthouse"}'), text=True
        )
        assert f'"self":"https://{HOST}:' in job

    with subtests.test("the first event of a stream comes at once"):
        # of a buffered stream, this small part would be held until its end, which never comes
        stream = subprocess.Popen(curl("/api/v1/events"), stdout=subprocess.PIPE, text=True)  # noqa: S603 - ours
        assert stream.stdout is not None
        with stream:
            lines = [stream.stdout.readline() for _ in range(3)]
            stream.kill()
        assert "event: hello\n" in lines

    with subtests.test("large uploads are accepted"):
        wav = b"RIFF" + (UPLOAD_BYTES + 36).to_bytes(4, "little") + b"WAVEfmt \x10\0\0\0\1\0\1\0"
        wav += b"\xc0\x5d\0\0\x80\xbb\0\0\2\0\x10\0data" + UPLOAD_BYTES.to_bytes(4, "little")
        (tmp_path / "long.wav").write_bytes(wav + bytes(UPLOAD_BYTES))
        sent = ["--data-binary", f"@{tmp_path}/long.wav", "-H", "Content-Type: audio/wav"]
        answer = subprocess.run(  # noqa: S603 - ours
            curl("/api/v1/uploads", *sent), capture_output=True, text=True, check=False
        )
        assert answer.returncode == 0, answer.stdout
