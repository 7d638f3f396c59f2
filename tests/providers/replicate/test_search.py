"""Looking for a purchase whose answer got lost: the look decides whether it is bought again."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from json import dumps
from typing import Any

import pytest

from fleek.domain.attempt import Attempt
from fleek.domain.errors import OutcomeUnknown, ProviderUnavailable
from fleek.domain.job import Job
from fleek.emulator.server import Emulator
from fleek.providers.base import Found
from fleek.providers.replicate.provider import ReplicateProvider
from fleek.providers.replicate.search import NoteRows, Page, PredictionList, Window

CALLBACKS = "https://fleek.example/webhooks/replicate"
VERSION = "0123456789abcdef" * 4


async def lose(provider: ReplicateProvider, job: Job, attempt: Attempt) -> None:
    """Buy, and hear nothing of it."""
    with pytest.raises(OutcomeUnknown):
        await provider.start(job, attempt)


def now() -> datetime:
    """Return the time."""
    return datetime.now(UTC)


def ids(found: Found) -> list[str]:
    """Return the candidates."""
    return [one.id for one in found.candidates]


def sold(emulator: Emulator) -> list[str]:
    """Return what the ledger has, oldest first."""
    return [one.id for one in emulator.account.predictions]


async def test_the_nonce_decides(
    shop: Any, emulator: Emulator, job: Callable[..., Job], attempt: Callable[..., Attempt]
) -> None:
    """Twins are told apart where callbacks are on."""
    provider = shop.open(callback_base=CALLBACKS)
    wanted = job("[[emu:create_then_drop*all]]")
    first, second = attempt(wanted), attempt(wanted)
    await lose(provider, wanted, first)
    await lose(provider, wanted, second)

    found = [await provider.find(wanted, one, now=now()) for one in (first, second)]

    assert [one.prediction and one.prediction.id for one in found] == sold(emulator)
    assert [one.candidates for one in found] == [(), ()]


@pytest.mark.parametrize("model", ["a/b", f"a/b:{VERSION}", VERSION, "my/own:deployment"], ids=str)
async def test_without_callbacks_the_request_decides(
    provider: ReplicateProvider,
    emulator: Emulator,
    job: Callable[..., Job],
    attempt: Callable[..., Attempt],
    model: str,
) -> None:
    """The same model with the same input, and nothing else that is like it."""
    wanted = job("[[emu:create_then_drop*all]]", model=model, seed=1)
    for other in (
        job("[[emu:create_then_drop*all]]", model=model, seed=2),
        job("[[emu:create_then_drop*all]]", model="x/y", seed=1),
        job("[[emu:create_then_drop*all]]", model=f"a/b:{VERSION[::-1]}", seed=1),
    ):
        await lose(provider, other, attempt(other))
    intent = attempt(wanted)
    await lose(provider, wanted, intent)

    found = await provider.find(wanted, intent, now=now())

    assert ids(found) == sold(emulator)[-1:]
    assert found.prediction is None


async def test_twins_are_all_candidates_oldest_first(
    provider: ReplicateProvider,
    emulator: Emulator,
    job: Callable[..., Job],
    attempt: Callable[..., Attempt],
) -> None:
    """They are interchangeable; the engine knows which are bound."""
    wanted = job("[[emu:create_then_drop*all]]")
    intents = [attempt(wanted) for _ in range(3)]
    for intent in intents:
        await lose(provider, wanted, intent)

    found = await provider.find(wanted, intents[1], now=now())

    assert ids(found) == sold(emulator)
    assert found.complete


async def test_what_others_get_callbacks_for_is_no_candidate(
    shop: Any, job: Callable[..., Job], attempt: Callable[..., Attempt]
) -> None:
    """It carries another attempt's nonce, so it is known whose it is."""
    wanted = job("[[emu:create_then_drop*all]]")
    await lose(shop.open(callback_base=CALLBACKS), wanted, attempt(wanted))

    found = await shop.open().find(wanted, attempt(wanted), now=now())

    assert found == Found(prediction=None, complete=True)


