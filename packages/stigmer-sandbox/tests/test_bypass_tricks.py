"""Known ways around outbound filters, each of which must end before a connection is opened."""

import asyncio

import pytest
from stigmer_sandbox import OutboundError, OutboundPolicy, fetch, guarded_client

SHARED = OutboundPolicy(allow_loopback=False, allow_private=False, connect_timeout=2, total_timeout=5)

ODD_WRITINGS = [
    "http://2130706433/",  # decimal
    "http://017700000001/",  # octal in one number
    "http://0x7f000001/",  # hexadecimal
    "http://0x7f.0.0.1/",
    "http://0x7f.1/",
    "http://0177.0.0.1/",  # octal part
    "http://127.1/",  # short forms
    "http://127.0.1/",
    "http://0/",
    "http://1/",
    "http://127.0.0.01/",  # leading zero
    "http://127.0.0.256/",
    "http://127.0.0.1.1/",
    "http://127.0.0.0x1/",
    "http://999999999999/",
    "http://127.0.0.1./",  # trailing dots
    "http://localhost./",
    "http://169.254.169.254./",
    "http://metadata.google.internal./",
    "http://example.com@127.0.0.1/",  # user information
    "http://127.0.0.1@example.com/",
    "http://user:password@127.0.0.1/",
    "http://example.com:80@127.0.0.1/",
    "http://@127.0.0.1/",
    "http://127.0.0.1\\@example.com/",  # backslash
    "http:\\\\127.0.0.1/",
    "http://example.com\\.127.0.0.1/",
    "http://127.0.0.1%2f@example.com/",
    "http://127.0.0.1%00.example.com/",  # percent signs in the host
    "http://%31%32%37.0.0.1/",
    "http://127%2e0%2e0%2e1/",
    "http://\uff11\uff12\uff17.0.0.1/",  # full-width digits
    "http://\u2460\u2461\u2466.0.0.1/",  # circled digits
    "http://127\u30020\u30020\u30021/",  # ideographic full stops
    "http://loc\u0430lhost/",  # a Cyrillic letter
    "http://loc\u00adalhost/",  # soft hyphen
    "http://127.0.0.1 .example.com/",  # blanks and control characters
    "http://127.0.0.1\t/",
    "http://127.0.0.1\n/",
    "http://127.0.0.1\r\nHost: example.com/",
    " http://127.0.0.1/",
    "http://127.0.0.1\x00/",
    "http://127..0.0.1/",  # empty parts
    "http://.127.0.0.1/",
    "http:///127.0.0.1/",
    "http://:80/",
    "http://[::1]evil/",  # brackets
    "http://[::1/",
    "http://[127.0.0.1]/",
    "http://[::1%25lo]/",  # zones
    "http://[fe80::1%eth0]/",
    "http://127.0.0.1:0/",  # ports
    "http://127.0.0.1:80:80/",
    "http://127.0.0.1:+80/",
    "http://127.0.0.1:65616/",
    "http://127.0.0.1:/",
    "file:///etc/passwd",  # other schemes
    "gopher://127.0.0.1:6379/_INFO",
    "ftp://127.0.0.1/",
    "dict://127.0.0.1:11211/stats",
    "unix:///var/run/docker.sock",
    "ws://127.0.0.1/",
    "//127.0.0.1/",
    "127.0.0.1",
    "http:127.0.0.1/",
    "http:/127.0.0.1/",
    "javascript:alert(1)",
    "data:text/plain,x",
]
NEVER_ALLOWED = [
    "http://169.254.169.254/latest/meta-data/",  # metadata
    "http://169.254.170.2/v2/credentials",
    "http://100.100.100.200/",
    "http://192.0.0.192/",
    "http://168.63.129.16/",
    "http://metadata.google.internal/",
    "http://METADATA.google.internal/",
    "http://metadata/",
    "http://instance-data/",
    "http://[fd00:ec2::254]/",
    "http://[::ffff:169.254.169.254]/",  # IPv4 in IPv6
    "http://[::ffff:127.0.0.1]/",
    "http://[::ffff:7f00:1]/",
    "http://[0:0:0:0:0:ffff:7f00:1]/",
    "http://[::127.0.0.1]/",
    "http://[::ffff:0:127.0.0.1]/",
    "http://[64:ff9b::7f00:1]/",
    "http://[64:ff9b::a9fe:a9fe]/",
    "http://[64:ff9b:1::7f00:1]/",
    "http://[2002:7f00:1::]/",
    "http://[2002:a9fe:a9fe::1]/",
    "http://[2001:0:7f00:1::]/",  # Teredo
    "http://[fe80::1]/",
    "http://[fec0::1]/",
    "http://[fc00::1]/",
    "http://[ff02::1]/",
    "http://[::]/",
    "http://0.0.0.0/",
    "http://0.1.2.3/",
    "http://100.64.0.1/",  # shared address space
    "http://100.127.255.254/",
    "http://224.0.0.1/",
    "http://239.255.255.250/",
    "http://255.255.255.255/",
    "http://240.0.0.1/",
    "http://198.18.0.1/",
    "http://192.0.2.1/",
    "http://192.88.99.1/",
    "http://[2001:db8::1]/",
    "http://[100::1]/",
    "http://[4000::1]/",
]
BY_POLICY = [
    "http://127.0.0.1/",
    "http://127.255.255.254/",
    "http://[::1]/",
    "http://[0:0:0:0:0:0:0:1]/",
    "http://10.0.0.1/",
    "http://172.16.0.1/",
    "http://172.31.255.255/",
    "http://192.168.1.1/",
]


async def no_resolver(host: str, port: int) -> list[str]:
    raise AssertionError(f"{host} was looked up")


@pytest.mark.parametrize("url", ODD_WRITINGS)
async def test_an_odd_writing_is_refused_even_where_everything_ordinary_is_allowed(url: str) -> None:
    await refused(OutboundPolicy(), url)


@pytest.mark.parametrize("url", NEVER_ALLOWED)
async def test_a_special_address_is_refused_even_where_everything_ordinary_is_allowed(url: str) -> None:
    await refused(OutboundPolicy(), url)


@pytest.mark.parametrize("url", BY_POLICY)
async def test_a_shared_stack_refuses_this_machine_and_its_networks(url: str) -> None:
    await refused(SHARED, url)


async def refused(policy: OutboundPolicy, url: str) -> None:
    async with guarded_client(policy, resolver=no_resolver) as client:
        with pytest.raises(OutboundError):
            async with asyncio.timeout(5):
                await fetch(client, policy, method="GET", url=url)
