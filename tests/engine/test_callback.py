"""Callbacks: they cause a poll, and they find predictions whose outcome is unknown."""

from collections.abc import Mapping

import pytest
from uuid_utils.compat import uuid4

from fakes import BADLY, WELL, FakeProvider, a_request
from fleek.domain.attempt import Attempt, Verdict
from fleek.domain.errors import (
    CallbackRejected,
    NotFound,
    OutcomeUnknown,
    ProviderUnavailable,
    TooLarge,
)
from fleek.domain.job import JobId, PredictionId, Stage, Status
from fleek.engine.callback import receive
from fleek.engine.cancel import cancel
from fleek.engine.conclude import conclude
from fleek.engine.runtime import Runtime
from fleek.engine.start import bind, start
from fleek.engine.submit import submit
from fleek.providers.base import Callback, Failed, Prediction
from fleek.store import attempts, events, jobs


class ScriptedCallback:
    """The content of the provider's next callback; replaces its `callback`."""

    def __init__(
        self,
        prediction: Prediction,
        *,
        final: bool = False,
        begun: bool = False,
        address: str | None = None,
    ) -> None:
        self.message = Callback(
            webhook_id="msg_1", prediction=prediction, final=final, begun=begun, address=address
        )

    async def __call__(self, _: Mapping[str, str], body: bytes) -> Callback:
        """Accept signed bodies only."""
        if body != b"signed":
            raise CallbackRejected("the signature is wrong")
        return self.message


async def signed() -> bytes:
    """Return a body that the provider signed."""
    return b"signed"


async def call(rt: Runtime, attempt: Attempt, *, token: str | None = None) -> None:
    """Send the provider's callback about an attempt."""
    chosen = token or f"{attempt.id}.{attempt.nonce}"
    await receive(rt, "placeholder", chosen, headers={}, read=signed)


async def the_attempt(rt: Runtime, job_id: JobId) -> Attempt:
    """Return a job's only attempt."""
    (attempt,) = await attempts.of_job(rt.db, job_id)
    return attempt


