"""Webhooks about requests: the result or the failure, signed with the installation's private key."""

from collections.abc import Sequence

from fleek import strict
from fleek.api.facades.fal.result import failure, result
from fleek.domain.job import Job, Status
from fleek.domain.media import Media
from fleek.schemas import Addresses


class RequestForm:
    """The form of webhooks that fal's users receive."""

    prefix: str | None = "x-fal-webhook"

    def body(self, job: Job, media: Sequence[Media], addresses: Addresses) -> bytes:
        """Return the outcome of a request."""
        ids = {"request_id": str(job.id), "gateway_request_id": str(job.id)}
        if job.status is Status.COMPLETED:
            shown = {"status": "OK", "payload": result(job, media, addresses)}
        else:
            code, payload = failure(job)
            error = f"Unexpected status code: {code}"
            shown = {"status": "ERROR", "error": error, "payload": payload}
        return strict.dumps({**ids, **shown})


FORM = RequestForm()
