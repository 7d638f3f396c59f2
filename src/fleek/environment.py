"""How settings are read from the environment, ``.env`` and secret files, the service's and each adapter's."""

import re
from collections.abc import Mapping
from datetime import timedelta
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

from pydantic import BeforeValidator, SecretStr, ValidationError, create_model
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from fleek.domain.errors import ConfigurationError

SettingsT = TypeVar("SettingsT", bound=BaseSettings)

ZERO = timedelta(0)

SECRETS: Final = Path("/run/secrets")  # where containers find files named like settings

SOURCE = SettingsConfigDict(
    env_file=".env",
    env_file_encoding="utf-8-sig",  # some editors begin with a byte order mark
    secrets_dir=SECRETS if SECRETS.is_dir() else None,
    extra="ignore",
    frozen=True,
    env_ignore_empty=True,
    hide_input_in_errors=True,
)


class _Source(BaseSettings):
    model_config = SOURCE


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


_QUOTES: Final = "\"'`\u201c\u201d\u2018\u2019"
_LABEL: Final = re.compile(  # the value's own name, or what stands before a token in a header
    r"(?:export\s+)?[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\s*=\s*"
    r"|(?:[Aa]uthorization\s*:\s*)?(?:[Bb]earer|BEARER|[Tt]oken)\s+"
)
_PLAIN: Final = re.compile(r"[!-~]+")


def cleaned(text: str) -> str:
    """Return a pasted value without what came along: blanks, quotes, its name, ``Bearer``."""
    while (less := _bare(text)) != text:
        text = less
    return text


def _bare(text: str) -> str:
    around = "".join({char for char in text if not char.isprintable() or char.isspace()})
    text = text.strip(around + _QUOTES)
    label = _LABEL.match(text)
    return text[label.end() :] if label else text


def _secret(value: object) -> object:
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if not isinstance(value, str):
        return value
    text = cleaned(value)
    if text and not _PLAIN.fullmatch(text):
        raise ValueError(
            "must consist of ASCII letters, digits and punctuation without spaces: copy it again"
        )
    return text or None


def _separated(by: str, value: object) -> object:
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if not isinstance(value, str):
        return value
    parts = [_secret(part) for part in re.split(by, cleaned(value)) if part]
    return " ".join(str(part) for part in parts if part) or None


def _pasted(value: object) -> object:
    if not isinstance(value, str):
        return value
    text = cleaned(value)
    if not text.isprintable():
        raise ValueError("must not contain line breaks or invisible characters")
    return text


Secret = Annotated[SecretStr | None, BeforeValidator(_secret)]
"""A token or a key, cleaned of what is often pasted with it. A blank one is none."""

Secrets = Annotated[SecretStr | None, BeforeValidator(partial(_separated, r"[\s,]+"))]
"""Several of them, separated by spaces or commas."""

Tokens = Annotated[SecretStr | None, BeforeValidator(partial(_separated, ","))]
"""Several of them, separated by commas alone: one that was broken into two is refused."""

PublicKey = Annotated[str | None, BeforeValidator(_secret)]
"""The part of a pair of keys that is no secret, cleaned alike."""

Pasted = Annotated[str, BeforeValidator(_pasted)]
"""An address that may hold a password, cleaned alike."""

Seconds = Annotated[timedelta, BeforeValidator(_seconds)]
"""A duration; in the environment a number of seconds, fractions allowed."""

Listed = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_listed)]
"""Several words; in the environment separated by commas."""


def lookup(*names: str) -> Mapping[str, str]:
    """Return the texts of these settings, as far as they are set, whatever class reads them."""
    texts = _lookup(names)().model_dump()
    return {name: texts[name.lower()] for name in names if texts[name.lower()] is not None}


@cache
def _lookup(names: tuple[str, ...]) -> type[_Source]:
    """Return what reads these settings as texts."""
    fields: dict[str, Any] = {name.lower(): (str | None, None) for name in names}
    return create_model("Lookup", __base__=_Source, **fields)


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
    for mistake in error.errors(include_url=False, include_input=False):
        message = mistake["msg"].removeprefix("Value error, ")
        name = prefix + "_".join(str(part).upper() for part in mistake["loc"][:1])
        complaints.append(f"{name}: {message}" if mistake["loc"] else message)
    return complaints
