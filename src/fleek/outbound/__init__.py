"""Calls to other hosts: the policy for addresses, and the only HTTP client."""
