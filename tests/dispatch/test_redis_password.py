"""The password of Redis may be in its own file, with any characters."""

import pytest
from pydantic import SecretStr

from fleek.dispatch.address import with_password


@pytest.mark.parametrize(
    ("address", "password", "found"),
    [
        ("redis://redis:6379/0", None, "redis://redis:6379/0"),
        ("redis://redis:6379/0", "a/b@c:d", "redis://:a%2Fb%40c%3Ad@redis:6379/0"),
        ("rediss://me@redis/0", "x", "rediss://me:x@redis/0"),
        ("redis://:old@redis:6379/0", "new", "redis://:old@redis:6379/0"),
        ("unix:///run/redis.sock", "x", "unix:///run/redis.sock"),
    ],
)
def test_a_password_is_added_to_an_address(address: str, password: str | None, found: str) -> None:
    """One that is in the address is kept."""
    assert with_password(address, None if password is None else SecretStr(password)) == found
