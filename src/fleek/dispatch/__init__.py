"""What carries job ids to workers: one module per dispatcher, named in `fleek.registry`."""
