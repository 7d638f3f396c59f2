"""Cog: a model of one's own, served over HTTP by the `cog` package's server.

A Cog server keeps nothing: what it runs can be looked at, what has ended is forgotten. So the
answer must be caught when it is given. With ``PUBLIC_URL`` it comes to the attempt's callback
URL, tried again by the server for minutes, and a crash of ours costs nothing. Without it the
connection that started the prediction is held open (`held.py`), and the server stops the
prediction when that connection ends: a crash of ours costs that run, and never leaves two runs
alive. A prediction that runs no more and whose answer has not come counts as failed; the engine
makes another attempt, and that one is held.

Source: https://github.com/replicate/cog, ``docs/http.md`` and ``crates/coglet``.
"""

from fleek.providers.cog.provider import CogProvider, connect
from fleek.providers.cog.settings import CogSettings

__all__ = ["CogProvider", "CogSettings", "connect"]
