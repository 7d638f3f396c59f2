"""Poll running predictions, many at a time, until each has ended."""

import asyncio
import heapq
import random
from collections import defaultdict, deque
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from functools import partial
from typing import Final

import structlog

from fleek import failpoints
from fleek.domain.attempt import Attempt, Verdict, owe_cancel
from fleek.domain.errors import NotFound, ProviderError, ProviderUnavailable
from fleek.domain.job import AttemptId, Job, PredictionId, Stage
from fleek.domain.transitions import set_progress
from fleek.domain.values import dataclass
from fleek.engine.accounts import Account, account_of, accounts_of
from fleek.engine.apply import apply
from fleek.engine.cancel import cancel_predictions_soon
from fleek.engine.conclude import conclude, log_of
from fleek.engine.loops import run_logged
from fleek.engine.provider_limits import Clock, TokenBucket, call_timeout
from fleek.engine.runtime import Runtime
from fleek.providers.base import Prediction, SupportsCallbacks, budget_of, poll_calls_of
from fleek.registry import supports
from fleek.store import attempts
from fleek.store.attempts import Waiting
from fleek.store.updates import Update

IDLE: Final = timedelta(seconds=0.5)  # not later than the first look at what is bound now
SOON: Final = timedelta(seconds=0.5)  # the longest until a first look, whatever the row says
SHORTEST: Final = timedelta(seconds=0.5)  # between two looks at one prediction
LONGEST: Final = timedelta(seconds=30)
GROWTH: Final = 0.1  # of the time it has been running
REPORTED: Final = timedelta(seconds=5)  # likewise at least, where callbacks report ends
REPORTED_GROWTH: Final = 0.5  # likewise
READ_SECONDS: Final = 0.25  # between reads of what other processes have bound
ENDED: Final = {Verdict.SUCCEEDED, Verdict.FAILED}  # by itself: a cancel reports an end, too
LATE: Final = timedelta(seconds=1)  # most rows are committed within that time of their first look
SCAN_SECONDS: Final = 15.0  # between looks at all rows, for those committed late
LIMIT: Final = timedelta(minutes=2)  # per call of the provider
PAGE: Final = 1000  # rows read, or predictions polled, at once
MAX_POLLED: Final = 4000  # predictions polled at once where that costs no more calls
SPREAD_PER_SECOND: Final = 500  # first looks of a new coordinator
SHARE: Final = (
    0.5  # of a provider's budget of calls; the rest is for reconciliation, cancels, models
)
PROGRESS_SECONDS: Final = 2.0  # between two written lines of one job
PROGRESS_PER_SECOND: Final = 100  # written lines of all jobs

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Watched:
    """What the coordinator remembers of one waiting prediction."""

    row: Waiting
    seen_at: float  # steady; when this process first saw it
    before: timedelta  # how long it had run by then, as far as clocks tell
    progress: float | None = None  # as written last
    log: int | None = None  # the hash of the one written last
    written_at: float | None = None  # steady
    overtime: bool = False  # its cancel is owed
    rare: bool = False  # its next look comes late, as a callback is expected


