"""Usage: what was spent, by what it was spent for."""

from enum import StrEnum

from fleek.domain.money import Micros
from fleek.domain.values import dataclass


class GroupBy(StrEnum):
    """What usage is added up by."""

    DAY = "day"
    MODEL = "model"
    PROVIDER = "provider"
    KEY = "key"
    TENANT = "tenant"


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """The attempts that have something in common."""

    name: str | None  # of it: the day, the model …; None: without a key
    attempts: int  # that were paid for
    unknown: int  # of these, those whose cost is not known
    cost: Micros
    reserved: Micros  # for attempts that have not ended
