"""A Redis of the test's own."""

from redisserver import own_redis, redis, redis_server

__all__ = ["own_redis", "redis", "redis_server"]
