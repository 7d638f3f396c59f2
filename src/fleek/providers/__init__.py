"""Adapters for providers, one module or package each, named in `fleek.registry`."""
