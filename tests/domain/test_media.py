"""Files have names that no two attempts share, and outputs survive being stored."""

import pytest

from fleek.domain.job import AttemptId
from fleek.domain.media import Key, Output, media_key, metadata_key
from samples import WORKER, a_file, a_job


@pytest.mark.parametrize(
    "output",
    [Output(uri="https://host/a.png"), Output(text="A verse"), Output(key=Key("media/a.png"))],
)
def test_an_output_comes_back_as_it_was_stored(output: Output) -> None:
    """An address, or words."""
    assert Output.from_json(output.to_json()) == output


def test_a_file_is_named_by_job_attempt_place_and_content() -> None:
    """And ends as its type does."""
    attempt_id = AttemptId(WORKER)
    file = a_file(a_job(attempt_id=attempt_id), 3)

    other = media_key(file.job_id, attempt_id, 3, sha256="b" * 64, extension="png")

    assert file.key == f"media/{file.job_id}/{attempt_id}/3-{'a' * 16}.png"
    assert file.extension == "png"
    assert other != file.key


def test_a_metadata_document_is_named_by_its_job() -> None:
    """One for each."""
    job = a_job()

    assert metadata_key(job.id) == f"metadata/{job.id}.json"