@pytest.mark.parametrize("age", [0, 50, 4000])
async def test_nothing_bought_is_a_complete_look_that_found_nothing(
    provider: ReplicateProvider,
    job: Callable[..., Job],
    attempt: Callable[..., Attempt],
    age: float,
) -> None:
    """Three of these let the engine buy again."""
    wanted = job()

    found = await provider.find(wanted, attempt(wanted, age=age), now=now())

    assert found == Found(prediction=None, complete=True)


@pytest.mark.parametrize("age", [400, 200, -200], ids=["long before", "before", "after"])
async def test_only_the_time_of_the_purchase_counts(
    provider: ReplicateProvider,
    job: Callable[..., Job],
    attempt: Callable[..., Attempt],
    age: float,
) -> None:
    """The same request of a while ago has its own attempt, if two clocks agree that it is one."""
    wanted = job("[[emu:create_then_drop*all]]")
    await lose(provider, wanted, attempt(wanted))

    found = await provider.find(wanted, attempt(wanted, age=age, there=0), now=now())

    assert found == Found(prediction=None, complete=True)


@pytest.mark.parametrize("offset", [-600, 600])
async def test_the_providers_clock_may_be_wrong(
    shop: Any,
    emulator: Emulator,
    job: Callable[..., Job],
    attempt: Callable[..., Attempt],
    offset: float,
) -> None:
    """Its own Date says what time it is there."""
    emulator.replan(clock_offset_seconds=offset)
    provider = shop.open()
    wanted = job("[[emu:create_then_drop*all]]")
    intent = attempt(wanted)
    await lose(provider, wanted, intent)

    found = await provider.find(wanted, intent, now=now())

    assert ids(found) == sold(emulator)


async def test_our_own_clock_may_be_wrong(
    provider: ReplicateProvider,
    emulator: Emulator,
    job: Callable[..., Job],
    attempt: Callable[..., Attempt],
) -> None:
    """Only the time that has passed by it counts."""
    wanted = job("[[emu:create_then_drop*all]]")
    intent = attempt(wanted, age=3600)
    await lose(provider, wanted, intent)

    found = await provider.find(wanted, intent, now=now() - timedelta(hours=1))

    assert ids(found) == sold(emulator)


@pytest.mark.usefixtures("_full_suite")
@pytest.mark.parametrize("known", [True, False], ids=["time known", "time not known"])
@pytest.mark.parametrize("wrong", [-86_400, -3600, -90, 90, 3600, 86_400])
async def test_a_purchase_is_found_however_wrong_our_clock_is(
    provider: ReplicateProvider,
    emulator: Emulator,
    job: Callable[..., Job],
    attempt: Callable[..., Attempt],
    wrong: float,
    *,
    known: bool,
) -> None:
    """A machine that was started anew may take days for seconds; to miss it is to pay twice."""
    wanted = job("[[emu:create_then_drop*all]]")
    intent = attempt(wanted, there=0 if known else None)
    await lose(provider, wanted, intent)

    found = await provider.find(wanted, intent, now=now() + timedelta(seconds=wrong))

    assert ids(found) == sold(emulator)


async def test_an_empty_look_counts_if_hours_hold_nothing(
    provider: ReplicateProvider, job: Callable[..., Job], attempt: Callable[..., Attempt]
) -> None:
    """However clocks disagree: what was not bought has to end, too."""
    wanted = job()
    intent = attempt(wanted, there=0)

    found = await provider.find(wanted, intent, now=now() + timedelta(hours=1))

    assert found == Found(prediction=None, complete=True)


async def test_dates_that_do_not_fit_the_rows_are_not_believed(
    provider: ReplicateProvider,
    emulator: Emulator,
    job: Callable[..., Job],
    attempt: Callable[..., Attempt],
) -> None:
    """Then both times of the intent are wrong alike, and agree."""
    wanted = job("[[emu:create_then_drop*all]]")
    emulator.replan(rates={"answer_date": 1})
    intent = attempt(wanted, there=3600)
    await lose(provider, wanted, intent)

    found = await provider.find(wanted, intent, now=now())

    assert ids(found) == sold(emulator)


