"""Unsafe addresses are refused by their form, or because they are not public."""

from ipaddress import ip_network

import pytest

from fleek.outbound.addresses import (
    AllowedHost,
    Policy,
    UnsafeAddress,
    matches,
    parse,
    public,
    resolve,
)

ANY = Policy(ports=frozenset({80, 443}))
PUBLIC = "93.184.216.34"

BAD_URLS = [
    *("http://127.0.0.1", "https://127.0.0.1", "https://localhost", "https://localhost."),
    *("https://[::1]", "https://0/", "https://0.0.0.0"),
    *("https://2130706433/", "https://0x7f.1/", "https://0177.0.0.1/", "https://017700000001/"),
    *("https://127.1/", "https://127.0.0.1./", "https://1.1.1.1/", "https://0x7f000001/"),
    *("https://①②⑦.⓪.⓪.①/", "https://%31%32%37.0.0.1/", "https://a.0x/"),
    *("https://[::ffff:127.0.0.1]/", "https://[::ffff:a9fe:a9fe]/"),
    "https://[0:0:0:0:0:ffff:169.254.169.254]/",
    *("https://[64:ff9b::a9fe:a9fe]/", "https://[2002:7f00:1::]/", "https://[::127.0.0.1]/"),
    *("https://[fe80::1%25eth0]/", "https://[fd00:ec2::254]/", "https://[fec0::1]/"),
    *("https://169.254.169.254/latest/meta-data/", "https://100.100.100.200/"),
    *("https://redis/", "https://postgres:443/", "https://metadata/"),
    *("https://good.com\\@127.0.0.1/", "https://user:pw@example.com/", "https://@example.com@x/"),
    *("https://good.com#@127.0.0.1/", "https://1.1.1.1 &@2.2.2.2# @3.3.3.3/"),
    *("file:///etc/passwd", "gopher://example.com/", "ftp://example.com/", "dict://example.com/"),
    *("jar:https://example.com!/", "data:text/html,x", "javascript:alert(1)", "//example.com/"),
    *("https:127.0.0.1", "https:///h", "https://", "", "example.com", "http://example.com/"),
    *("https://example.com:0/", "https://example.com:22/", "https://example.com:6379/"),
    *("https://example.com:99999/", "https://example.com:x/"),
    *("https://exa\r\nmple.com/", "https://example.com/\tx", "https://example.com/\0"),
    *("https://example.com%0d%0a/", "https://example.com/" + "x" * 3000),
    *("https://ex\u0430mple.com/", "https://xn--.com/", "https://-a.com/", "https://a..com/"),
    *("https://.example.com/", "https://example.com./", "https://" + "a" * 64 + ".com/"),
]


def test_an_unsafe_address_is_refused(subtests: pytest.Subtests) -> None:
    """The form is enough: no name is resolved."""
    for url in BAD_URLS:
        with subtests.test(url=str(url)[:40]), pytest.raises(UnsafeAddress):
            parse(url, ANY)


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://example.com", "example.com"),
        ("https://EXAMPLE.com/X.png?a=b%20c", "example.com"),
        ("https://a-b_c.example.co.uk:443/", "a-b_c.example.co.uk"),
        ("https://xn--bcher-kva.example/", "xn--bcher-kva.example"),
        ("https://example.com:80/", "example.com"),
    ],
)
def test_an_ordinary_address_is_accepted(url: str, host: str) -> None:
    """With its query, in any case, on a listed port."""
    assert parse(url, ANY).raw_host == host


@pytest.mark.parametrize(
    "path",
    ["/%2F%7e?X-Amz-Credential=a%2Fb&sig=%2b+%3D{}|'", "/A.PNG?", "/?a=1&a=2", "/a//b/../c"],
)
def test_path_and_query_are_sent_unchanged(path: str) -> None:
    """A signature covers every character of them."""
    assert parse(f"HTTPS://EXAMPLE.com{path}", ANY).raw_path_qs == path.removesuffix("?")


@pytest.mark.parametrize("scheme", ["http", "https", "ftp", "file"])
def test_an_allowed_host_is_limited_to_its_scheme_and_port(scheme: str) -> None:
    """Plain HTTP is allowed only if the operator configured it."""
    policy = Policy(named=(AllowedHost.of("http://10.0.0.7:8080"), AllowedHost.of("https://b")))

    allowed = {
        url
        for url in (f"{scheme}://10.0.0.7:8080/", f"{scheme}://10.0.0.7/", f"{scheme}://b/")
        if not _refused(url, policy)
    }

    assert allowed == {
        "http": {"http://10.0.0.7:8080/"},
        "https": {"https://10.0.0.7:8080/", "https://b/"},
    }.get(scheme, set())


