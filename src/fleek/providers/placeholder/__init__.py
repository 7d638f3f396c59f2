"""The placeholder: a provider that makes real media without account or network.

It behaves like a remote host: `start` returns a running prediction, `poll` reports its progress,
`read` streams the bytes. But it keeps no state: everything is in the prediction's id
(`prediction.py`), so any process can poll it, and a repeated start is the same prediction. An
output follows from the prompt, the parameters and the seed (`spec.py`), and is made when it is
read.
"""

from fleek.providers.placeholder.provider import (
    PlaceholderProvider,
    PlaceholderSettings,
    connect,
)

__all__ = ["PlaceholderProvider", "PlaceholderSettings", "connect"]