async def test_it_is_found_behind_many_pages(
    provider: ReplicateProvider,
    emulator: Emulator,
    job: Callable[..., Job],
    attempt: Callable[..., Attempt],
) -> None:
    """600 predictions a minute fill a page in 10 seconds."""
    wanted = job("[[emu:create_then_drop*all]]")
    intent = attempt(wanted)
    await lose(provider, wanted, intent)
    others = [job("another") for _ in range(250)]
    await asyncio.gather(*(provider.start(one, attempt(one)) for one in others))

    found = await provider.find(wanted, intent, now=now())

    assert ids(found) == sold(emulator)[:1]
    assert found.complete


async def test_many_that_are_looked_for_at_once_share_the_pages(
    provider: ReplicateProvider,
    emulator: Emulator,
    job: Callable[..., Job],
    attempt: Callable[..., Attempt],
) -> None:
    """After a clock went wrong, the same hours are read for all of them: once, not for each."""
    lost = [(wanted := job("lost"), attempt(wanted, there=3600)) for _ in range(20)]
    await provider.start(other := job("another"), attempt(other))

    async def look(count: int) -> int:
        before = len(emulator.ledger.rows("request"))
        found = await asyncio.gather(
            *(provider.find(wanted, intent, now=now()) for wanted, intent in lost[:count])
        )
        assert all(one.complete and not one.candidates for one in found)
        return len(emulator.ledger.rows("request")) - before

    alone = await look(1)

    assert alone > 1
    assert await look(20) <= 2 * alone


async def test_searches_of_different_times_share_the_hours_around_them(
    provider: ReplicateProvider,
    emulator: Emulator,
    job: Callable[..., Job],
    attempt: Callable[..., Attempt],
) -> None:
    """Only the first of them read a window of their own, before one reads the hours for all."""
    for _ in range(110):
        await provider.start(other := job("another"), attempt(other))
    lost = [(wanted := job("lost"), attempt(wanted, there=3600 + age)) for age in range(60)]
    before = len(emulator.ledger.rows("request"))

    found = await asyncio.gather(
        *(provider.find(wanted, intent, now=now()) for wanted, intent in lost)
    )

    assert all(search.complete and not search.candidates for search in found)
    assert len(emulator.ledger.rows("request")) - before < len(lost)


async def test_searches_that_come_during_a_pass_share_the_next() -> None:
    """Two passes for all of them, however many they are and whenever they came."""
    requests: list[Mapping[str, str]] = []
    under_way, go_on = asyncio.Event(), asyncio.Event()

    async def read_page(query: Mapping[str, str]) -> Page:
        requests.append(query)
        under_way.set()
        await go_on.wait()
        cursor = int(query.get("cursor", "0"))
        return Page(
            ({"id": str(cursor)},), {"cursor": str(cursor + 1)} if cursor < 2 else None, now()
        )

    seen: list[list[str]] = [[] for _ in range(50)]

    def note(search: int) -> NoteRows:
        def note_rows(rows: Sequence[tuple[Mapping[str, Any], datetime | None]]) -> bool:
            seen[search].extend(row["id"] for row, _ in rows)
            return False

        return note_rows

    listed, window = PredictionList(read_page), Window(now(), now())
    first = asyncio.create_task(listed.scan(window, note(0)))
    await under_way.wait()
    others = [asyncio.create_task(listed.scan(window, note(search))) for search in range(1, 50)]
    go_on.set()

    assert all(await asyncio.gather(first, *others))
    assert seen == [["0", "1", "2"]] * 50
    assert len(requests) == 6


async def test_an_error_of_a_pass_reaches_all_its_searches() -> None:
    """None of them has seen anything; the next one begins anew."""

    async def read_page(_: Mapping[str, str]) -> Page:
        raise ProviderUnavailable("the list cannot be had")

    listed, window = PredictionList(read_page), Window(now(), now())
    scans = (listed.scan(window, lambda _: True) for _ in range(5))

    errors = await asyncio.gather(*scans, return_exceptions=True)

    assert [type(error) for error in errors] == [ProviderUnavailable] * 5


