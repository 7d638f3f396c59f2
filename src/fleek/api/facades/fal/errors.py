"""Errors in fal's form: ``{"detail": text}``, or a list of fields for 422."""

from typing import Any

from fastapi.responses import JSONResponse, Response

from fleek.api.errors import Refusal
from fleek.api.facades.routes import names_nothing
from fleek.schemas import ProblemField


def present_error(refusal: Refusal) -> Response:
    """Return the response to a refused request. fal has 404 for a model that does not exist."""
    unknown = any(field.code == "unknown_model" for field in refusal.errors)
    status = 404 if unknown or names_nothing(refusal) else refusal.status
    fields = [_field(field) for field in refusal.errors] if status == 422 else []
    detail: Any = fields or (refusal.errors[0].detail if unknown else refusal.detail)
    return JSONResponse({"detail": detail}, status, headers=dict(refusal.headers))


def _field(field: ProblemField) -> dict[str, Any]:
    path = field.pointer.removeprefix("/").split("/") if field.pointer else []
    if path[:1] == ["parameters"]:
        path = path[1:]
    return {"loc": [field.location, *path], "msg": field.detail, "type": field.code}
