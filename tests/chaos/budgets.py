"""Checks costs: charges, jobs, budgets and the ledger agree to the last micro.

Each check yields one sentence per violation.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Final
from uuid import UUID

from chaos.evidence import Attempt, Charge, Evidence, Sale

STATES: Final = {None: "reserved", "not_bought": "released"}  # by the verdict; others: spent
PRICED: Final = frozenset({"predict_time", "inference_time", "total_time", "cost"})
"""What answers say about their price: the run time, that it did not run, or the price itself."""


def check(evidence: Evidence) -> list[str]:
    """Return every violation, or nothing."""
    checks: tuple[Callable[[Evidence], Iterator[str]], ...] = (
        _nothing_stays_reserved,
        _charges_follow_attempts,
        _charges_are_the_ledgers,
        _sums_are_exact,
    )
    return [f"{one.__name__[1:]}: {found}" for one in checks for found in one(evidence)]


def _nothing_stays_reserved(evidence: Evidence) -> Iterator[str]:
    """When all has ended, no charge and no budget holds anything."""
    for charge in evidence.charges:
        if charge.state == "reserved":
            yield f"charge {charge.number} of {charge.job_id} is still reserved"
    for row in evidence.spend:
        if row.reserved:
            yield f"{row.tenant_id or 'everybody'} has {row.reserved} reserved in {row.start!r}"


def _charges_follow_attempts(evidence: Evidence) -> Iterator[str]:
    """Each attempt has one charge, in the state of its verdict; a job costs what its charges do."""
    charges = {(charge.job_id, charge.number): charge for charge in evidence.charges}
    made = {(attempt.job_id, attempt.n): attempt for attempt in evidence.attempts}
    for place, attempt in made.items():
        charge = charges.get(place)
        if charge is None or charge.state != STATES.get(attempt.verdict, "spent"):
            yield f"attempt {attempt.id} is {attempt.verdict}, its charge {charge}"
    for place, charge in charges.items():
        if place not in made and charge.state != "released":
            yield f"charge {charge.number} of {charge.job_id} is {charge.state}, without an attempt"
    sums: dict[UUID, int] = defaultdict(int)
    for charge in evidence.charges:
        sums[charge.job_id] += _spent(charge)
    for job_id, cost in evidence.costs.items():
        if cost != sums[job_id]:
            yield f"{job_id} has cost {cost}, and its charges {sums[job_id]}"


def _charges_are_the_ledgers(evidence: Evidence) -> Iterator[str]:
    """What the provider has charged; only an answer without a price counts as estimated."""
    for attempt, charge, sale in _paid(evidence):
        if charge.actual == sale.micros:
            continue
        excused = attempt.metrics.keys().isdisjoint(PRICED) or sale.vanished or sale.denied
        if not excused or charge.actual != charge.estimate:
            yield (
                f"attempt {attempt.id} was charged {charge.actual} (estimated {charge.estimate}), "
                f"and {sale.id} has cost {sale.micros}: {sale.heading}, {dict(attempt.metrics)}"
            )


def _paid(evidence: Evidence) -> Iterator[tuple[Attempt, Charge, Sale]]:
    """Yield attempts with a prediction, their charges, and their predictions in the ledger."""
    charges = {(charge.job_id, charge.number): charge for charge in evidence.charges}
    sales = {sale.id: sale for sale in evidence.sales}
    for attempt in evidence.attempts:
        charge = charges.get((attempt.job_id, attempt.n))
        sale = sales.get(attempt.prediction_id or "")
        if charge is not None and sale is not None and charge.state == "spent":
            yield attempt, charge, sale


def _sums_are_exact(evidence: Evidence) -> Iterator[str]:
    """Each budget has the sum of its charges, and everybody's that of the ledger."""
    for row in evidence.spend:
        charged = sum(
            _spent(charge)
            for charge in evidence.charges
            if row.tenant_id in {"", charge.tenant_id} and charge.day.startswith(row.start)
        )
        if row.spent != charged:
            whose = row.tenant_id or "everybody"
            yield f"{whose} has spent {row.spent} in {row.start!r}, the charges are {charged}"
    whole = [row.spent for row in evidence.spend if not row.tenant_id and not row.start]
    totals = cost(evidence)
    explained = totals["ledger"] - totals["orphans"] + totals["estimated"] + totals["unknown"]
    if whole and whole[0] != explained:
        yield f"the service has spent {whole[0]}: {totals}"


def cost(evidence: Evidence) -> Mapping[str, int]:
    """Return what was spent in 10^-6 USD, beside the ledger's sum and what explains a difference."""
    return {
        "spent": sum(map(_spent, evidence.charges)),
        "ledger": sum(sale.micros for sale in evidence.sales),
        "orphans": sum(sale.micros for sale in evidence.sales if sale.id not in _bound(evidence)),
        "estimated": sum(
            (charge.actual or 0) - sale.micros for _, charge, sale in _paid(evidence)
        ),
        "unknown": sum(_unknown(evidence)),
    }


def _unknown(evidence: Evidence) -> Iterator[int]:
    """Yield what attempts are charged whose prediction was never found."""
    charges = {(charge.job_id, charge.number): charge for charge in evidence.charges}
    for attempt in evidence.attempts:
        charge = charges.get((attempt.job_id, attempt.n))
        if attempt.prediction_id is None and charge is not None:
            yield _spent(charge)


def _bound(evidence: Evidence) -> set[str | None]:
    return {attempt.prediction_id for attempt in evidence.attempts}


def _spent(charge: Charge) -> int:
    return (charge.actual or 0) if charge.state == "spent" else 0