async def test_among_equal_ones_that_of_the_likely_time_comes_first(
    provider: ReplicateProvider,
    emulator: Emulator,
    job: Callable[..., Job],
    attempt: Callable[..., Attempt],
) -> None:
    """Hours are looked through if clocks disagree; an equal one of another hour is likely not it."""
    wanted = job("[[emu:create_then_drop*all]]")
    await lose(provider, wanted, attempt(wanted))  # an equal one, two hours before
    emulator.account.clock.advance(7200)
    intent = attempt(wanted, there=7200)
    await lose(provider, wanted, intent)

    found = await provider.find(wanted, intent, now=now() - timedelta(hours=1))

    assert ids(found)[0] == sold(emulator)[1]


@pytest.mark.usefixtures("_full_suite")
async def test_an_old_purchase_is_found_without_reading_all_that_came_after(
    provider: ReplicateProvider,
    emulator: Emulator,
    job: Callable[..., Job],
    attempt: Callable[..., Attempt],
) -> None:
    """The list is asked for the time of the purchase only."""
    wanted = job("[[emu:create_then_drop*all]]")
    intent = attempt(wanted)
    await lose(provider, wanted, intent)
    emulator.account.clock.advance(1000)
    others = [job("another") for _ in range(250)]
    await asyncio.gather(*(provider.start(one, attempt(one)) for one in others))
    before = len(emulator.ledger.rows("request"))

    found = await provider.find(wanted, intent, now=now() + timedelta(seconds=1000))

    assert ids(found) == sold(emulator)[:1]
    assert len(emulator.ledger.rows("request")) - before == 2


async def test_removed_data_forbid_to_buy_again(
    provider: ReplicateProvider,
    emulator: Emulator,
    job: Callable[..., Job],
    attempt: Callable[..., Attempt],
) -> None:
    """There was one, and its input is not there any more to tell whose."""
    wanted = job("[[emu:create_then_drop*all]]")
    intent = attempt(wanted)
    await lose(provider, wanted, intent)
    emulator.account.clock.advance(4000)

    found = await provider.find(wanted, intent, now=now() + timedelta(seconds=4000))

    assert found == Found(prediction=None, complete=True, wiped=True)


@pytest.mark.parametrize("ours", [-3600, 3600, 86_400])
async def test_removed_data_of_another_time_do_not_matter(
    provider: ReplicateProvider,
    emulator: Emulator,
    job: Callable[..., Job],
    attempt: Callable[..., Attempt],
    ours: float,
) -> None:
    """Neither by the provider's clock nor by ours, which is wrong, was it made at that time."""
    wanted = job()
    await provider.start(wanted, attempt(wanted))
    emulator.account.clock.advance(4000)

    found = await provider.find(
        wanted, attempt(wanted, there=4000), now=now() + timedelta(seconds=ours)
    )

    assert found == Found(prediction=None, complete=True)


async def test_the_nonce_outlives_the_data(
    shop: Any, emulator: Emulator, job: Callable[..., Job], attempt: Callable[..., Attempt]
) -> None:
    """What was bought is known, even if its output is lost."""
    provider = shop.open(callback_base=CALLBACKS)
    wanted = job("[[emu:create_then_drop*all]]")
    intent = attempt(wanted)
    await lose(provider, wanted, intent)
    emulator.account.clock.advance(4000)

    found = await provider.find(wanted, intent, now=now() + timedelta(seconds=4000))

    assert found.prediction is not None
    assert not found.wiped


@pytest.mark.parametrize("fault", ["list_5xx", "list_429", "list_reset"])
async def test_a_look_that_fails_has_seen_nothing(
    provider: ReplicateProvider,
    emulator: Emulator,
    job: Callable[..., Job],
    attempt: Callable[..., Attempt],
    fault: str,
) -> None:
    """It must not count as one of the three."""
    emulator.replan(rates={fault: 1})
    wanted = job()

    with pytest.raises(ProviderUnavailable):
        await provider.find(wanted, attempt(wanted), now=now())


async def test_a_list_in_a_circle_is_not_complete(
    provider: ReplicateProvider,
    emulator: Emulator,
    job: Callable[..., Job],
    attempt: Callable[..., Attempt],
) -> None:
    """It would be read for ever, or taken for all there is."""
    wanted = job()
    intent = attempt(wanted)
    others = [job("another") for _ in range(150)]
    await asyncio.gather(*(provider.start(one, attempt(one)) for one in others))
    emulator.replan(rates={"list_repeat": 1})

    with pytest.raises(ProviderUnavailable):
        await provider.find(wanted, intent, now=now())


