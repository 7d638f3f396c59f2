"""Facades: the wire protocols of other services over the same jobs, for their unmodified clients.

Each is a translation. What all of them need is in `errors`, `routes` and `repeats`; the rest of a facade
is in its own folder, and nothing below `fleek.api` knows of any.
"""
