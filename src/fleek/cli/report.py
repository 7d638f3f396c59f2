"""Reports for operators: the doctor's findings, and the settings."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from importlib import import_module
from typing import Any, Final

from pydantic import AliasChoices, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python
from pydantic_settings import BaseSettings

from fleek import registry
from fleek.cli.screen import Screen, clean
from fleek.diagnosis import Finding
from fleek.domain.text import without_credentials
from fleek.environment import read
from fleek.settings import Settings
from fleek.store.address import database_url

MARKS: Final = {"ok": ("✓", "green"), "warning": ("!", "yellow"), "error": ("✗", "red")}
HIDDEN: Final = "********"


def write(screen: Screen, findings: Sequence[Finding]) -> None:
    """Write the findings and a summary."""
    if screen.as_json:
        screen.json([asdict(finding) for finding in findings])
        return
    from rich.table import Table  # noqa: PLC0415 - not with --json
    from rich.text import Text  # noqa: PLC0415 - not with --json

    grid = Table.grid(padding=(0, 2))
    for finding in findings:
        mark, style = MARKS[finding.status]
        message = Text(clean(finding.message))
        if finding.advice:
            message.append(f"\n→ {clean(finding.advice)}", style=style)
        grid.add_row(Text(mark, style=style), Text(finding.subject, style="bold"), message)
    screen.out.print(grid)
    screen.out.print(_summary(findings))


def _summary(findings: Sequence[Finding]) -> str:
    errors, warnings = (
        sum(finding.status == status for finding in findings) for status in ("error", "warning")
    )
    if not errors and not warnings:
        return "No problems found."
    return f"Errors: {errors}, warnings: {warnings}."


def write_settings(screen: Screen, settings: Settings) -> None:
    """Write every setting, the adapters' too, with its value; secrets are hidden.

    Raises:
        ConfigurationError: An adapter's setting is wrong.
    """
    shown = [settings, *(read(kind) for kind in _adapters(settings))]
    values = [row for group in shown for row in _values(group)]
    if screen.as_json:
        screen.json({name: value for name, value, _ in values})
        return
    for name, value, chosen in values:
        screen.data(f"{name}={'' if value is None else value}{'' if chosen else '  (default)'}")


def _adapters(settings: Settings) -> Iterator[type[BaseSettings]]:
    """Find the settings of the adapters in use, in the packages that open them."""
    adapters = (
        *((registry.providers(), name, "PROVIDERS") for name in settings.providers),
        (registry.storages(), settings.storage_backend, "STORAGE_BACKEND"),
        (registry.dispatchers(), settings.dispatch, "DISPATCH"),
    )
    for known, name, setting in adapters:
        home = import_module(registry.load(known, name, setting=setting).__module__)
        for kind in vars(home).values():
            own = isinstance(kind, type) and issubclass(kind, BaseSettings)
            if own and f"{kind.__module__}.".startswith(f"{home.__name__}."):
                yield kind


def _values(settings: BaseSettings) -> Iterator[tuple[str, Any, bool]]:
    """Yield each setting's name, its value ready for JSON, and whether it is set."""
    prefix = str(settings.model_config.get("env_prefix", ""))
    for field, described in type(settings).model_fields.items():
        value = getattr(settings, field)
        chosen = field in settings.model_fields_set
        yield _name(prefix, field, described), _shown(field, value), chosen


def _name(prefix: str, field: str, described: FieldInfo) -> str:
    alias = described.validation_alias
    if isinstance(alias, AliasChoices):
        alias = str(alias.choices[0]).upper()
    return alias if isinstance(alias, str) else (prefix + field).upper()


def _shown(field: str, value: Any) -> Any:
    if field == "database_url":
        return database_url(value).render_as_string(hide_password=True)
    if isinstance(value, SecretStr):
        return HIDDEN if value else None
    if hasattr(value, "total_seconds"):
        return value.total_seconds()
    plain = to_jsonable_python(value)
    return without_credentials(plain) if isinstance(plain, str) else plain
