"""How Alembic runs here: on the connection and in the transaction of `fleek.store.migrate`."""

from alembic import context

from fleek.store.tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,
    transactional_ddl=False,  # the transaction is the caller's
)
context.run_migrations()
