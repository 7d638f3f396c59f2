"""All that `recover` does, one turn after the other, by the clock of the test."""

from datetime import timedelta
from typing import Final

from fleek.engine.recover import ProviderRecovery, Recovery
from fleek.engine.runtime import Runtime

PATIENCE_SECONDS: Final = 60  # for what runs beside the turns


class Recovering:
    """The loops of one coordinator."""

    def __init__(self, rt: Runtime) -> None:
        self._rt = rt
        self.recovery = Recovery(rt)
        self.providers = [ProviderRecovery(rt, name, clock=rt.steady) for name in rt.providers]

    async def turn(self) -> timedelta:
        """Take a turn of each, and see what it began to its end; returns the shortest wait."""
        waits = [await self.recovery.turn()]
        for provider in self.providers:
            waits += [await provider.reconcile_turn(), await provider.cancel_turn()]
        await self._rt.cancels.tasks.finish(seconds=PATIENCE_SECONDS)
        return min(waits)
