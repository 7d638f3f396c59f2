"""Finding a prediction whose creation was not confirmed, before another one is created."""

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


async def lose_response(provider: ReplicateProvider, job: Job, attempt: Attempt) -> None:
    """Start a prediction whose response is lost."""
    with pytest.raises(OutcomeUnknown):
        await provider.start(job, attempt)


def now() -> datetime:
    """Return the time."""
    return datetime.now(UTC)


def ids(found: Found) -> list[str]:
    """Return the ids of the candidates."""
    return [one.id for one in found.candidates]


def recorded(emulator: Emulator) -> list[str]:
    """Return the ids of the provider's predictions, oldest first."""
    return [one.id for one in emulator.account.predictions]


async def test_the_nonce_identifies_the_prediction(
    factory: Any, emulator: Emulator, job: Callable[..., Job], attempt: Callable[..., Attempt]
) -> None:
    """With callbacks, equal requests are distinguished."""
    provider = factory.open(callback_base=CALLBACKS)
    wanted = job("[[emu:create_then_drop*all]]")
    first, second = attempt(wanted), attempt(wanted)
    await lose_response(provider, wanted, first)
    await lose_response(provider, wanted, second)

    found = [await provider.find(wanted, one, now=now()) for one in (first, second)]

    assert [one.prediction and one.prediction.id for one in found] == recorded(emulator)
    assert [one.candidates for one in found] == [(), ()]


@pytest.mark.parametrize("model", ["a/b", f"a/b:{VERSION}", VERSION, "my/own:deployment"], ids=str)
async def test_without_callbacks_the_request_identifies_the_prediction(
    provider: ReplicateProvider,
    emulator: Emulator,
    job: Callable[..., Job],
    attempt: Callable[..., Attempt],
    model: str,
) -> None:
    """The same model with the same input; similar ones do not match."""
    wanted = job("[[emu:create_then_drop*all]]", model=model, seed=1)
    for other in (
        job("[[emu:create_then_drop*all]]", model=model, seed=2),
        job("[[emu:create_then_drop*all]]", model="x/y", seed=1),
        job("[[emu:create_then_drop*all]]", model=f"a/b:{VERSION[::-1]}", seed=1),
    ):
        await lose_response(provider, other, attempt(other))
    intent = attempt(wanted)
    await lose_response(provider, wanted, intent)

    found = await provider.find(wanted, intent, now=now())

    assert ids(found) == recorded(emulator)[-1:]
    assert found.prediction is None


async def test_duplicates_are_all_candidates_oldest_first(
    provider: ReplicateProvider,
    emulator: Emulator,
    job: Callable[..., Job],
    attempt: Callable[..., Attempt],
) -> None:
    """They are interchangeable; the engine knows which are bound."""
    wanted = job("[[emu:create_then_drop*all]]")
    intents = [attempt(wanted) for _ in range(3)]
    for intent in intents:
        await lose_response(provider, wanted, intent)

    found = await provider.find(wanted, intents[1], now=now())

    assert ids(found) == recorded(emulator)
    assert found.complete


async def test_a_prediction_with_another_nonce_is_not_a_candidate(
    factory: Any, job: Callable[..., Job], attempt: Callable[..., Attempt]
) -> None:
    """The nonce names the attempt that it belongs to."""
    wanted = job("[[emu:create_then_drop*all]]")
    await lose_response(factory.open(callback_base=CALLBACKS), wanted, attempt(wanted))

    found = await factory.open().find(wanted, attempt(wanted), now=now())

    assert found == Found(prediction=None, complete=True)


@pytest.mark.parametrize("age", [0, 50, 4000])
async def test_without_a_prediction_the_search_is_complete_and_empty(
    provider: ReplicateProvider,
    job: Callable[..., Job],
    attempt: Callable[..., Attempt],
    age: float,
) -> None:
    """After three of these the engine starts again."""
    wanted = job()

    found = await provider.find(wanted, attempt(wanted, age=age), now=now())

    assert found == Found(prediction=None, complete=True)


