"""The synchronous client."""

# Made by scripts/make_sync_client.py from the file of this name in _async; edit that.
