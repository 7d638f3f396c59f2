"""Replicate's HTTP API, for its unmodified clients.

Source: https://replicate.com/docs/reference/http, and the clients replicate 1.0.7 for Python and 1.4.0 for
JavaScript.
"""