@pytest.mark.parametrize("age", [400, 200, -200], ids=["long before", "before", "after"])
async def test_only_the_time_of_the_creation_counts(
    provider: ReplicateProvider,
    job: Callable[..., Job],
    attempt: Callable[..., Attempt],
    age: float,
) -> None:
    """An earlier equal request belongs to another attempt, if both clocks agree."""
    wanted = job("[[emu:create_then_drop*all]]")
    await lose_response(provider, wanted, attempt(wanted))

    found = await provider.find(wanted, attempt(wanted, age=age, there=0), now=now())

    assert found == Found(prediction=None, complete=True)


@pytest.mark.parametrize("offset", [-600, 600])
async def test_the_providers_clock_may_be_wrong(
    factory: Any,
    emulator: Emulator,
    job: Callable[..., Job],
    attempt: Callable[..., Attempt],
    offset: float,
) -> None:
    """Its Date header is compared."""
    emulator.replan(clock_offset_seconds=offset)
    provider = factory.open()
    wanted = job("[[emu:create_then_drop*all]]")
    intent = attempt(wanted)
    await lose_response(provider, wanted, intent)

    found = await provider.find(wanted, intent, now=now())

    assert ids(found) == recorded(emulator)


async def test_the_local_clock_may_be_wrong(
    provider: ReplicateProvider,
    emulator: Emulator,
    job: Callable[..., Job],
    attempt: Callable[..., Attempt],
) -> None:
    """Only the elapsed time counts."""
    wanted = job("[[emu:create_then_drop*all]]")
    intent = attempt(wanted, age=3600)
    await lose_response(provider, wanted, intent)

    found = await provider.find(wanted, intent, now=now() - timedelta(hours=1))

    assert ids(found) == recorded(emulator)


@pytest.mark.usefixtures("_full_suite")
@pytest.mark.parametrize("known", [True, False], ids=["time known", "time not known"])
@pytest.mark.parametrize("wrong", [-86_400, -3600, -90, 90, 3600, 86_400])
async def test_a_prediction_is_found_with_any_local_clock(
    provider: ReplicateProvider,
    emulator: Emulator,
    job: Callable[..., Job],
    attempt: Callable[..., Attempt],
    wrong: float,
    *,
    known: bool,
) -> None:
    """After a restart the clock may be wrong by days; a missed prediction would be paid twice."""
    wanted = job("[[emu:create_then_drop*all]]")
    intent = attempt(wanted, there=0 if known else None)
    await lose_response(provider, wanted, intent)

    found = await provider.find(wanted, intent, now=now() + timedelta(seconds=wrong))

    assert ids(found) == recorded(emulator)


async def test_an_empty_search_of_several_hours_counts(
    provider: ReplicateProvider, job: Callable[..., Job], attempt: Callable[..., Attempt]
) -> None:
    """Even if clocks disagree, an attempt without a prediction must end."""
    wanted = job()
    intent = attempt(wanted, there=0)

    found = await provider.find(wanted, intent, now=now() + timedelta(hours=1))

    assert found == Found(prediction=None, complete=True)


async def test_a_date_header_that_contradicts_the_rows_is_ignored(
    provider: ReplicateProvider,
    emulator: Emulator,
    job: Callable[..., Job],
    attempt: Callable[..., Attempt],
) -> None:
    """Otherwise both times of the intent would be wrong in the same way."""
    wanted = job("[[emu:create_then_drop*all]]")
    emulator.replan(rates={"answer_date": 1})
    intent = attempt(wanted, there=3600)
    await lose_response(provider, wanted, intent)

    found = await provider.find(wanted, intent, now=now())

    assert ids(found) == recorded(emulator)


@pytest.mark.usefixtures("_full_suite")  # takes a second
async def test_a_prediction_is_found_behind_many_pages(
    provider: ReplicateProvider,
    emulator: Emulator,
    job: Callable[..., Job],
    attempt: Callable[..., Attempt],
) -> None:
    """600 predictions a minute fill a page in 10 seconds."""
    wanted = job("[[emu:create_then_drop*all]]")
    intent = attempt(wanted)
    await lose_response(provider, wanted, intent)
    others = [job("another") for _ in range(250)]
    await asyncio.gather(*(provider.start(one, attempt(one)) for one in others))

    found = await provider.find(wanted, intent, now=now())

    assert ids(found) == recorded(emulator)[:1]
    assert found.complete


