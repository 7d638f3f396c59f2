"""Dramatiq's parent process is killed: its children stop taking ids."""

from pathlib import Path

from redisserver import RedisServer
from service_process import running, until

ALIVE = "SELECT pid FROM workers WHERE ended_at IS NULL"  # heartbeats are too rare to change this


def test_workers_of_a_killed_command_shut_down(tmp_path: Path, redis: RedisServer) -> None:
    """They would otherwise run unnoticed beside those of the next command."""
    with running(
        tmp_path, REDIS_URL=redis.url(), DISPATCH="dramatiq", HEARTBEAT_SECONDS="60"
    ) as service:
        assert service.start("migrate").wait() == 0
        options = ["--processes", "2", "--threads", "16"]
        command = service.start("fleek.dispatch.dramatiq", *options, program="dramatiq")
        until(lambda: command.log.read_text().count("ready for action") == 2, why=command.tail)
        until(lambda: len(service.rows(ALIVE)) == 2, why=command.tail)

        command.kill()

        until(lambda: service.rows(ALIVE) == [], why=lambda: str(service.rows(ALIVE)))
