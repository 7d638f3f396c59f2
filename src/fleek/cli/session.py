"""What a user's command works with."""

from functools import cached_property
from typing import TYPE_CHECKING, Self

from fleek.cli.screen import Screen

if TYPE_CHECKING:
    from fleek.client import Client


class Session:
    """A server's client, opened when it is first used, and the screen."""

    def __init__(
        self, url: str, *, api_key: str | None, as_json: bool, quiet: bool, no_color: bool
    ) -> None:
        self._url = url
        self._api_key = api_key
        self.screen = Screen(as_json=as_json, quiet=quiet, no_color=no_color)

    @cached_property
    def client(self) -> "Client":
        """The server's client.

        Raises:
            ConfigurationError: The address or the key cannot be used.
        """
        from fleek.client import Client  # noqa: PLC0415 - heavy

        return Client(self._url, api_key=self._api_key)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if "client" in self.__dict__:
            self.client.close()
