"""The adapters, by name. An adapter's module, and its library, is loaded only if it is chosen.

Each target names a `connect`: an asynchronous context manager that reads its own settings and
gives the open adapter. An installed package may add its own with an entry point in the group
``fleek.providers``, ``fleek.storages`` or ``fleek.dispatchers``.
"""

from collections.abc import Iterator, Mapping
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Final

from fleek.domain.errors import ConfigurationError

PROVIDERS: Final = {
    "cog": "fleek.providers.cog:connect",
    "placeholder": "fleek.providers.placeholder:connect",
    "replicate": "fleek.providers.replicate:connect",
}
STORAGES: Final = {"local": "fleek.storage.local:connect", "s3": "fleek.storage.s3:connect"}
DISPATCHERS: Final = {
    "celery": "fleek.dispatch.celery:connect",
    "dramatiq": "fleek.dispatch.dramatiq:connect",
    "embedded": "fleek.dispatch.embedded:connect",
}
WORKER_COMMANDS: Final = {
    "celery": "fleek.dispatch.celery:run_worker",
    "dramatiq": "fleek.dispatch.dramatiq:run_worker",
}
ATTACH: Final = "fleek.worker:open_attached_worker"


class Known(Mapping[str, str]):
    """Names and targets: our own, then those of plugins, which take a while to be found."""

    def __init__(self, group: str, own: Mapping[str, str]) -> None:
        self._group = group
        self._own = own

    def __getitem__(self, name: str) -> str:
        return self._own[name] if name in self._own else self._all()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def _all(self) -> dict[str, str]:
        plugins = {entry.name: entry.value for entry in entry_points(group=self._group)}
        return {**plugins, **self._own}


def providers() -> Mapping[str, str]:
    """Return every known provider's name and target."""
    return Known("fleek.providers", PROVIDERS)


def storages() -> Mapping[str, str]:
    """Return every known storage's name and target."""
    return Known("fleek.storages", STORAGES)


def dispatchers() -> Mapping[str, str]:
    """Return every known dispatcher's name and target."""
    return Known("fleek.dispatchers", DISPATCHERS)


def worker_commands() -> Mapping[str, str]:
    """Return the dispatchers whose library has a worker command of its own, and what runs it.

    Each target is called with ``concurrency=``, returns when told to stop, and reaches the engine
    through `attach`. A plugin's entry point is in the group ``fleek.workers``.
    """
    return Known("fleek.workers", WORKER_COMMANDS)


def attach() -> Any:
    """Return what makes a worker of a process whose ids a broker's own command receives.

    A dispatcher, a plugin's too, reaches the engine by this name only; see
    `fleek.dispatch.base.Attach`.
    """
    module, _, attribute = ATTACH.partition(":")
    return getattr(import_module(module), attribute)


def load(known: Mapping[str, str], name: str, *, setting: str) -> Any:
    """Return what the target of `name` points at.

    Raises:
        ConfigurationError: `known` has no such name, or a library it needs is not installed.
    """
    if name not in known:
        choices = ", ".join(sorted(known))
        raise ConfigurationError(f"{setting}={name}: unknown; choose one of: {choices}")
    module, _, attribute = known[name].partition(":")
    try:
        return getattr(import_module(module), attribute)
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.startswith("fleek"):
            raise
        hint = f"pip install 'fleek[{name}]'"
        message = f"{setting}={name} needs the library {error.name}; install it with: {hint}"
        raise ConfigurationError(message) from error
