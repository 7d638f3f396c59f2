"""fal's HTTP API, for its unmodified clients.

Source: https://docs.fal.ai/model-apis/model-endpoints/queue and .../webhooks, and the clients fal-client 1.0.3
for Python and @fal-ai/client 1.10.1 for JavaScript.
"""