@pytest.mark.parametrize(
    "row",
    [
        {"id": "../x", "model": "a/b", "input": {"prompt": "a cat"}},
        {"id": "abc", "model": "a/b", "input": {"prompt": "a cat"}, "created_at": None},
    ],
    ids=["strange id", "no time"],
)
async def test_a_row_that_cannot_be_read_makes_the_look_incomplete(
    shop: Any,
    raw: Any,
    job: Callable[..., Job],
    attempt: Callable[..., Attempt],
    row: dict[str, Any],
) -> None:
    """It might be the one."""
    answer = {"next": None, "results": [{"created_at": now().isoformat(), **row}]}
    provider = shop.open(await raw(_answering(answer, dated=True)))
    wanted = job()

    found = await provider.find(wanted, attempt(wanted), now=now())

    assert not found.complete


@pytest.mark.parametrize(
    "body", [{}, {"results": 7}, {"results": ["x"]}, {"results": [], "next": "https://[x"}]
)
async def test_a_list_that_makes_no_sense_has_shown_nothing(
    shop: Any,
    raw: Any,
    job: Callable[..., Job],
    attempt: Callable[..., Attempt],
    body: dict[str, Any],
) -> None:
    """An empty list would mean that nothing was bought."""
    provider = shop.open(await raw(_answering(body, dated=True)))
    wanted = job()

    with pytest.raises(ProviderUnavailable):
        await provider.find(wanted, attempt(wanted), now=now())


async def test_a_look_without_the_providers_time_is_incomplete(
    shop: Any, raw: Any, job: Callable[..., Job], attempt: Callable[..., Attempt]
) -> None:
    """Nobody knows then which rows are of that time."""
    provider = shop.open(await raw(_answering({"next": None, "results": []}, dated=False)))
    wanted = job()

    found = await provider.find(wanted, attempt(wanted), now=now())

    assert not found.complete


async def test_success_without_the_output_is_not_yet_an_end(
    shop: Any, raw: Any, job: Callable[..., Job], attempt: Callable[..., Attempt]
) -> None:
    """A list may leave the output out; the job would end without its files."""
    row = {
        "id": "abc",
        "model": "a/b",
        "status": "succeeded",
        "input": {"prompt": "a cat"},
        "created_at": now().isoformat(),
    }
    provider = shop.open(await raw(_answering({"results": [row]}, dated=True)))
    wanted = job()

    found = await provider.find(wanted, attempt(wanted), now=now())

    assert [one.outcome for one in found.candidates] == [None]


async def test_the_next_page_is_asked_for_at_our_own_address_only(
    shop: Any, raw: Any, job: Callable[..., Job], attempt: Callable[..., Attempt]
) -> None:
    """The token must not follow a link to somebody else."""
    heard: list[bytes] = []

    async def steal(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(100))
        writer.close()

    thief = await raw(steal)
    answer = {"next": f"{thief}/predictions?cursor=x", "results": []}
    provider = shop.open(await raw(_answering(answer, dated=True)))
    wanted = job()

    with pytest.raises(ProviderUnavailable):  # the same page again and again
        await provider.find(wanted, attempt(wanted, age=100), now=now())

    assert heard == []


async def test_a_name_that_cannot_be_sold_was_not_sold(
    provider: ReplicateProvider, job: Callable[..., Job], attempt: Callable[..., Attempt]
) -> None:
    """`start` refuses it before it sends anything."""
    wanted = job(model="nonsense")

    found = await provider.find(wanted, attempt(wanted), now=now())

    assert found == Found(prediction=None, complete=True)


def _answering(body: dict[str, Any], *, dated: bool) -> Any:
    content = dumps(body).encode()
    date = f"date: {format_datetime(now(), usegmt=True)}\r\n" if dated else ""
    head = f"HTTP/1.1 200 OK\r\n{date}content-length: {len(content)}\r\n\r\n"

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readline():
            await reader.readuntil(b"\r\n\r\n")
            writer.write(head.encode() + content)

    return answer
