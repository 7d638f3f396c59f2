"""The base of the schemas of responses."""

from pydantic import BaseModel, ConfigDict


class Schema(BaseModel):
    """A schema whose validator is built when it is first used: most processes use few of them.

    Not for requests: FastAPI gives their fields an alias, of which pydantic would warn then.
    """

    model_config = ConfigDict(defer_build=True)
