"""Adapters for storages, one package each, named in `fleek.registry`."""
