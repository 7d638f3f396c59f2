"""The wire format of version 1, shared by the API and the client.

Source: the contract in ``docs/reference/api.md``.
"""

from fleek.schemas.create import JobCreate, JobPatch
from fleek.schemas.read import (
    Addresses,
    FlatJob,
    JobCancelled,
    JobLinks,
    JobRead,
    JobRoute,
    ModelRead,
    ModelRouteRead,
    OutputRead,
    Problem,
    ProblemField,
    Retrying,
    example,
    job_json,
    media_name,
)

__all__ = [
    "Addresses",
    "FlatJob",
    "JobCancelled",
    "JobCreate",
    "JobLinks",
    "JobPatch",
    "JobRead",
    "JobRoute",
    "ModelRead",
    "ModelRouteRead",
    "OutputRead",
    "Problem",
    "ProblemField",
    "Retrying",
    "example",
    "job_json",
    "media_name",
]
