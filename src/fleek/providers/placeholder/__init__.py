"""The placeholder: a provider that generates real media without an account or network access.

It behaves like a remote service: `start` returns a running prediction, `poll` reports its progress,
`read` streams the bytes. But it is stateless: all information is in the prediction's id
(`prediction.py`), so any process can poll it, and a repeated start returns the same prediction. An
output is a function of the prompt, the parameters and the seed (`spec.py`), and is generated when
it is read.
"""

from fleek.providers.placeholder.provider import (
    PlaceholderProvider,
    PlaceholderSettings,
    connect,
)

__all__ = ["PlaceholderProvider", "PlaceholderSettings", "connect"]