async def test_a_callback_triggers_a_poll(
    rt: Runtime, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state in the callback does not count: it is read from the provider."""
    job = await submit(rt, a_request())
    await start(rt, job.id)
    attempt = await the_attempt(rt, job.id)
    assert attempt.prediction_id is not None
    lie = Prediction(id=attempt.prediction_id, outcome=BADLY)
    monkeypatch.setattr(provider, "callback", ScriptedCallback(lie))

    await call(rt, attempt)

    assert (await jobs.get_any_tenant(rt.db, job.id)).stage is Stage.COLLECTING


async def test_a_repeated_callback_changes_nothing(
    rt: Runtime, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Providers repeat their requests."""
    job = await submit(rt, a_request())
    await start(rt, job.id)
    attempt = await the_attempt(rt, job.id)
    assert attempt.prediction_id is not None
    monkeypatch.setattr(
        provider, "callback", ScriptedCallback(Prediction(id=attempt.prediction_id))
    )
    await call(rt, attempt)
    before = await events.of_job(rt.db, job.id)

    for _ in range(3):
        await call(rt, attempt)

    assert await events.of_job(rt.db, job.id) == before


async def test_a_callback_adopts_a_lost_prediction(
    rt: Runtime, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The nonce proves which attempt the prediction belongs to."""
    provider.starts = [OutcomeUnknown("reset")]
    job = await submit(rt, a_request())
    await start(rt, job.id)
    attempt = await the_attempt(rt, job.id)
    lost = PredictionId("lost")
    provider.created[lost] = attempt
    monkeypatch.setattr(provider, "callback", ScriptedCallback(Prediction(id=lost)))

    await call(rt, attempt)

    found = await jobs.get_any_tenant(rt.db, job.id)
    assert (found.stage, found.prediction_id) == (Stage.COLLECTING, lost)
    assert rt.metrics.adopted.labels("callback")._value.get() == 1


async def too_large() -> bytes:
    """Refuse a body for its size."""
    raise TooLarge("too many bytes")


async def test_an_oversized_callback_triggers_a_poll(rt: Runtime, provider: FakeProvider) -> None:
    """The result is not lost, and the provider receives an error."""
    provider.outcome = None
    job = await submit(rt, a_request())
    await start(rt, job.id)
    attempt = await the_attempt(rt, job.id)
    provider.outcome = WELL

    with pytest.raises(TooLarge):
        await receive(
            rt, "placeholder", f"{attempt.id}.{attempt.nonce}", headers={}, read=too_large
        )

    assert (await jobs.get_any_tenant(rt.db, job.id)).stage is Stage.COLLECTING


async def test_an_oversized_final_result_ends_its_attempt(
    rt: Runtime, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second prediction would be paid for and would be just as large."""
    provider.outcome = None
    job = await submit(rt, a_request())
    await start(rt, job.id)
    attempt = await the_attempt(rt, job.id)
    end = Failed("output_too_large", "too many bytes", retryable=False)
    reported = Prediction(id=PredictionId(str(attempt.prediction_id)), outcome=end)
    monkeypatch.setattr(provider, "overlong", lambda _: reported, raising=False)

    with pytest.raises(TooLarge):
        await receive(
            rt, "placeholder", f"{attempt.id}.{attempt.nonce}", headers={}, read=too_large
        )

    ended = await jobs.get_any_tenant(rt.db, job.id)
    assert ended.error is not None
    assert (ended.status, ended.error.code) == (Status.FAILED, "output_too_large")


async def test_a_final_callback_counts_without_a_poll(
    rt: Runtime, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some providers delete a prediction when it has ended."""
    provider.poll_error = ProviderUnavailable("never heard of it")
    job = await submit(rt, a_request())
    await start(rt, job.id)
    attempt = await the_attempt(rt, job.id)
    assert attempt.prediction_id is not None
    reported = Prediction(id=attempt.prediction_id, outcome=WELL)
    monkeypatch.setattr(provider, "callback", ScriptedCallback(reported, final=True))

    await call(rt, attempt)

    assert (await jobs.get_any_tenant(rt.db, job.id)).stage is Stage.COLLECTING


async def test_a_prediction_of_a_closed_attempt_is_cancelled_on_callback(
    rt: Runtime, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is an orphan, and is counted."""
    provider.starts = [ProviderUnavailable("refused")]
    job = await submit(rt, a_request())
    await start(rt, job.id)
    attempt = await the_attempt(rt, job.id)
    assert attempt.verdict is Verdict.NOT_CREATED
    monkeypatch.setattr(
        provider, "callback", ScriptedCallback(Prediction(id=PredictionId("late")))
    )

    await call(rt, attempt)
    await rt.cancels.tasks.finish(seconds=60)

    assert provider.cancelled == ["late"]
    assert rt.metrics.orphans._value.get() == 1


async def test_a_callback_about_another_prediction_is_ignored(
    rt: Runtime, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is signed, but not about this attempt."""
    job = await submit(rt, a_request())
    await start(rt, job.id)
    attempt = await the_attempt(rt, job.id)
    monkeypatch.setattr(
        provider, "callback", ScriptedCallback(Prediction(id=PredictionId("other")))
    )

    await call(rt, attempt)

    assert (await jobs.get_any_tenant(rt.db, job.id)).stage is Stage.WAITING


async def test_a_callback_signed_for_another_address_adopts_nothing(
    rt: Runtime, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Delivered to the wrong attempt, it must not bind the prediction of another one."""
    provider.starts = [OutcomeUnknown("reset")]
    job = await submit(rt, a_request())
    await start(rt, job.id)
    attempt = await the_attempt(rt, job.id)
    other = ScriptedCallback(
        Prediction(id=PredictionId("other")), address="http://here/another.token"
    )
    monkeypatch.setattr(provider, "callback", other)

    await call(rt, attempt)

    assert (await the_attempt(rt, job.id)).prediction_id is None
    assert (await jobs.get_any_tenant(rt.db, job.id)).stage is Stage.UNKNOWN
    assert provider.cancelled == []


async def test_the_end_of_another_prediction_does_not_end_the_attempt(rt: Runtime) -> None:
    """The attempt may have been bound to another prediction since the poll."""
    job = await submit(rt, a_request())
    await start(rt, job.id)
    attempt = await the_attempt(rt, job.id)

    await conclude(rt, attempt, Prediction(id=PredictionId("other"), outcome=WELL))

    assert (await jobs.get_any_tenant(rt.db, job.id)).stage is Stage.WAITING
    assert (await the_attempt(rt, job.id)).verdict is None


async def test_a_prediction_bound_to_another_attempt_is_no_orphan(
    rt: Runtime, provider: FakeProvider
) -> None:
    """Cancelling it would cost the other job its result."""
    mine, theirs = [await submit(rt, a_request()) for _ in range(2)]
    for one in (mine, theirs):
        await start(rt, one.id)
    taken = (await the_attempt(rt, theirs.id)).prediction_id
    assert taken is not None

    await bind(rt, await the_attempt(rt, mine.id), Prediction(id=taken))

    assert provider.cancelled == []
    assert rt.metrics.orphans._value.get() == 0


async def test_a_callback_after_the_end_changes_nothing(
    rt: Runtime, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Terminal states are final."""
    job = await submit(rt, a_request())
    await start(rt, job.id)
    attempt = await the_attempt(rt, job.id)
    assert attempt.prediction_id is not None
    await cancel(rt, job.id, tenant_id="default")
    monkeypatch.setattr(
        provider, "callback", ScriptedCallback(Prediction(id=attempt.prediction_id))
    )

    await call(rt, attempt)

    assert (await jobs.get_any_tenant(rt.db, job.id)).status is Status.CANCELLED


@pytest.mark.parametrize(
    "token", ["", "x", "x.y", "{id}", "{id}.", "{id}.{wrong}", "{other}.{nonce}"]
)
async def test_a_wrong_token_is_not_found_and_its_body_is_not_read(
    rt: Runtime, token: str
) -> None:
    """Attempts cannot be probed, and no large body is read for an unknown caller."""
    job = await submit(rt, a_request())
    await start(rt, job.id)
    attempt = await the_attempt(rt, job.id)
    filled = token.format(id=attempt.id, nonce=attempt.nonce, wrong="0" * 32, other=uuid4())

    async def never() -> bytes:
        raise AssertionError

    with pytest.raises(NotFound):
        await receive(rt, "placeholder", filled, headers={}, read=never)


async def test_a_token_of_another_provider_is_not_found(rt: Runtime) -> None:
    """Each provider signs with its own secret."""
    job = await submit(rt, a_request())
    await start(rt, job.id)
    attempt = await the_attempt(rt, job.id)

    token = f"{attempt.id}.{attempt.nonce}"
    for name in ("fake", "nobody"):
        with pytest.raises(NotFound):
            await receive(rt, name, token, headers={}, read=signed)


async def test_a_forged_callback_changes_nothing(
    rt: Runtime, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A valid token without a valid signature is not enough."""
    job = await submit(rt, a_request())
    await start(rt, job.id)
    attempt = await the_attempt(rt, job.id)
    monkeypatch.setattr(provider, "callback", ScriptedCallback(Prediction(id=PredictionId("x"))))

    async def forged() -> bytes:
        return b"forged"

    token = f"{attempt.id}.{attempt.nonce}"
    with pytest.raises(CallbackRejected):
        await receive(rt, "placeholder", token, headers={}, read=forged)

    assert (await jobs.get_any_tenant(rt.db, job.id)).stage is Stage.WAITING


async def test_a_callback_about_the_begin_is_no_reason_to_poll(
    rt: Runtime, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another one reports the end; this one is for starts whose answer was lost."""
    job = await submit(rt, a_request())
    await start(rt, job.id)
    attempt = await the_attempt(rt, job.id)
    assert attempt.prediction_id is not None
    reported = ScriptedCallback(Prediction(id=attempt.prediction_id), begun=True)
    monkeypatch.setattr(provider, "callback", reported)

    await call(rt, attempt)

    assert provider.polled == []
    assert (await jobs.get_any_tenant(rt.db, job.id)).stage is Stage.WAITING
