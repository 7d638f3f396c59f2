"""The schema's history, run by `fleek.store.migrate`."""
