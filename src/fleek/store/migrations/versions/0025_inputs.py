"""Media inputs of jobs, and what was sent for them with each attempt."""

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"


def upgrade() -> None:
    """Add columns that an earlier release does not write, and a table that it does not know."""
    op.add_column("jobs", sa.Column("inputs", sa.JSON(none_as_null=True), nullable=True))
    op.add_column(
        "jobs",
        sa.Column("on_input_cancel", sa.String(length=8), server_default="fail", nullable=False),
    )
    op.add_column("attempts", sa.Column("inputs", sa.JSON(none_as_null=True), nullable=True))
    op.create_table(
        "job_inputs",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("upload_id", sa.Uuid(), nullable=True),
        sa.Column("source_id", sa.Uuid(), nullable=True),
        sa.Column("waiting", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_job_inputs_job_id"),
        sa.PrimaryKeyConstraint("job_id", "number", name="pk_job_inputs"),
    )
