"""Tiny inline pictures of stored files, shown while the files load."""

from sqlalchemy import update

from fleek.domain.media import Media
from fleek.store.database import Database
from fleek.store.tables import MediaRow


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
