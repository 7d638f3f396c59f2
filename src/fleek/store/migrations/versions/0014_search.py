"""Search for words in prompts.

On PostgreSQL it is an index alone: see `fleek.store.tables`. On SQLite triggers of `jobs` keep the
index; a later migration that makes this table anew has to make them anew, too.
"""

from alembic import op

revision = "0014"
down_revision = "0013"

SQLITE = (
    "CREATE TABLE job_numbers (number INTEGER PRIMARY KEY, job_id CHAR(32) NOT NULL UNIQUE)",
    (
        "CREATE VIRTUAL TABLE job_words USING fts5("
        "tenant_id, prompt, content='', tokenize='unicode61 remove_diacritics 0')"
    ),
    "INSERT INTO job_numbers (job_id) SELECT id FROM jobs ORDER BY id",
    (
        "INSERT INTO job_words (rowid, tenant_id, prompt)"
        " SELECT number, tenant_id, prompt FROM job_numbers JOIN jobs ON jobs.id = job_id"
    ),
    (
        "CREATE TRIGGER jobs_words_insert AFTER INSERT ON jobs BEGIN"
        " INSERT INTO job_numbers (job_id) VALUES (new.id);"
        " INSERT INTO job_words (rowid, tenant_id, prompt)"
        " SELECT number, new.tenant_id, new.prompt FROM job_numbers WHERE job_id = new.id;"
        " END"
    ),
    (
        "CREATE TRIGGER jobs_words_delete AFTER DELETE ON jobs BEGIN"
        " INSERT INTO job_words (job_words, rowid, tenant_id, prompt)"
        " SELECT 'delete', number, old.tenant_id, old.prompt FROM job_numbers WHERE job_id = old.id;"
        " DELETE FROM job_numbers WHERE job_id = old.id;"
        " END"
    ),
)


def upgrade() -> None:
    """Make the index of SQLite and fill it."""
    if op.get_bind().dialect.name == "sqlite":
        for statement in SQLITE:
            op.get_bind().exec_driver_sql(statement)
