"""Fixtures for Redis, including one per test."""

from redisserver import own_redis, redis, redis_server

__all__ = ["own_redis", "redis", "redis_server"]
