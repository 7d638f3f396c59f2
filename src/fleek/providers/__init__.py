"""Hosts of models: one module each, known by its name in `fleek.registry`."""
