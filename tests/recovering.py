"""All turns of recovery, one after the other, on the clock of the test."""

from datetime import timedelta
from typing import Final

from fleek.engine.recover import ProviderRecovery, Recovery
from fleek.engine.runtime import Runtime

PATIENCE_SECONDS: Final = 60  # for tasks in the background


class Recovering:
    """The recovery loops of one coordinator."""

    def __init__(self, rt: Runtime) -> None:
        self._rt = rt
        self.recovery = Recovery(rt)
        self.providers = [ProviderRecovery(rt, name, clock=rt.steady) for name in rt.providers]

    async def turn(self) -> timedelta:
        """Run one turn of each loop, wait for their tasks, and return the shortest wait."""
        waits = [await self.recovery.turn()]
        for provider in self.providers:
            waits += [await provider.reconcile_turn(), await provider.cancel_turn()]
        await self._rt.cancels.tasks.finish(seconds=PATIENCE_SECONDS)
        return min(waits)
