"""A proxy before a real Redis that can answer every command with an error.

Some refusals cannot be produced on demand by a real server (such as the loading of a dataset or
a full disk), and some end with another server on the port. Here all of them can be tested.
"""

import socket
import threading
from contextlib import suppress
from typing import Final

CHUNK: Final = 65_536


class RefusingRedis:
    """Forward everything to the Redis on `target`, or answer everything with one error."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._answer: bytes | None = None
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()  # the callers' connections
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.refusals = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def url(self) -> str:
        """Return a ``REDIS_URL``."""
        return f"redis://127.0.0.1:{self.port}/0"

    def refuse(self, answer: bytes) -> None:
        """Answer every command with this error from now on, including blocked ones."""
        with self._lock:
            self._answer = answer
            waiting = list(self._open)
        for caller in waiting:
            with suppress(OSError):
                caller.sendall(answer)  # blocked clients get the error, too

    def comply(self) -> None:
        """Forward everything again; connections that were refused are closed."""
        with self._lock:
            self._answer = None
            refused, self._open = self._open, set()
        for caller in refused:
            with suppress(OSError):
                caller.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Stop listening, and close all connections."""
        self._listener.close()
        self.comply()

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                caller, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(caller,), daemon=True).start()

    def _serve(self, caller: socket.socket) -> None:
        with self._lock:
            self._open.add(caller)
        with caller, socket.create_connection(("127.0.0.1", self._target)) as redis:
            back = threading.Thread(target=self._pass_back, args=(redis, caller), daemon=True)
            back.start()
            with suppress(OSError):
                while data := caller.recv(CHUNK):
                    if self._answer is None:
                        redis.sendall(data)
                        continue
                    self.refusals += 1
                    caller.sendall(self._answer * max(data.count(b"\r\n*") + 1, 1))
            with suppress(OSError):
                redis.shutdown(socket.SHUT_RDWR)
            back.join()
        with self._lock:
            self._open.discard(caller)

    def _pass_back(self, redis: socket.socket, caller: socket.socket) -> None:
        with suppress(OSError):
            while data := redis.recv(CHUNK):
                if self._answer is None:
                    caller.sendall(data)
        with suppress(OSError):
            caller.shutdown(socket.SHUT_RDWR)
