"""A process as in a container: with the environment of the image and the service, and no other."""

import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from typing import Final, Self

from containers.image import Image
from service_process import until

PATIENCE_SECONDS: Final = 240.0


class Container:
    """A running command, as a context manager; it is killed at the end."""

    def __init__(
        self, image: Image, command: Sequence[str], environment: Mapping[str, str]
    ) -> None:
        self._image = image
        self._environment = environment
        self._log = image.data.parent / f"{command[0]}-{time.monotonic_ns()}.log"
        with self._log.open("wb") as log:
            self._popen = subprocess.Popen(  # noqa: S603 - what the composition starts
                [image.bin / command[0], *command[1:]],
                cwd=image.data,
                env={**image.environment(), **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._popen.poll() is None:
            self._popen.kill()
        self._popen.wait(PATIENCE_SECONDS)

    def await_health(self, check: Sequence[str]) -> None:
        """Wait until the health check succeeds.

        Raises:
            AssertionError: The process has exited, or is unhealthy for too long; with its log.
        """
        said = ""

        def well() -> bool:
            nonlocal said
            assert self._popen.poll() is None, self.tail()
            done = self._image.run(*check, **self._environment)
            said = done.stdout + done.stderr
            return done.returncode == 0

        until(well, seconds=PATIENCE_SECONDS, why=lambda: f"{said}\n{self.tail()}")

    def stop(self) -> tuple[int, float]:
        """Stop the process like an engine; returns its exit code and the seconds that this took."""
        began = time.monotonic()
        self._popen.send_signal(signal.SIGTERM)
        code = self._popen.wait(PATIENCE_SECONDS)
        return code, time.monotonic() - began

    def log(self) -> str:
        """Return the log."""
        return self._log.read_text()

    def tail(self) -> str:
        """Return the end of the log."""
        return self.log()[-4000:]
