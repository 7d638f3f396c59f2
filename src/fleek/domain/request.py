"""What a caller asks for, before it is a job."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from fleek.domain.job import ModelName

DEFAULT_TENANT = "default"
DEFAULT_PRIORITY = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRequest:
    """One request to generate media; each None means "as the service's settings say"."""

    prompt: str  # 1-10,000 characters, trimmed
    model: ModelName | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    provider: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    priority: int = DEFAULT_PRIORITY  # 0-9; 9 goes first
    run_at: datetime | None = None  # None: at once
    deadline: timedelta | None = None  # counted from `run_at`, else from submission
    max_attempts: int | None = None
    tenant_id: str = DEFAULT_TENANT