class Watch:
    """The turns of `watch`, as long as this process coordinates.

    The steady clock says when to look again. The times in rows only say when to begin: rows with
    odd times are found by the scan, and polled at once.

    Args:
        rt: The open collaborators.
        only: The provider whose predictions are polled; None: all providers.
        clock: Steady seconds; None: those of `rt`.
    """

    def __init__(
        self, rt: Runtime, only: str | None = None, *, clock: Clock | None = None
    ) -> None:
        self._names = frozenset(rt.providers if only is None else (only,))
        accounts = (account for name in self._names for account in accounts_of(rt, name))
        budgets = {account.key: budget_of(account.provider) for account in accounts}
        self._rt = rt
        self._calls: dict[str, TokenBucket] = defaultdict(lambda: TokenBucket(None))
        for key, budget in budgets.items():
            looks = budget.calls_per_minute and budget.calls_per_minute * SHARE
            self._calls[key] = TokenBucket(looks, clock=clock or rt.steady)
        self._max_calls_per_poll = {
            key: budget.max_calls_per_poll for key, budget in budgets.items()
        }
        self._queues: dict[Account, deque[_Watched]] = {}  # due, not looked at yet
        self._watched: dict[AttemptId, _Watched] = {}
        self._looks: list[tuple[float, int, AttemptId]] = []  # steady
        self._count = 0  # breaks ties in the heap
        self._seen_until: tuple[datetime, AttemptId] | None = None
        self._scanned_at: float | None = None  # steady
        self._read_at: float | None = None  # steady; the latest look of `_discover` at the rows
        self._reported: dict[
            Account, bool
        ] = {}  # whether callbacks report the ends of predictions
        for name in self._names:
            rt.bound[name].clear()  # before this leadership: they are found by the scan

    async def turn(self) -> timedelta:
        """Poll what is due; returns how long to wait for the next turn."""
        rt = self._rt
        await self._discover()
        for watched in await self._without_reported(self._pop_due(rt.steady())):
            self._queues.setdefault(self._account(watched.row), deque()).append(watched)
        affordable = {account: self._afford(account) for account in self._queues}
        looks = [(account, *one) for account, one in affordable.items() if one[0]]
        await asyncio.gather(*(self._look(*look) for look in looks))
        queues = self._queues = {
            account: queue for account, queue in self._queues.items() if queue
        }
        waits = [self._calls[account.key].wait() for account in queues]
        if self._looks:
            waits.append(timedelta(seconds=max(self._looks[0][0] - rt.steady(), 0.0)))
        return min(IDLE, *waits) if waits else IDLE

    def _afford(self, account: Account) -> tuple[list[_Watched], int]:
        """Take from an account's queue what its budget allows now, longest waiting first.

        Returns also for how many calls it is charged.
        """
        queue, left = self._queues[account], self._calls[account.key].available()
        most = self._max_calls_per_poll.get(account.key)
        if most is not None and left >= 1 and len(queue) > max(left, most):
            taken = self._taken(queue, MAX_POLLED)
            charged = min(most, len(taken))  # what they may cost together, even if it overdraws
        else:
            taken = self._taken(queue, int(min(left, PAGE)))
            charged = len(taken)
        self._charge(account, charged)
        return taken, charged

    def _taken(self, queue: deque[_Watched], number: int) -> list[_Watched]:
        """Take so many from a queue; those that have been forgotten meanwhile cost nothing."""
        taken: list[_Watched] = []
        while queue and len(taken) < number:
            watched = queue.popleft()
            if watched.row.id in self._watched:
                taken.append(watched)
        return taken

    def _charge(self, account: Account, number: int) -> None:
        calls = self._calls[account.key]
        calls.spend(number)
        if not calls.unlimited:
            self._rt.metrics.budget.labels(account.key, "calls").set(calls.available())

    @contextmanager
    def _charged(self, account: Account, number: int) -> Generator[None]:
        """Give back, when the block is over, those of so many charged calls that its poll has not made.

        A poll of thousands through the list makes a fifth of what it may. Charged for all, 10,000
        predictions are looked at for half a minute longer.
        """
        before = poll_calls_of(account.provider)
        try:
            yield
        finally:
            after = poll_calls_of(account.provider)
            if before is not None and after is not None:
                self._charge(account, min(after - before - number, 0))

    async def _discover(self) -> None:
        """Take what this process has bound, and read predictions whose first look comes soon.

        Rows are not committed in the order of their first looks, so the latest are read again.
        """
        now, steady = self._rt.now(), self._rt.steady()
        if self._scanned_at is None or steady - self._scanned_at > SCAN_SECONDS:
            await self._scan(now)
        for name in self._names:
            while self._rt.bound[name]:
                self._add(self._rt.bound[name].popleft(), now)
        if self._read_at is not None and steady - self._read_at < READ_SECONDS:
            return
        if self._seen_until is not None and self._seen_until[0] > now:
            self._seen_until = None  # the clock was set back
        after = self._seen_until
        while True:
            rows = await attempts.waiting(self._rt.db, after=after, until=now + IDLE, limit=PAGE)
            for row in rows:
                after = self._passed(row, now)
                self._add(row, now)
            if len(rows) < PAGE:
                break
        self._read_at = steady

    async def _scan(self, now: datetime) -> None:
        """Read all waiting rows: at the start of a term, and for those that `_discover` missed."""
        taking_over = self._scanned_at is None
        found: set[AttemptId] = set()
        after: tuple[datetime, AttemptId] | None = None
        while True:
            rows = await attempts.waiting(self._rt.db, after=after, until=None, limit=PAGE)
            for row in rows:
                after = self._passed(row, now)
                found.add(row.id)
                delay = len(found) // SPREAD_PER_SECOND if taking_over else 0
                self._add(row, now, delay=delay)
            if len(rows) < PAGE:
                break
        self._watched = {key: watched for key, watched in self._watched.items() if key in found}
        self._scanned_at = self._rt.steady()

    def _passed(self, row: Waiting, now: datetime) -> tuple[datetime, AttemptId]:
        """Return a row's position; `_discover` continues there if no earlier row can appear."""
        place = (row.first_look_at, row.id)
        if row.first_look_at < now - LATE:
            self._seen_until = place
        return place

    def _add(self, row: Waiting, now: datetime, *, delay: float = 0) -> None:
        if row.provider not in self._names or row.id in self._watched:
            return
        before = max(now - row.submitted_at, timedelta(0))
        rare = self._reported.get(self._account(row), False)
        self._watched[row.id] = _Watched(row, self._rt.steady(), before, rare=rare)
        ahead = min(max(row.first_look_at - now, timedelta(0)), SOON)
        if rare:
            ahead = max(ahead, REPORTED - before)
        self._schedule(row.id, max(ahead, timedelta(seconds=delay)))

    def _account(self, row: Waiting) -> Account:
        return account_of(self._rt, row.provider, row.account)

    async def _without_reported(self, due: Sequence[_Watched]) -> Sequence[_Watched]:
        """Return the predictions whose end no callback has reported; the others are forgotten.

        While callbacks come, looks are rare, since they are only for what was lost. A rare look that
        finds an end is a sign that they do not come any more; a frequent one may have been quicker.
        """
        if self._rt.settings.public_url is None:
            return due
        askable = {
            each.row.id
            for each in due
            if supports(self._rt.providers.get(each.row.provider), SupportsCallbacks)
        }
        if not askable:
            return due
        verdicts = await attempts.verdicts(self._rt.db, askable)
        ended = {each for each in askable if verdicts.get(each, Verdict.LOST) is not None}
        for each in due:
            if each.row.id in ended:
                del self._watched[each.row.id]
                if verdicts.get(each.row.id) in ENDED:
                    self._reported[self._account(each.row)] = True
        return [each for each in due if each.row.id not in ended]

    def _schedule(self, attempt_id: AttemptId, wait: timedelta) -> None:
        self._count += 1
        look_at = self._rt.steady() + wait.total_seconds()
        heapq.heappush(self._looks, (look_at, self._count, attempt_id))

    def _pop_due(self, now: float) -> list[_Watched]:
        due = []
        while self._looks and self._looks[0][0] <= now:
            _, _, attempt_id = heapq.heappop(self._looks)
            if watched := self._watched.get(attempt_id):
                due.append(watched)
        return due

    async def _look(self, account: Account, watched: Sequence[_Watched], charged: int) -> None:
        rt = self._rt
        ids = [one.row.prediction_id for one in watched]
        polling = partial(self._poll, account, ids, charged)
        seen = await run_logged(rt, "watch", polling) or {}
        noting = (partial(self._note, one, seen.get(one.row.prediction_id)) for one in watched)
        await asyncio.gather(*(run_logged(rt, "watch", one) for one in noting))

    async def _poll(
        self, account: Account, ids: Sequence[PredictionId], charged: int
    ) -> Mapping[PredictionId, Prediction]:
        try:
            failpoints.hit("watch.poll")
            with self._charged(account, charged):
                async with call_timeout(account.key, LIMIT):
                    return await account.provider.poll(ids)
        except ProviderError as error:
            log.warning("poll_failed", provider=account.key, reason=str(error))
            if isinstance(error, ProviderUnavailable) and error.retry_after is not None:
                self._calls[account.key].drain(seconds=error.retry_after.total_seconds())
            return {}

    async def _note(self, watched: _Watched, seen: Prediction | None) -> None:
        """Act on one look; the next one is scheduled before anything can fail."""
        row = watched.row
        watching = timedelta(seconds=self._rt.steady() - watched.seen_at)
        running, account = watched.before + watching, self._account(row)
        wait = interval(running, None if seen is None else seen.eta)
        expected, watched.rare = watched.rare, self._reported.get(account, False)
        if watched.rare:
            wait = max(wait, REPORTED, running * REPORTED_GROWTH)
        self._schedule(row.id, min(wait, LONGEST))
        if seen is not None and seen.outcome is not None:
            if expected:
                self._reported[account] = False
            with suppress(NotFound):  # the job was removed meanwhile
                await conclude(self._rt, row, seen)
            self._watched.pop(row.id, None)
            return
        if not watched.overtime and self._overtime(row, watching, seen):
            await self._stop(row)
            watched.overtime = True  # only now: a failed write is tried again
        if seen is not None:
            await self._write_progress(watched, seen)

    def _overtime(self, row: Waiting, watching: timedelta, seen: Prediction | None) -> bool:
        """Whether a prediction has certainly run for longer than allowed.

        Either this process has watched it for so long. Or it runs now, and both the clock, without
        skipped time, and the provider's clock, if known, say so.
        """
        allowed = timedelta(seconds=row.timeout_seconds)
        if watching > allowed:
            return True
        clock = self._rt.clock
        if seen is None or not clock.stable or (seen.age is not None and seen.age <= allowed):
            return False
        return row.submitted_at < clock.back(self._rt.now(), allowed)

    async def _stop(self, row: Waiting) -> None:
        """Cancel a prediction that ran too long; the job moves on when it has ended."""

        def decide(_: Job, current: Attempt | None) -> Update:
            if current is None or current.verdict is not None:
                return Update()
            return Update(attempt=owe_cancel(current))

        await apply(self._rt, row.job_id, decide, event="cancel_owed", attempt_id=row.id)
        cancel_predictions_soon(self._rt, row.job_id)

    async def _write_progress(self, watched: _Watched, seen: Prediction) -> None:
        """Write progress and log of a running prediction, if they are new, and not too often."""
        steady, crowd = self._rt.steady(), len(self._watched) / PROGRESS_PER_SECOND
        since = watched.written_at
        if since is not None and steady - since < max(PROGRESS_SECONDS, crowd):
            return
        progress = watched.progress if seen.progress is None else seen.progress
        log = watched.log if seen.log is None else hash(seen.log)
        moved, logged = progress != watched.progress, log != watched.log
        if not moved and not logged:
            return
        watched.progress, watched.log, watched.written_at = progress, log, steady
        row = watched.row
        new = log_of(row.number, seen) if logged else None

        def decide(job: Job, _: Attempt | None) -> Update:
            waits = job.attempt_id == row.id and job.stage is Stage.WAITING
            if progress is None or not moved or not waits:
                return Update(log=new)
            return Update(change=set_progress(job, progress, now=self._rt.now()), log=new)

        await apply(self._rt, row.job_id, decide, event="progress")


def interval(running: timedelta, eta: timedelta | None) -> timedelta:
    """Return the wait before the next look at a prediction that has run for so long."""
    wait = min(max(SHORTEST, running * GROWTH), LONGEST) * random.uniform(0.9, 1.1)  # noqa: S311
    return wait if eta is None else min(wait, max(eta, timedelta(milliseconds=10)))
