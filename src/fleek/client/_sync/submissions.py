"""New jobs of the synchronous client."""

# Made by scripts/make_sync_client.py from the file of this name in _async; edit that.

from collections.abc import Callable, Mapping
from typing import Any, Unpack
from uuid import UUID

from fleek.client import wire
from fleek.client._sync.jobs import Jobs
from fleek.client._sync.results import Result
from fleek.client._sync.service import Service
from fleek.client.job_options import JobOptions, file_in, job_fields, prompt_of
from fleek.client.models import EstimateRead, JobRead


class Submissions(Jobs, Service):
    """Jobs that are made; part of `Client`."""

    def generate(
        self,
        prompt: str = "",
        *,
        timeout: float | None = None,
        on_update: Callable[[JobRead], None] | None = None,
        **options: Unpack[JobOptions],
    ) -> Result:
        """Create a job, wait until it has completed, and return its outputs.

        `prompt`: may be empty for a model that needs none. `timeout` is in seconds; None: unlimited. `on_update` gets the job after every poll. See
        `JobOptions` for the other options, and `submit` to go on without waiting.

        Raises:
            JobFailed: It has failed or was cancelled.
            WaitTimeout: It has not ended within `timeout`; it goes on, and can be waited for: `result`.
            InvalidInput: The request is invalid; `errors` names the fields.
            FleekError: Any other of `fleek.client.errors`.
        """
        job = self.submit(prompt, **options)
        return self.result(job.id, timeout=timeout, on_update=on_update)

    def run(
        self,
        model: str,
        /,
        input: Mapping[str, Any],  # noqa: A002 - its name in the API of Replicate
        *,
        timeout: float | None = None,
        **options: Unpack[JobOptions],
    ) -> Result:
        """Run a model, as Replicate's client does: `input` has the prompt and the parameters.

        Raises:
            JobFailed: It has failed or was cancelled.
            WaitTimeout: It has not ended within `timeout`; it goes on, and can be waited for: `result`.
            InvalidInput: The request is invalid; `errors` names the fields.
            FleekError: Any other of `fleek.client.errors`.
        """
        prompt, parameters = prompt_of(input)
        options = {**options, "model": model, "parameters": parameters}
        return self.generate(prompt, timeout=timeout, **options)

    def submit(self, prompt: str = "", **options: Unpack[JobOptions]) -> JobRead:
        """Create a job and return it as accepted; see `wait`, `result` and `events`.

        Files among the parameters are uploaded first. See `JobOptions` for the options.

        Raises:
            InvalidInput: The request is invalid; `errors` names the fields.
            ResponseLost: No answer came, and the job may exist: call again with the same
                `idempotency_key` if you gave one, or see `jobs`.
            FleekError: Any other of `fleek.client.errors`.
        """
        fields = job_fields(prompt, options)
        key = wire.idempotency(options.get("idempotency_key"))
        if isinstance(given := fields.get("parameters"), Mapping):
            fields["parameters"] = {name: self._uploaded(value) for name, value in given.items()}
        content = wire.body(fields)
        answer = self._connection.ask("POST", "/api/v1/generate", content=content, headers=key)
        return wire.parse(JobRead, answer.value)

    def _uploaded(self, value: Any) -> Any:
        """Return the value of a parameter with its files uploaded."""
        if isinstance(value, list | tuple):
            return [self._uploaded(item) for item in value]
        file = file_in(value)
        return value if file is None else (self.upload(file)).reference

    def estimate(
        self,
        prompt: str = "",
        *,
        model: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        provider: str | None = None,
    ) -> EstimateRead:
        """Return what such a job will cost; it creates none. None: see `generate`.

        Raises:
            InvalidInput: The request is not well-formed.
            FleekError: Any other of `fleek.client.errors`.
        """
        fields = {"prompt": prompt, "model_name": model, "provider": provider}
        content = wire.body({**fields, "parameters": parameters})
        answer = self._connection.ask("POST", "/api/v1/estimate", content=content)
        return wire.parse(EstimateRead, answer.value)

    def retry(
        self, job_id: UUID | str, *, again: bool = False, idempotency_key: str | None = None
    ) -> JobRead:
        """Retry a failed or cancelled job, and return the new job.

        All retries of a job are one job: a retry that is unfinished, or has completed and still
        has its files, is returned instead. `again` creates another one in any case.
        `idempotency_key`: see `generate`.

        Raises:
            Conflict: It has not ended, or has completed.
            NotFound: There is no job with this id.
            FleekError: Any other of `fleek.client.errors`.
        """
        answer = self._connection.ask(
            "POST",
            wire.job_path(job_id, "retry"),
            headers=wire.idempotency(idempotency_key),
            params={"again": "true"} if again else None,
        )
        return wire.parse(JobRead, answer.value)