async def test_concurrent_searches_share_their_pages(
    provider: ReplicateProvider,
    emulator: Emulator,
    job: Callable[..., Job],
    attempt: Callable[..., Attempt],
) -> None:
    """After a clock error, the same hours are read once for all searches."""
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


@pytest.mark.usefixtures("_full_suite")
async def test_searches_of_different_times_share_the_hours_around_them(
    provider: ReplicateProvider,
    emulator: Emulator,
    job: Callable[..., Job],
    attempt: Callable[..., Attempt],
) -> None:
    """Only the first ones read their own window, before one pass reads the hours for all."""
    for _ in range(110):
        await provider.start(other := job("another"), attempt(other))
    lost = [(wanted := job("lost"), attempt(wanted, there=3600 + age)) for age in range(60)]
    before = len(emulator.ledger.rows("request"))

    found = await asyncio.gather(
        *(provider.find(wanted, intent, now=now()) for wanted, intent in lost)
    )

    assert all(search.complete and not search.candidates for search in found)
    assert len(emulator.ledger.rows("request")) - before < len(lost)


async def test_searches_that_start_during_a_pass_share_the_next() -> None:
    """Two passes are enough for any number of them."""
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
    """None of them counts as complete; the next pass starts again."""

    async def read_page(_: Mapping[str, str]) -> Page:
        raise ProviderUnavailable("the list cannot be had")

    listed, window = PredictionList(read_page), Window(now(), now())
    scans = (listed.scan(window, lambda _: True) for _ in range(5))

    errors = await asyncio.gather(*scans, return_exceptions=True)

    assert [type(error) for error in errors] == [ProviderUnavailable] * 5


async def test_the_duplicate_of_the_likely_time_comes_first(
    provider: ReplicateProvider,
    emulator: Emulator,
    job: Callable[..., Job],
    attempt: Callable[..., Attempt],
) -> None:
    """Hours are searched if clocks disagree; a duplicate of another hour is less likely."""
    wanted = job("[[emu:create_then_drop*all]]")
    await lose_response(provider, wanted, attempt(wanted))  # a duplicate, two hours before
    emulator.account.clock.advance(7200)
    intent = attempt(wanted, there=7200)
    await lose_response(provider, wanted, intent)

    found = await provider.find(wanted, intent, now=now() - timedelta(hours=1))

    assert ids(found)[0] == recorded(emulator)[1]


@pytest.mark.usefixtures("_full_suite")
async def test_an_old_prediction_is_found_without_reading_newer_ones(
    provider: ReplicateProvider,
    emulator: Emulator,
    job: Callable[..., Job],
    attempt: Callable[..., Attempt],
) -> None:
    """The list is requested for the time of the creation only."""
    wanted = job("[[emu:create_then_drop*all]]")
    intent = attempt(wanted)
    await lose_response(provider, wanted, intent)
    emulator.account.clock.advance(1000)
    others = [job("another") for _ in range(250)]
    await asyncio.gather(*(provider.start(one, attempt(one)) for one in others))
    before = len(emulator.ledger.rows("request"))

    found = await provider.find(wanted, intent, now=now() + timedelta(seconds=1000))

    assert ids(found) == recorded(emulator)[:1]
    assert len(emulator.ledger.rows("request")) - before == 2


async def test_removed_data_prevent_another_start(
    provider: ReplicateProvider,
    emulator: Emulator,
    job: Callable[..., Job],
    attempt: Callable[..., Attempt],
) -> None:
    """A prediction existed, but its input is gone and cannot be compared."""
    wanted = job("[[emu:create_then_drop*all]]")
    intent = attempt(wanted)
    await lose_response(provider, wanted, intent)
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
    """It was created at another time by both clocks."""
    wanted = job()
    await provider.start(wanted, attempt(wanted))
    emulator.account.clock.advance(4000)

    found = await provider.find(
        wanted, attempt(wanted, there=4000), now=now() + timedelta(seconds=ours)
    )

    assert found == Found(prediction=None, complete=True)


