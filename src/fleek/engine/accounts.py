"""A provider's accounts, one for each of its keys: which one starts an attempt, and which one has.

An account is paused by itself: its health is kept under its own key, as if it were a provider. While all
accounts are paused, so is the provider (`fleek.engine.throttle`).
"""

from collections.abc import Mapping
from dataclasses import field

from fleek.domain.values import dataclass
from fleek.engine.any_account import AnyAccount
from fleek.engine.runtime import Runtime
from fleek.providers.base import Provider
from fleek.store.provider_health import ALL_MODELS


@dataclass(frozen=True, slots=True)
class Account:
    """One of a provider's accounts, open."""

    key: str  # what its health, budgets and metrics are kept under: unique among all providers
    name: str | None  # as written with attempts; None: the adapter knows no accounts
    provider: Provider = field(compare=False)


def accounts_of(rt: Runtime, name: str) -> tuple[Account, ...]:
    """Return the accounts of a configured provider, in the order of its keys; a single one has its name."""
    provider = rt.providers[name]
    opened: Mapping[str, Provider] = getattr(provider, "accounts", {})  # of `SupportsAccounts`
    if len(opened) < 2:
        return (Account(name, next(iter(opened), None), provider),)
    return tuple(
        Account(f"{name}#{account}", account, adapter) for account, adapter in opened.items()
    )


def account_of(rt: Runtime, name: str, account: str | None) -> Account:
    """Return the account of a configured provider that an attempt was made with.

    A single key stands for any: it may have replaced another one. Of several, an unknown one is searched
    for among all.
    """
    every = accounts_of(rt, name)
    if len(every) == 1:
        return every[0]
    known = next((each for each in every if each.name == account), None)
    if known is not None:
        return known
    return Account(name, account, AnyAccount([each.provider for each in every]))


def choose_account(rt: Runtime, name: str) -> Account | None:
    """Return the account for the next attempt: of those not paused, the least recently chosen one.

    None: all are paused. After a pause that needed its operator, an account gets one attempt at a time,
    until one has succeeded.
    """
    every = accounts_of(rt, name)
    if len(every) == 1:
        return every[0]
    now = rt.now()
    healths = {health.provider: health for health in rt.pauses.all() if health.model == ALL_MODELS}
    usable = {
        account.key: account
        for account in every
        if (health := healths.get(account.key)) is None
        or not (health.paused(now) or (health.on_trial(now) and rt.turns.is_tried(account.key)))
    }
    if not usable:
        return None
    chosen = usable[rt.turns.next(list(usable))]
    health = healths.get(chosen.key)
    if health is not None and health.on_trial(now):
        rt.turns.begin_trial(chosen.key)
    return chosen


def summarize_pauses(rt: Runtime) -> None:
    """Pause each provider, in this process, whose accounts are all paused."""
    for name in rt.providers:
        every = accounts_of(rt, name)
        if len(every) > 1:
            rt.pauses.summarize(name, [account.key for account in every])
