"""Calls to other hosts: which addresses may be called, and the one HTTP client that calls them."""
