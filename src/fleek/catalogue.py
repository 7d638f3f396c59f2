"""The catalogue of models: the one of this package, with the operator's `MODELS_FILE` over it."""

import tomllib
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from fleek import registry
from fleek.domain.catalogue import (
    PROMPT,
    VOCABULARY,
    Catalogue,
    CatalogueModel,
    CatalogueRoute,
    placeholders,
)
from fleek.domain.errors import ConfigurationError
from fleek.domain.job import MODEL_NAME, Kind, ModelName

MOST_ROUTES: Final = 10  # of one model
BUILT_IN: Final = "models.toml"

_Text = Annotated[str, Field(min_length=1, max_length=400)]
_Name = Annotated[str, Field(pattern=f"^{MODEL_NAME.pattern}$")]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)


class _Route(_Entry):
    provider: _Text
    model: _Text
    parameters: dict[str, _Text] = Field(default_factory=dict)
    templates: dict[_Text, str] = Field(default_factory=dict)
    values: dict[str, dict[str, str]] = Field(default_factory=dict)
    fixed: dict[_Text, Any] = Field(default_factory=dict)
    unverified: bool = False

    @model_validator(mode="after")
    def _known(self) -> "_Route":
        inserted = (name for text in self.templates.values() for name in placeholders(text))
        for name in (*self.parameters, *self.values, *inserted):
            if name not in VOCABULARY and name != PROMPT:
                choices = ", ".join(VOCABULARY)
                raise ValueError(f"{name} is not a common parameter; these are: {choices}")
        return self

    def route(self) -> CatalogueRoute:
        return CatalogueRoute(
            provider=self.provider,
            model=ModelName(self.model),
            parameters=self.parameters,
            templates=self.templates,
            values=self.values,
            fixed=self.fixed,
            verified=not self.unverified,
        )


class _Model(_Entry):
    kind: Annotated[Kind, Field(strict=False)]
    description: Annotated[str, Field(max_length=1000)] = ""
    aliases: Annotated[list[_Name], Field(max_length=20)] = Field(default_factory=list)
    prompt: Literal["none", "optional"] | None = None
    routes: Annotated[list[_Route], Field(min_length=1, max_length=MOST_ROUTES)]

    @model_validator(mode="after")
    def _without_prompt(self) -> "_Model":
        if self.prompt is not None and any(route.route().inserts_prompt for route in self.routes):
            raise ValueError(
                "a template inserts {prompt}, so the model needs one: remove `prompt`"
            )
        return self

    def model(self, name: str) -> CatalogueModel:
        return CatalogueModel(
            name=ModelName(name),
            kind=self.kind,
            description=self.description,
            aliases=tuple(self.aliases),
            prompt=self.prompt,
            routes=tuple(route.route() for route in self.routes),
        )


def read_catalogue(file: Path | None = None, aliases: Iterable[str] = ()) -> Catalogue:
    """Return the catalogue of this package, with the models of `file` added or in their place.

    Args:
        file: The operator's own, in the same form.
        aliases: Further names, as ``ALIAS=NAME``; they come before the built-in names.

    Raises:
        ConfigurationError: The file, or an alias, is wrong.
    """
    models = dict(_built_in())
    own: Mapping[str, CatalogueModel] = {}
    if file is not None:
        own = _read(_text(file), f"MODELS_FILE={file}")
        models |= own
        _check_providers(own.values(), f"MODELS_FILE={file}")
    known = _aliases(models)
    for entry in aliases:
        alias, _, name = (part.strip() for part in entry.partition("="))
        if alias in own:
            raise ConfigurationError(f"MODEL_ALIASES: {alias} is the name of a model in {file}")
        known[alias] = known.get(name, name)
    return Catalogue(models, known)


@cache
def _built_in() -> Mapping[str, CatalogueModel]:
    text = resources.files("fleek").joinpath(BUILT_IN).read_text(encoding="utf-8")
    return _read(text, BUILT_IN)


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"MODELS_FILE={file}: cannot be read: {error}") from None


def _read(text: str, origin: str) -> dict[str, CatalogueModel]:
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{origin}: is not TOML: {error}") from None
    return {name: _model(name, table, origin) for name, table in tables.items()}


def _model(name: str, table: object, origin: str) -> CatalogueModel:
    if MODEL_NAME.fullmatch(name) is None:
        raise ConfigurationError(f"{origin}: {name!r} cannot be the name of a model")
    try:
        return _Model.model_validate(table).model(name)
    except ValidationError as error:
        mistake = error.errors(include_url=False, include_input=False)[0]
        place = ".".join([name, *map(str, mistake["loc"])])
        message = mistake["msg"].removeprefix("Value error, ")
        raise ConfigurationError(f"{origin}: {place}: {message}") from None


def _check_providers(models: Iterable[CatalogueModel], origin: str) -> None:
    known = registry.providers()
    for model in models:
        for route in model.routes:
            if route.provider not in known:
                choices = ", ".join(sorted(known))
                message = (
                    f"{model.name}: unknown provider {route.provider}; choose one of: {choices}"
                )
                raise ConfigurationError(f"{origin}: {message}")


def _aliases(models: Mapping[str, CatalogueModel]) -> dict[str, str]:
    found: dict[str, str] = {}
    for model in models.values():
        for alias in model.aliases:
            if alias in models or found.setdefault(alias, model.name) != model.name:
                other = alias if alias in models else found[alias]
                raise ConfigurationError(
                    f"MODELS_FILE: {alias}, an alias of {model.name}, is one of {other}, too"
                )
    return found
