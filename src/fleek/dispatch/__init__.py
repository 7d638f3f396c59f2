"""Dispatchers, which send job ids to workers: one module each, named in `fleek.registry`."""
