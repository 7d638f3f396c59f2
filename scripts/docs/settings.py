# ruff: noqa: INP001 - a program, not a package
"""The reference of all settings, and an example ``.env``, from the classes that read them."""

import sys
import textwrap
from collections.abc import Iterator, Mapping
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from types import UnionType
from typing import Any, Final, Literal, Union, get_args, get_origin

from pydantic import AliasChoices, SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings
from scripts.docs.table import MADE, page, table

from fleek import registry
from fleek.settings import RENAMED, ProviderChoice, Proxies, Settings

HEAD: Final = """
Settings are read from the environment and from a file `.env` in the folder where the process
starts, under the same names; the environment wins. Durations are seconds, sizes are bytes. A
setting that is empty counts as not set. In a container a file `/run/secrets/NAME` sets what neither
of them does: `/run/secrets/database_url` is read as `DATABASE_URL`.

None has to be set: without any, `fleek serve` listens on loopback, keeps jobs in `fleek.db` and
files in `storage/` below the current folder, and makes pictures with the placeholder. A wrong
setting stops the process at its start with exit code 2 and one line that names it.
`fleek config show` prints what is in force.

The commands for users read two more: `FLEEK_URL`, the server's address (`http://127.0.0.1:8000`),
and `FLEEK_API_KEY`, the key to show to it.
"""

ENV_HEAD: Final = """
# Every setting with its default. Copy this file to .env, and uncomment what you change.
# Made from the code: run `make docs` after a change.
"""

AREAS: Final[
    Mapping[str, str]
] = {  # the first setting of each area; others follow their neighbour
    "database_url": "Database",
    "dispatch": "Dispatch and workers",
    "providers": "Providers",
    "max_retry_attempts": "Attempts and limits",
    "media_retention_days": "Retention",
    "storage_backend": "Storage",
    "api_host": "Server",
    "fleek_failpoints": "Tests of Fleek itself",
}

ADAPTERS: Final = (
    ("Provider", registry.PROVIDERS),
    ("Storage", registry.STORAGES),
    ("Dispatcher", registry.DISPATCHERS),
)


def kinds() -> Iterator[tuple[str, type[BaseSettings]]]:
    """Yield each class of settings, the service's own first, with what it belongs to."""
    yield "", Settings
    yield AREAS["providers"], ProviderChoice
    yield AREAS["providers"], Proxies
    for port, known in ADAPTERS:
        for name, target in known.items():
            home = target.partition(":")[0]
            import_module(home)
            for module in sorted(sys.modules):
                if module == home or module.startswith(f"{home}."):
                    for kind in _own(sys.modules[module]):
                        yield f"{port} `{name}`", kind


def _own(module: Any) -> Iterator[type[BaseSettings]]:
    for kind in vars(module).values():
        is_kind = isinstance(kind, type) and issubclass(kind, BaseSettings)
        if is_kind and kind.__module__ == module.__name__:
            yield kind


def areas() -> Mapping[str, list[tuple[str, FieldInfo]]]:
    """Return the settings of each area with their names.

    A field without a description belongs to another class, which describes it.
    """
    found: dict[str, list[tuple[str, FieldInfo]]] = {}
    for owner, kind in kinds():
        title = owner
        prefix = str(kind.model_config.get("env_prefix", ""))
        for field, described in kind.model_fields.items():
            title = AREAS.get(field, title) if kind is Settings else title
            if described.description:
                found.setdefault(title, []).append(((prefix + field).upper(), described))
    return found


def names(name: str, described: FieldInfo) -> tuple[str, ...]:
    """Return every spelling of a setting, the one to be used first."""
    alias = described.validation_alias
    if isinstance(alias, AliasChoices):
        return tuple(str(choice).upper() for choice in alias.choices)
    return (alias if isinstance(alias, str) else name,)


def default(described: FieldInfo) -> str:
    """Return a setting's default as it would stand in the environment; empty if there is none."""
    if described.is_required() or described.default_factory is not None:
        return ""  # or it follows from other settings, as its description says
    value = described.default
    if value is None:
        return ""
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, timedelta):
        return f"{value.total_seconds():g}"
    if isinstance(value, tuple | list | frozenset):
        return ",".join(map(str, value))
    return str(value)


def allowed(described: FieldInfo) -> str:
    """Return what a setting may be, as far as its type says."""
    kind = described.annotation
    if get_origin(kind) in {Union, UnionType}:
        kind = next(one for one in get_args(kind) if one is not type(None))
    if get_origin(kind) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(kind))
    if kind is bool:
        return "`true`, `false`"
    return ", ".join([_word(kind), *_bounds(described)])


def _word(kind: Any) -> str:
    if get_origin(kind) in {tuple, list, frozenset}:
        return "words, comma-separated"
    words = {int: "whole number", float: "number", timedelta: "seconds", SecretStr: "secret"}
    return words.get(kind, "path" if kind is Path else "text")


def _bounds(described: FieldInfo) -> Iterator[str]:
    for limit in described.metadata:
        for name, sign in (("gt", ">"), ("ge", "≥"), ("lt", "<"), ("le", "≤")):
            bound = getattr(limit, name, None)
            if isinstance(bound, timedelta):
                bound = bound.total_seconds()
            if bound is not None:
                yield f"{sign} {bound:,g}" if bound < 1e6 else f"{sign} {bound:,.0f}"


def settings_page() -> str:
    """Return the reference of all settings."""
    head = ("Setting", "Default", "Allowed", "What it is")
    parts = []
    for title, found in areas().items():
        rows = [
            (_spelled(name, field), _code(default(field)), allowed(field), str(field.description))
            for name, field in found
        ]
        parts += [f"## {title}", table(head, rows)]
    return page("# Settings", MADE, HEAD, *parts)


def _spelled(name: str, field: FieldInfo) -> str:
    first, *others = names(name, field)
    return f"`{first}`" + "".join(
        f", formerly `{other}`" if other in RENAMED else f", also `{other}`" for other in others
    )


def _code(text: str) -> str:
    return f"`{text}`" if text else "–"  # noqa: RUF001 - a dash for people


def env_example() -> str:
    """Return a ``.env`` in which every setting stands commented out with its default."""
    parts = []
    listed: set[str] = set()  # some settings are read by several classes
    for title, found in areas().items():
        parts.append(f"# --- {title} ---".replace("`", ""))
        for name, field in found:
            if name in listed:
                continue
            listed.add(name)
            text = f"{field.description} ({allowed(field)})".replace("`", "")
            lines = textwrap.wrap(text, 97, initial_indent="# ", subsequent_indent="# ")
            parts.append("\n".join([*lines, f"#{names(name, field)[0]}={default(field)}"]))
    return page(ENV_HEAD, *parts)
