"""How settings are read from the environment, ``.env`` and secret files, the service's and each adapter's."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

from pydantic import BeforeValidator, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from fleek.domain.errors import ConfigurationError

SettingsT = TypeVar("SettingsT", bound=BaseSettings)

ZERO = timedelta(0)

SECRETS: Final = Path("/run/secrets")  # where containers find files named like settings

SOURCE = SettingsConfigDict(
    env_file=".env",
    secrets_dir=SECRETS if SECRETS.is_dir() else None,
    extra="ignore",
    frozen=True,
    env_ignore_empty=True,
    hide_input_in_errors=True,
)


def _seconds(value: object) -> object:
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError as error:
            raise ValueError("must be a number of seconds") from error
    if not isinstance(value, int | float):
        return value
    try:
        return timedelta(seconds=value)
    except (OverflowError, ValueError) as error:
        raise ValueError("must be a number of seconds, not that large") from error


def _listed(value: object) -> object:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


Seconds = Annotated[timedelta, BeforeValidator(_seconds)]
"""A duration; in the environment a number of seconds, fractions allowed."""

Listed = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_listed)]
"""Several words; in the environment separated by commas."""


def read(kind: type[SettingsT], **overrides: Any) -> SettingsT:
    """Read settings of this kind from the environment and ``.env``; `overrides` win.

    Raises:
        ConfigurationError: One is wrong; the message names it and says what is allowed.
    """
    try:
        return kind(**overrides)
    except ValidationError as error:
        raise ConfigurationError("; ".join(_complaints(kind, error))) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f".env: cannot be read: {error}") from None


def _complaints(kind: type[BaseSettings], error: ValidationError) -> list[str]:
    prefix = str(kind.model_config.get("env_prefix", "")).upper()
    complaints = []
    for found in error.errors(include_url=False, include_input=False):
        message = found["msg"].removeprefix("Value error, ")
        name = prefix + "_".join(str(part).upper() for part in found["loc"][:1])
        complaints.append(f"{name}: {message}" if found["loc"] else message)
    return complaints