async def test_the_nonce_identifies_a_prediction_without_data(
    factory: Any, emulator: Emulator, job: Callable[..., Job], attempt: Callable[..., Attempt]
) -> None:
    """The prediction is known, even if its output is lost."""
    provider = factory.open(callback_base=CALLBACKS)
    wanted = job("[[emu:create_then_drop*all]]")
    intent = attempt(wanted)
    await lose_response(provider, wanted, intent)
    emulator.account.clock.advance(4000)

    found = await provider.find(wanted, intent, now=now() + timedelta(seconds=4000))

    assert found.prediction is not None
    assert not found.wiped


@pytest.mark.parametrize("fault", ["list_5xx", "list_429", "list_reset"])
async def test_a_failed_search_does_not_count(
    provider: ReplicateProvider,
    emulator: Emulator,
    job: Callable[..., Job],
    attempt: Callable[..., Attempt],
    fault: str,
) -> None:
    """It is not one of the three empty searches."""
    emulator.replan(rates={fault: 1})
    wanted = job()

    with pytest.raises(ProviderUnavailable):
        await provider.find(wanted, attempt(wanted), now=now())


async def test_a_cyclic_list_is_not_complete(
    provider: ReplicateProvider,
    emulator: Emulator,
    job: Callable[..., Job],
    attempt: Callable[..., Attempt],
) -> None:
    """It would be read forever, or counted as complete."""
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
async def test_an_unreadable_row_makes_the_search_incomplete(
    factory: Any,
    raw: Any,
    job: Callable[..., Job],
    attempt: Callable[..., Attempt],
    row: dict[str, Any],
) -> None:
    """It could be the prediction."""
    answer = {"next": None, "results": [{"created_at": now().isoformat(), **row}]}
    provider = factory.open(await raw(_answering(answer, dated=True)))
    wanted = job()

    found = await provider.find(wanted, attempt(wanted), now=now())

    assert not found.complete


@pytest.mark.parametrize(
    "body", [{}, {"results": 7}, {"results": ["x"]}, {"results": [], "next": "https://[x"}]
)
async def test_an_invalid_list_is_an_error(
    factory: Any,
    raw: Any,
    job: Callable[..., Job],
    attempt: Callable[..., Attempt],
    body: dict[str, Any],
) -> None:
    """An empty list would mean that no prediction was created."""
    provider = factory.open(await raw(_answering(body, dated=True)))
    wanted = job()

    with pytest.raises(ProviderUnavailable):
        await provider.find(wanted, attempt(wanted), now=now())


async def test_a_search_without_the_providers_time_is_incomplete(
    factory: Any, raw: Any, job: Callable[..., Job], attempt: Callable[..., Attempt]
) -> None:
    """The rows of the right time are unknown."""
    provider = factory.open(await raw(_answering({"next": None, "results": []}, dated=False)))
    wanted = job()

    found = await provider.find(wanted, attempt(wanted), now=now())

    assert not found.complete


async def test_success_without_an_output_is_not_final(
    factory: Any, raw: Any, job: Callable[..., Job], attempt: Callable[..., Attempt]
) -> None:
    """A list may omit the output; the job would end without its files."""
    row = {
        "id": "abc",
        "model": "a/b",
        "status": "succeeded",
        "input": {"prompt": "a cat"},
        "created_at": now().isoformat(),
    }
    provider = factory.open(await raw(_answering({"results": [row]}, dated=True)))
    wanted = job()

    found = await provider.find(wanted, attempt(wanted), now=now())

    assert [one.outcome for one in found.candidates] == [None]


async def test_the_next_page_is_read_from_the_configured_address_only(
    factory: Any, raw: Any, job: Callable[..., Job], attempt: Callable[..., Attempt]
) -> None:
    """The token must not be sent to another host."""
    received: list[bytes] = []

    async def steal(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.append(await reader.read(100))
        writer.close()

    thief = await raw(steal)
    answer = {"next": f"{thief}/predictions?cursor=x", "results": []}
    provider = factory.open(await raw(_answering(answer, dated=True)))
    wanted = job()

    with pytest.raises(ProviderUnavailable):  # the same page again and again
        await provider.find(wanted, attempt(wanted, age=100), now=now())

    assert received == []


async def test_an_invalid_name_has_no_prediction(
    provider: ReplicateProvider, job: Callable[..., Job], attempt: Callable[..., Attempt]
) -> None:
    """`start` refuses it before anything is sent."""
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
