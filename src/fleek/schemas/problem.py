"""Errors in responses."""

from pydantic import BaseModel, Field

from fleek.domain.errors import ErrorLocation


class ProblemField(BaseModel):
    """An invalid part of a request."""

    location: ErrorLocation = Field(default="body", description="The part of the request.")
    pointer: str = Field(description="JSON pointer into that part (RFC 6901).")
    code: str
    detail: str


class Problem(BaseModel):
    """An error. Source: RFC 9457, with `code`, `request_id` and `errors` added."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str = Field(description="Stable code for programs, in snake_case.")
    request_id: str
    errors: list[ProblemField] = Field(default_factory=list)
