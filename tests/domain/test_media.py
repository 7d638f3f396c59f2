"""Files have a unique name for each attempt, and outputs survive being stored."""

import pytest

from fleek.domain.job import AttemptId
from fleek.domain.media import (
    Key,
    Output,
    Part,
    media_folder,
    media_key,
    metadata_key,
    owner,
    public_name,
)
from samples import WORKER, a_file, a_job


@pytest.mark.parametrize(
    "output",
    [Output(uri="https://host/a.png"), Output(text="A verse"), Output(key=Key("media/a.png"))],
)
def test_outputs_survive_a_round_trip(output: Output) -> None:
    """Addresses, text and keys."""
    assert Output.from_json(output.to_json()) == output


def test_a_media_key_names_job_attempt_index_and_content() -> None:
    """It ends with the file's extension."""
    attempt_id = AttemptId(WORKER)
    file = a_file(a_job(attempt_id=attempt_id), 3)

    other = media_key(file.job_id, attempt_id, 3, sha256="b" * 64, extension="png")

    assert file.key == f"media/{file.job_id}/3-{'a' * 16}-{attempt_id}.png"
    assert file.extension == "png"
    assert other != file.key


@pytest.mark.parametrize(("index", "suffix"), [(0, ""), (12, "-12")])
def test_files_of_all_releases_have_the_same_public_name_and_owner(
    index: int, suffix: str
) -> None:
    """Before 0.3.0 each attempt had a folder; these files stay where they are."""
    job, attempt_id = a_job(), AttemptId(WORKER)
    key = media_key(job.id, attempt_id, index, sha256="b" * 64, extension="png")
    older = Key(f"media/{job.id}/{attempt_id}/{index}-{'b' * 16}.png")

    for each in (key, older):
        assert public_name(each) == f"{job.id}{suffix}.png"
        assert owner(each) == (Part.MEDIA, job.id)
        assert each.startswith(media_folder(job.id))


def test_a_metadata_key_names_the_job() -> None:
    """There is one document for each job."""
    job = a_job()

    assert metadata_key(job.id) == f"metadata/{job.id}.json"
