"""What requests of OpenAI's clients hold, and the jobs that they make."""

from collections.abc import Mapping
from typing import Any, Final

from fastapi.requests import Request

from fleek.api.deps import caller
from fleek.api.facades.openai.errors import refused
from fleek.api.facades.openai.options import Target, Translated
from fleek.api.facades.repeats import create_once
from fleek.domain.job import JobRequest
from fleek.schemas.create import read_prompt
from fleek.store.jobs import Accepted

METADATA: Final = "openai"  # what the request said, in the metadata of its job


class Fields:
    """The fields of a request, taken out one by one."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self._given = dict(given)

    def take(self, name: str) -> Any:
        """Return the value of a field, and leave it out of the rest; None: not given."""
        return self._given.pop(name, None)

    def text(self, name: str, *choices: str) -> str | None:
        """Return a text, one of `choices` if there are any; None: not given.

        Raises:
            InvalidInput: It is something else.
        """
        value = self.take(name)
        if value is None:
            return None
        if not isinstance(value, str) or (choices and value not in choices):
            expected = f"one of {', '.join(choices)}" if choices else "a text"
            raise refused(name, f"must be {expected}")
        return value

    def flag(self, name: str) -> bool:
        """Return whether something is wanted.

        Raises:
            InvalidInput: It is neither true nor false.
        """
        value = self.take(name)
        if value in {"true", "false"}:  # of a form
            return bool(value == "true")
        if not isinstance(value, bool | None):
            raise refused(name, "must be true or false")
        return bool(value)

    def prompt(self, name: str) -> str:
        """Return the text that says what to make.

        Raises:
            InvalidInput: There is none, or it is too long.
        """
        value = self.take(name)
        if value is None:
            raise refused(name, "is required", code="missing_required_parameter")
        try:
            return read_prompt(value if isinstance(value, str) else "")
        except ValueError as error:
            raise refused(name, str(error)) from error

    def rest(self) -> Mapping[str, Any]:
        """Return the fields that were not taken."""
        return self._given


async def accept(
    request: Request,
    prompt: str,
    target: Target,
    translated: Translated,
    *,
    said: Mapping[str, Any],
    tag: str,
) -> Accepted:
    """Accept a job, or return that of the request which this one repeats.

    `said`: what the answers have to repeat. `tag`: what the job is found by.
    """
    who = caller(request)
    wanted = JobRequest(
        prompt=prompt,
        model=target.name,
        provider=target.provider,
        parameters=translated.parameters,
        metadata={METADATA: {name: value for name, value in said.items() if value is not None}},
        tags=(tag,),
        tenant_id=who.tenant_id,
        key_id=who.key_id,
    )
    return await create_once(request, wanted)
