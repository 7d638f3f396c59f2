"""Reproducible sampling of the faults of a request."""

from collections import Counter
from collections.abc import Mapping
from random import Random

from fleek.emulator.faults import ALWAYS, CATALOGUE, Group
from fleek.emulator.plan import Marker, Plan

Faults = dict[str, str]
"""Fault → argument, for those that strike."""


class FaultSampler:
    """Draws for each request of a kind by the seed and that request's number, nothing else.

    So two runs with the same seed and the same requests of one kind see the same faults,
    whatever requests of other kinds come in between.
    """

    def __init__(self) -> None:
        self._turns: Counter[str] = Counter()
        self._struck: Counter[tuple[str, str]] = Counter()  # (whom, fault): how often, by marker

    def roll(self, plan: Plan, kind: str) -> Random:
        """Give the random numbers of the next request of a kind."""
        self._turns[kind] += 1
        return Random(f"{plan.seed}:{kind}:{self._turns[kind]}")  # noqa: S311  repeatable, on purpose

    def draw(
        self,
        plan: Plan,
        group: Group,
        *,
        whom: str = "",
        markers: Mapping[str, Marker] | None = None,
        model: str = "",
    ) -> Faults:
        """Choose the faults of one request: all that its markers ask for, one at most by rate.

        Args:
            plan: The rates.
            group: Faults of this group only.
            whom: Whose markers they are; how often a marker has struck is counted by this.
            markers: What the prompt asks for.
            model: Whose rates come first.
        """
        if not plan.injecting and group != "knob":  # a knob is not a fault
            return {}
        chosen = {
            name: self._argument(plan, name, marker.argument)
            for name, marker in (markers or {}).items()
            if CATALOGUE[name].group == group and self._left(whom, name, marker.times)
        }
        rates = {**plan.rates, **plan.models.get(model, {})}
        rates = {name: rate for name, rate in rates.items() if CATALOGUE[name].group == group}
        if rates:
            random = self.roll(plan, group)
            struck = [name for name, rate in sorted(rates.items()) if random.random() < rate]
            if struck and not chosen:
                name = random.choice(struck)
                chosen[name] = self._argument(plan, name, None)
        return chosen

    def _left(self, whom: str, name: str, times: int) -> bool:
        self._struck[whom, name] += 1
        return times == ALWAYS or self._struck[whom, name] <= times

    @staticmethod
    def _argument(plan: Plan, name: str, given: str | None) -> str:
        if given is not None:
            return given
        return plan.arguments.get(name, CATALOGUE[name].argument)
