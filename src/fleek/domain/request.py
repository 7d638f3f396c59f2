"""What a caller asks for, before it is a job."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from fleek.domain.job import ModelName

DEFAULT_TENANT: Final = "default"
DEFAULT_PRIORITY: Final = 5
MAX_SCHEDULE: Final = timedelta(days=365)
"""How far ahead a job may be asked for."""

MODEL_NAME: Final = re.compile(
    r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,99}(/[a-zA-Z0-9][a-zA-Z0-9._-]{0,99}(:[a-zA-Z0-9._-]{1,128})?)?"
)
"""``owner/name``, ``owner/name:version``, or an alias without a slash."""


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
