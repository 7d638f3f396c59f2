"""A running service for official clients."""

from facade_site import running_site, site  # noqa: F401 - fixtures
