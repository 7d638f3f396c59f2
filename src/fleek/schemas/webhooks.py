"""Outgoing webhooks in requests and responses."""

from pydantic import BaseModel, Field


class SecretRead(BaseModel):
    """A signing secret."""

    secret: str = Field(
        description="`whsec_` and 32 bytes in Base64, as Standard Webhooks has it."
    )
