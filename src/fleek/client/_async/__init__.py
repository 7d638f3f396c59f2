"""The asynchronous client, written by hand; `fleek.client._sync` is made from it."""
