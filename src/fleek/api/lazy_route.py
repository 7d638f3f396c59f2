"""A route that FastAPI builds when it is first used.

FastAPI derives the parameters, validators and serializers of a route when it is declared. For all
routes together this takes as long as importing FastAPI, and most processes serve few of them.
"""

import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from fastapi.routing import APIRoute
from starlette.routing import compile_path

PYDANTIC_1: Final = "pydantic.v1"


@contextmanager
def _without_pydantic_1() -> Generator[None]:
    """Let FastAPI, which asks whether a type is a model of Pydantic 1, not import it for the question.

    While it is not loaded, nothing is. It takes as long as a quarter of the first submission.
    """
    if PYDANTIC_1 in sys.modules:
        yield
        return
    sys.modules[PYDANTIC_1] = None  # type: ignore[assignment]  # an import fails then
    try:
        yield
    finally:
        del sys.modules[PYDANTIC_1]


class LazyRoute(APIRoute):
    """A route that knows only what finds it, until something else about it is asked for."""

    def __init__(
        self, path: str, endpoint: Callable[..., Any], *, methods: Sequence[str], **options: Any
    ) -> None:
        self.path = path
        self.endpoint = endpoint
        self.name = options["name"] = options.get("name") or endpoint.__name__
        self.path_regex, self.path_format, self.param_convertors = compile_path(path)
        self.beginning = path.partition("{")[0]
        self.methods = set(methods)
        self.include_in_schema = options.get("include_in_schema", True)
        self._options = options

    def __getattr__(self, name: str) -> Any:
        """Build the route, because an attribute is asked for that only a built one has."""
        if name.startswith("__") or "_options" not in self.__dict__:
            raise AttributeError(f"a route has no {name}", name=name, obj=self)
        self.build()
        return getattr(self, name)

    def build(self) -> None:
        """Build the route, unless it is built."""
        options = self.__dict__.pop("_options", None)
        if options is None:
            return
        known = dict(self.__dict__)  # a copy for HEAD has methods of its own
        with _without_pydantic_1():
            super().__init__(self.path, self.endpoint, methods=known["methods"], **options)
        self.__dict__.update(known)
