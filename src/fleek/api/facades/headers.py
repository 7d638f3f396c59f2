"""The headers of the facades' clients in browsers; a page of another origin needs a permission for each."""

from typing import Final

REQUEST_HEADERS: Final = (
    # OpenAI
    *("OpenAI-Organization", "OpenAI-Project", "X-Stainless-Arch", "X-Stainless-Helper-Method"),
    *("X-Stainless-Lang", "X-Stainless-OS", "X-Stainless-Package-Version"),
    *("X-Stainless-Poll-Helper", "X-Stainless-Custom-Poll-Interval", "X-Stainless-Retry-Count"),
    *("X-Stainless-Runtime", "X-Stainless-Runtime-Version", "X-Stainless-Timeout"),
    # fal
    *("X-Fal-No-Retry", "X-Fal-Object-Lifecycle", "X-Fal-Object-Lifecycle-Preference"),
    *("X-Fal-Queue-Priority", "X-Fal-Request-Timeout", "X-Fal-Runner-Hint", "X-Fal-Target-Url"),
)
"""What they send."""

RESPONSE_HEADERS: Final = ("openai-poll-after-ms", "x-should-retry", "x-fal-request-id")
"""What they read."""
