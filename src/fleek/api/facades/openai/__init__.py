"""OpenAI's HTTP API for images, videos, speech and models, for its unmodified clients.

Source: https://platform.openai.com/docs/api-reference, and the clients openai 3.57 for Python and 6.49 for
JavaScript.
"""
