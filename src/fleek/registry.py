"""The adapters, by name. An adapter's module, and its library, is loaded only if it is chosen.

Each target names a `connect`: an asynchronous context manager that reads its own settings and
gives the open adapter. An installed package, a plugin, adds its own with an entry point in the
group ``fleek.providers``, ``fleek.storages`` or ``fleek.dispatchers``. Whether an adapter fits its
port is checked when it is opened.
"""

import traceback
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from inspect import (
    Parameter,
    Signature,
    get_annotations,
    iscoroutinefunction,
    isfunction,
    signature,
)
from pathlib import Path
from types import UnionType
from typing import (
    Any,
    Final,
    Literal,
    TypeGuard,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from fleek.domain.errors import ConfigurationError, FleekError
from fleek.domain.text import one_line

MESSAGE_CHARS: Final = 300  # of a plugin's error

PROVIDERS: Final = {
    "cog": "fleek.providers.cog:connect",
    "comfyui": "fleek.providers.comfyui:connect",
    "fal": "fleek.providers.fal:connect",
    "local": "fleek.providers.local:connect",
    "openai": "fleek.providers.openai:connect",
    "placeholder": "fleek.providers.placeholder:connect",
    "replicate": "fleek.providers.replicate:connect",
}
CONFIGURED_BY: Final = {
    "replicate": "REPLICATE_API_TOKEN",
    "cog": "COG_URL",
    "openai": "OPENAI_API_KEY",
    "comfyui": "COMFYUI_WORKFLOWS",
    "fal": "FAL_KEY",
}
"""The setting that each of our providers cannot work without: once it is set, the provider is
configured, and opened unless `PROVIDERS` says otherwise. The first one is the default. A plugin is
named in `PROVIDERS`.
"""

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
WEBHOOK_FORMS: Final = {
    "fal": "fleek.api.facades.fal.webhook_form:FORM",
    "replicate": "fleek.api.facades.replicate.webhook_form:FORM",
}
"""The forms of webhooks besides our own: those of the services that facades stand for."""

ATTACH: Final = "fleek.worker:open_attached_worker"

Capability = TypeVar("Capability")
_SUPPORTED: Final[dict[tuple[type, object], bool]] = {}


class Known(Mapping[str, str]):
    """Names and targets: our own, then those of plugins, whose look-up is slow."""

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

    Each target is called with ``concurrency=``, returns on SIGTERM, and reaches the engine
    through `attach`. A plugin's entry point is in the group ``fleek.workers``.
    """
    return Known("fleek.workers", WORKER_COMMANDS)


@cache
def webhook_form(name: str) -> Any:
    """Return a form of webhooks; see `fleek.schemas.events.WebhookForm`."""
    return _imported(WEBHOOK_FORMS[name])


def attach() -> Any:
    """Return what makes a worker of a process whose ids a broker's own command receives.

    A dispatcher, a plugin's too, reaches the engine by this name only; see
    `fleek.dispatch.base.Attach`.
    """
    return _imported(ATTACH)


def load(known: Mapping[str, str], name: str, *, setting: str) -> Any:
    """Return what the target of `name` points at.

    Raises:
        ConfigurationError: `known` has no such name, a library it needs is not installed, or a
            plugin cannot be imported.
    """
    if name not in known:
        choices = ", ".join(sorted(known))
        raise ConfigurationError(f"{setting}={name}: unknown; choose one of: {choices}")
    target = known[name]
    try:
        return _imported(target)
    except Exception as error:
        if not target.startswith("fleek."):
            reason = f"the plugin's {target} cannot be imported: {_described(error)}"
            raise ConfigurationError(f"{setting}={name}: {reason}") from error
        if not isinstance(error, ModuleNotFoundError) or str(error.name).startswith("fleek"):
            raise
        hint = f"pip install 'fleek[{name}]'"
        message = f"{setting}={name} needs the library {error.name}; install it with: {hint}"
        raise ConfigurationError(message) from error


def open_adapter(
    known: Mapping[str, str],
    name: str,
    *,
    setting: str,
    misfits: Callable[[Any], Sequence[str]],
) -> AbstractAsyncContextManager[Any]:
    """Import an adapter now, and return what opens it and checks that it fits its port.

    Args:
        known: The adapters of this port.
        name: Which of them.
        setting: Where the operator named it, for messages.
        misfits: Returns in what an open adapter does not fit its port.

    Raises:
        ConfigurationError: As `load`; when it is entered: a setting of the adapter is wrong, or a
            plugin fails or does not fit.
    """
    connect = load(known, name, setting=setting)
    is_plugin = not known[name].startswith("fleek.")
    return _checked(connect, f"{setting}={name}", misfits, is_plugin=is_plugin)


@asynccontextmanager
async def _checked(
    connect: Any, origin: str, misfits: Callable[[Any], Sequence[str]], *, is_plugin: bool
) -> AsyncGenerator[Any]:
    async with AsyncExitStack() as stack:
        try:
            adapter = await stack.enter_async_context(connect())
        except Exception as error:
            if isinstance(error, FleekError) or not is_plugin:
                raise
            message = f"{origin}: the plugin's connect() failed: {_described(error)}"
            raise ConfigurationError(message) from error
        if phrases := misfits(adapter):
            raise ConfigurationError(
                f"{origin}: the adapter does not fit its port: {'; '.join(phrases)}"
            )
        yield adapter


def _imported(target: str) -> Any:
    module, _, attribute = target.partition(":")
    return getattr(import_module(module), attribute)


def _described(error: Exception) -> str:
    """Return an error of a plugin in one line, with the place that raised it."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(last.filename).name}, line {last.lineno}"
    return f"{type(error).__name__} at {place}: {one_line(str(error), MESSAGE_CHARS)}"


def misfits(adapter: object, port: type, capabilities: Sequence[type] = ()) -> list[str]:
    """Return what is wrong with the shape of an adapter, a phrase for each member; empty: nothing.

    Args:
        adapter: The open adapter.
        port: A Protocol. The adapter must have all its members.
        capabilities: Further Protocols. An adapter that has one member must have the others.
    """
    claimed = (
        capability
        for capability in capabilities
        if any(hasattr(adapter, name) for name in _members(capability))
    )
    return [
        phrase
        for protocol in (port, *claimed)
        for name, wanted in _members(protocol).items()
        for phrase in _misfits(adapter, name, wanted)
    ]


def supports(adapter: object, capability: Callable[..., Capability]) -> TypeGuard[Capability]:
    """Whether an open adapter has a capability whose members its class has.

    The class answers for all of its adapters, once: to compare an object with a Protocol takes as long
    as a short statement of a database, and asks for the value of each property.
    """
    key = type(adapter), capability
    if key not in _SUPPORTED:
        assert isinstance(capability, type)
        _SUPPORTED[key] = isinstance(adapter, capability)
    return _SUPPORTED[key]


@cache
def _members(protocol: type) -> Mapping[str, Any]:
    """Return a protocol's functions by name, and its values' types."""
    functions = {name: member for name, member in vars(protocol).items() if isfunction(member)}
    properties = {
        name: get_type_hints(member.fget)["return"]
        for name, member in vars(protocol).items()
        if isinstance(member, property)
    }
    hints = get_type_hints(protocol)
    values = {name: hints[name] for name in get_annotations(protocol)}
    members = values | properties | functions
    return {name: member for name, member in members.items() if not name.startswith("_")}


def _misfits(adapter: object, name: str, wanted: Any) -> Iterator[str]:
    is_method = isfunction(wanted)
    try:
        member = getattr(adapter, name)
    except AttributeError:
        yield f"{name}{'()' if is_method else ''} is missing"
        return
    if not is_method:
        if not _fits(member, wanted):
            yield f"{name} must be {_named_members(wanted)}"
    elif not callable(member):
        yield f"{name} must be a method"
    else:
        yield from _method_misfits(name, member, wanted)


def _method_misfits(
    name: str, member: Callable[..., Any], wanted: Callable[..., Any]
) -> Iterator[str]:
    if iscoroutinefunction(wanted) and not iscoroutinefunction(member):
        yield f"{name}() must be 'async def' without 'yield'"
    elif iscoroutinefunction(member) and not iscoroutinefunction(wanted):
        streams = hasattr(get_origin(get_type_hints(wanted)["return"]), "__anext__")
        form = "'async def' with 'yield'" if streams else "'def'"
        yield f"{name}() must be {form}"
    parameters = list(signature(wanted).parameters.values())[1:]
    if not _takes(member, parameters):
        bare = [parameter.replace(annotation=Parameter.empty) for parameter in parameters]
        yield f"{name}() must take {Signature(bare)}"


def _takes(member: Callable[..., Any], parameters: Sequence[Parameter]) -> bool:
    """Whether a method can be called as the engine calls it: by position, unless keyword-only."""
    by_name = {
        parameter.name: None
        for parameter in parameters
        if parameter.kind is Parameter.KEYWORD_ONLY
    }
    try:
        signature(member).bind(*[None] * (len(parameters) - len(by_name)), **by_name)
    except TypeError:
        return False
    except ValueError:  # not written in Python: its signature is unknown
        return True
    return True


def _fits(value: object, hint: Any) -> bool:
    origin = get_origin(hint)
    if origin is Literal:
        return value in get_args(hint)
    if origin in {Union, UnionType}:
        return any(_fits(value, option) for option in get_args(hint))
    return isinstance(value, origin or getattr(hint, "__supertype__", hint))  # of a NewType


def _named_members(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return f"one of {', '.join(map(repr, get_args(hint)))}"
    kind = getattr(hint, "__supertype__", hint)
    return f"of type {getattr(kind, '__name__', kind)}"
