"""The ledger summed up: the costs and their reasons."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from chaos.evidence import Evidence, Job, Sale


@dataclass(frozen=True, slots=True, kw_only=True)
class Money:
    """Costs by reason."""

    billed: float
    completed: int
    failed: int  # predictions that failed at the provider after their start
    cancelled: int  # predictions cancelled after their start
    unused: int  # succeeded for a job that was cancelled, or vanished
    lost: int  # succeeded and available, but the job has not completed
    twice: int  # succeeded for a job with another success

    @property
    def balanced(self) -> bool:
        """Whether all costs are explained."""
        explained = (
            self.completed + self.failed + self.cancelled + self.unused + self.lost + self.twice
        )
        return self.billed == explained


def money(evidence: Evidence) -> Money:
    """Sum up the ledger by the results of jobs."""
    by_job = sales_by_job(evidence)
    counted: Counter[str] = Counter()
    for job_id, sales in by_job.items():
        good = [sale for sale in sales if sale.heading == "succeeded"]
        counted["unused"] += sum(sale.id in evidence.unfindable for sale in good)
        good = [sale for sale in good if sale.id not in evidence.unfindable]
        counted[_use(evidence.jobs.get(job_id), good)] += min(len(good), 1)
        counted["twice"] += max(len(good) - 1, 0)
    headings = Counter(sale.heading for sale in evidence.sales)
    return Money(
        billed=sum(sale.billed for sale in evidence.sales),
        completed=counted["completed"],
        failed=headings["failed_after_start"],
        cancelled=headings["canceled_after_start"],
        unused=counted["unused"],
        lost=counted["lost"],
        twice=counted["twice"],
    )


def _use(job: Job | None, good: Sequence[Sale]) -> str:
    """Return how a job's successful predictions were used."""
    if job is not None and job.status == "completed":
        return "completed"
    excused = all(sale.vanished or sale.unheard for sale in good)
    return "unused" if excused or (job is not None and job.status == "cancelled") else "lost"


def sales_by_job(evidence: Evidence) -> Mapping[UUID, list[Sale]]:
    """Return the predictions of each job; without callbacks they are found by the prompt."""
    of_attempt = {attempt.id: attempt.job_id for attempt in evidence.attempts}
    of_prompt = {job.prompt: job.id for job in evidence.jobs.values()}
    found: dict[UUID, list[Sale]] = defaultdict(list)
    for sale in evidence.sales:
        if sale.attempt_id is None:
            job_id = of_prompt.get(sale.prompt)
        else:
            job_id = of_attempt.get(sale.attempt_id)
        if job_id is not None:
            found[job_id].append(sale)
    return found
