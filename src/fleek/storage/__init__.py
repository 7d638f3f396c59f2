"""Where bytes are kept: one module per storage, known by its name in `fleek.registry`."""
