"""Figures of several rounds, and the lines of the table that they become."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from statistics import median
from typing import Final

from benchmarks.databases import Databases


@dataclass(frozen=True)
class Scale:
    """How much is done."""

    rounds: int  # at most; fewer if they take longer than `patience`
    patience: float  # seconds of one measure, after which no other round begins
    requests: int  # in one turn
    seconds: float  # after which a turn of requests ends in any case
    jobs: int  # in one turn
    singles: int  # jobs, one after the other
    idle: float  # seconds
    crowd: int  # jobs in flight at once
    total: float  # seconds of all measures together, the ends of the measured processes left out


FULL: Final = Scale(
    rounds=5,
    patience=30,
    requests=2000,
    seconds=8,
    jobs=100,
    singles=20,
    idle=8,
    crowd=1000,
    total=540,
)
QUICK: Final = Scale(
    rounds=1,
    patience=5,
    requests=500,
    seconds=4,
    jobs=30,
    singles=3,
    idle=3,
    crowd=100,
    total=115,
)


@dataclass
class Series:
    """One figure of several rounds."""

    values: list[float] = field(default_factory=list)

    @property
    def middle(self) -> float:
        """The median."""
        return median(self.values)

    def __format__(self, spec: str) -> str:
        """Return the median, with the lowest and the highest if there are several."""
        middle = format(self.middle, spec)
        if len(self.values) == 1:
            return middle
        return f"{middle} ({min(self.values):{spec}}-{max(self.values):{spec}})"


@dataclass(frozen=True)
class Row:
    """One line of the table. Ratios are those of the yardstick's figure to ours, 1 is as good."""

    measure: str
    database: str
    figure: str
    cpu: str = ""  # ratio by processor time
    wall: str = ""  # ratio by wall time
    target: str = ""

    def __str__(self) -> str:
        """Return the line in Markdown."""
        cells = (self.measure, self.database, self.figure, self.cpu, self.wall, self.target)
        return f"| {' | '.join(cells)} |"


HEAD: Final = (
    "| measure | database | figure | ratio, processor time | ratio, wall time | target |\n"
    "|---|---|---|---|---|---|"
)

Measure = Callable[[Databases, Scale], Iterator[Row]]


def rounds(scale: Scale) -> Iterator[int]:
    """Count rounds until there are enough, or there is no time for another."""
    end = time.monotonic() + scale.patience
    for number in range(scale.rounds):
        if number and time.monotonic() > end:
            return
        yield number
