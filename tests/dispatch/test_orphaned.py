"""Dramatiq's command is killed: its children must not take ids for ever."""

from pathlib import Path

from redisserver import RedisServer
from service_process import running, until

ALIVE = "SELECT pid FROM workers WHERE ended_at IS NULL"  # with such heartbeats: as they say


def test_the_workers_of_a_command_that_was_killed_stop_in_order(
    tmp_path: Path, redis: RedisServer
) -> None:
    """They would work on, unseen by whoever started the command, beside those of the next one."""
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
