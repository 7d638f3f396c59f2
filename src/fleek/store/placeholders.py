"""Tiny inline pictures of stored files, shown while the files load."""

from sqlalchemy import select, update

from fleek.domain.media import Media
from fleek.store.database import Database
from fleek.store.tables import JobRow, MediaRow


async def is_shown(db: Database, media: Media) -> bool:
    """Whether a file still belongs to its job and is not purged.

    Raises:
        DatabaseUnavailable: It cannot be read now.
    """
    statement = (
        select(MediaRow.key)
        .join(JobRow, JobRow.id == MediaRow.job_id)
        .where(
            MediaRow.job_id == media.job_id,
            MediaRow.key == media.key,
            JobRow.purged_at.is_(None),
        )
    )
    async with db.read() as tx:
        return (await tx.execute(statement)).first() is not None


async def write(db: Database, media: Media, uri: str) -> None:
    """Store the placeholder of a file; nothing happens if the file was removed.

    Raises:
        DatabaseUnavailable: It cannot be written now.
    """
    statement = (
        update(MediaRow)
        .where(
            MediaRow.job_id == media.job_id,
            MediaRow.attempt_id == media.attempt_id,
            MediaRow.index == media.index,
        )
        .values(placeholder=uri)
    )
    async with db.write() as tx:
        await tx.execute(statement)