def _refused(url: str, policy: Policy) -> bool:
    try:
        parse(url, policy)
    except UnsafeAddress:
        return True
    return False


def test_the_error_does_not_repeat_the_address() -> None:
    """It may hold a secret, and the message is shown."""
    with pytest.raises(UnsafeAddress) as caught:
        parse("https://user:secret@example.com/", ANY)

    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("host", "pattern", "fitting"),
    [
        ("example.com", "example.com", True),
        ("a.example.com", "example.com", False),
        ("a.example.com", "*.example.com", True),
        ("a.b.example.com", "*.example.com", True),
        ("example.com", "*.example.com", True),
        ("notexample.com", "*.example.com", False),
        ("example.com.evil", "*.example.com", False),
    ],
)
def test_host_patterns(*, host: str, pattern: str, fitting: bool) -> None:
    """A star stands for any number of labels, including none."""
    assert matches(host, pattern) is fitting


def test_private_addresses(subtests: pytest.Subtests) -> None:
    """Local, reserved and embedded ones."""
    for ip in [
        *("127.0.0.1", "127.8.8.8", "0.0.0.0", "10.0.0.5", "172.16.0.1", "192.168.1.1"),  # noqa: S104 - no server listens there
        *("169.254.169.254", "169.254.170.2", "100.64.0.1", "100.100.100.200", "192.0.0.192"),
        *("198.18.0.1", "224.0.0.1", "255.255.255.255", "192.0.2.1", "240.0.0.1", "168.63.129.16"),
        *("::1", "::", "fe80::1", "fe80::1%eth0", "fd00:ec2::254", "fec0::1", "ff02::1"),
        *("::ffff:127.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "64:ff9b::a9fe:a9fe"),
        *("64:ff9b:1::1", "2002:7f00:1::", "2001::1", "2001:db8::1", "192.88.99.1", "100::1"),
        "5f00::1",
    ]:
        with subtests.test(ip=str(ip)[:40]):
            assert not public(ip)


@pytest.mark.parametrize(
    "ip", ["8.8.8.8", "1.1.1.1", PUBLIC, "2606:4700::1111", "2a00:1450:4001:81b::200e"]
)
def test_public_addresses(ip: str) -> None:
    """IPv4 and IPv6."""
    assert public(ip)


async def test_the_system_resolver_returns_each_address_once() -> None:
    """An IP address resolves to itself."""
    assert await resolve("127.0.0.1", 80) == ["127.0.0.1"]


INSIDE = Policy(networks=(ip_network("10.0.0.0/8"), ip_network("169.254.0.0/16")), plain=True)


@pytest.mark.parametrize(
    "url", ["http://10.1.2.3:8080/x", "https://n8n:5678/x", "http://n8n/x", "https://example.com"]
)
def test_a_host_in_an_allowed_network_may_have_an_internal_name(url: str) -> None:
    """IP addresses and names without a dot, on any port; the resolved address is checked later."""
    assert str(parse(url, INSIDE)).startswith(url)


@pytest.mark.parametrize(
    "url",
    [
        *("http://192.168.0.1/", "https://127.0.0.1/", "http://2130706433/", "http://0xa000001/"),
        *("http://169.254.169.254/latest/", "http://example.com:443/", "ftp://n8n/"),
    ],
)
def test_other_addresses_stay_refused(url: str) -> None:
    """An exception covers only its networks, and never a metadata service."""
    with pytest.raises(UnsafeAddress):
        parse(url, INSIDE)


@pytest.mark.parametrize(
    ("ip", "port", "allowed"),
    [
        *((PUBLIC, 443, True), (PUBLIC, 80, False), (PUBLIC, 5678, False)),
        *(("10.0.0.7", 443, True), ("10.0.0.7", 5678, True), ("::ffff:10.0.0.7", 80, True)),
        *(("192.168.0.1", 443, False), ("169.254.169.254", 80, False), ("169.254.7.7", 80, True)),
    ],
)
def test_an_exception_allows_only_its_networks(ip: str, port: int, *, allowed: bool) -> None:
    """Public hosts stay reachable on the usual port only."""
    assert INSIDE.admits(ip, port) is allowed


def test_plain_http_needs_allowed_networks() -> None:
    """The option alone changes nothing."""
    with pytest.raises(UnsafeAddress):
        parse("http://example.com/", Policy(plain=True))
