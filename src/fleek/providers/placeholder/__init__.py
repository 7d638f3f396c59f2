"""The placeholder: a provider that makes real media without account or network.

It behaves like a remote host: `start` sells a prediction that runs for a while, `poll` tells how
far it is, `read` gives the bytes. Yet it keeps nothing: whatever it must remember is in the
prediction's id (`prediction.py`), so any process can answer for it, and starting an attempt a
second time is the same purchase. What it makes is drawn from the prompt, the parameters and the
seed (`piece.py`), and made when it is read.
"""

from fleek.providers.placeholder.provider import (
    PlaceholderProvider,
    PlaceholderSettings,
    connect,
)

__all__ = ["PlaceholderProvider", "PlaceholderSettings", "connect"]
