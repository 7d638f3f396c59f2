"""Favourites and tags of jobs."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Add columns that an earlier release does not write, and a table of tags for lists."""
    op.add_column(
        "jobs", sa.Column("favourite", sa.Boolean(), server_default=sa.false(), nullable=False)
    )
    op.add_column("jobs", sa.Column("tags", sa.JSON(none_as_null=True), nullable=True))
    op.create_table(
        "job_tags",
        sa.Column("tenant_id", sa.String(length=64), nullable=False),
        sa.Column("tag", sa.String(length=64), nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_job_tags_job_id"),
        sa.PrimaryKeyConstraint("tenant_id", "tag", "job_id", name="pk_job_tags"),
    )
