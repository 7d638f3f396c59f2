"""Webhooks about predictions: the body is the prediction; Standard Webhooks signs it as ours."""

from collections.abc import Sequence

from fleek import strict
from fleek.api.facades.replicate.prediction import present
from fleek.domain.job import Job
from fleek.domain.media import Media
from fleek.schemas import Addresses


class PredictionForm:
    """The form of webhooks that clients of Replicate receive."""

    prefix: str | None = None

    def body(self, job: Job, media: Sequence[Media], addresses: Addresses) -> bytes:
        """Return the prediction as it is after an event."""
        return strict.dumps(present(job, media, addresses))


FORM = PredictionForm()
