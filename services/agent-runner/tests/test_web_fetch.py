"""The tool `web_fetch`, over a real server on loopback."""

from __future__ import annotations

import threading
from collections.abc import Generator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from agent_runner.tools.pages import readable
from agent_runner.tools.port import Outbound
from agent_runner.tools.settings import WebLimits
from agent_runner.tools.tool import ToolFailedError
from agent_runner.tools.web import WebFetch
from stigmer_sandbox import OutboundPolicy, guarded_client

PAGE = """<!doctype html><html><head><title>Bread &amp; butter</title><script>alert(1)</script>
<body><nav><a href="/home">Home</a></nav>
<h2>How  to
bake</h2><p>Take <b>flour</b>.<br>Then <a href="water?x=1#top">water</a>.
<ul><li>one<li>two</ul><pre>a
  b</pre><table><tr><td>x</td><td>y</td></tr></table><style>p {}</style><img alt="a loaf" src="x.png"></body></html>"""
PAGES: dict[str, tuple[int, str, bytes, str]] = {
    "/page": (200, "text/html; charset=utf-8", PAGE.encode(), ""),
    "/data": (200, "application/json", b'{"a": 1}', ""),
    "/moved": (302, "text/plain", b"", "/data"),
    "/trap": (302, "text/plain", b"", "http://169.254.169.254/latest/meta-data"),
    "/picture": (200, "image/png", b"\x89PNG", ""),
    "/huge": (200, "text/plain", b"x" * 300_000, ""),
    "/long": (200, "text/plain", b"word " * 20_000, ""),
}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        status, kind, body, location = PAGES.get(self.path, (404, "text/plain", b"no such page", ""))
        self.send_response(status)
        self.send_header("Content-Type", kind)
        if location:
            self.send_header("Location", location)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
        pass


@pytest.fixture(scope="module")
def site() -> Generator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join(5)


async def fetched(tmp_path: Path, url: str, **policy: Any) -> str:
    async def keep(path: str, content: bytes) -> str:
        (tmp_path / Path(path).name).write_bytes(content)
        return f"kept in {path}"

    rules = OutboundPolicy(**policy)
    async with guarded_client(rules) as client:
        tool = WebFetch(Outbound(client=client, policy=rules), WebLimits(seconds=10, most_bytes=200_000), keep)
        return await tool.ainvoke({"url": url})


def test_html_becomes_text_that_reads_well() -> None:
    assert readable(PAGE, "http://bread.example/x/") == (
        "Bread & butter\n\n[Home](http://bread.example/home)\n\n## How to bake\n\nTake flour.\nThen "
        "[water](http://bread.example/x/water?x=1#top).\n\n- one\n- two\n\na\n  b\n\n | x | y\n\n[a loaf]"
    )


async def test_pages_come_as_text_and_redirects_are_followed(site: str, tmp_path: Path) -> None:
    assert "## How to bake" in await fetched(tmp_path, f"{site}/page")
    assert await fetched(tmp_path, f"{site}/moved") == f'{site}/moved (moved to {site}/data)\n\n{{"a": 1}}'


async def test_what_is_no_text_or_too_long_is_put_into_the_workspace(site: str, tmp_path: Path) -> None:
    assert "image/png, 4 bytes, kept in tool_results/web_fetch-" in await fetched(tmp_path, f"{site}/picture")
    long = await fetched(tmp_path, f"{site}/long")
    assert len(long) < 5_000
    assert "kept in tool_results/web_fetch-" in long
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".png", ".txt"]  # noqa: ASYNC240 - a test's own


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/missing", "answered 404: no such page"),
        ("/huge", "larger than the cap"),
        ("/trap", "never allowed"),
    ],
)
async def test_what_cannot_be_had_is_a_failed_call(site: str, tmp_path: Path, path: str, said: str) -> None:
    with pytest.raises(ToolFailedError, match=said):
        await fetched(tmp_path, site + path)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "http://[::ffff:169.254.169.254]/", "nowhere", "http://"])
async def test_addresses_that_lead_nowhere_good_are_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(ToolFailedError, match="cannot be fetched"):
        await fetched(tmp_path, url)


async def test_loopback_is_refused_where_the_policy_says_so(site: str, tmp_path: Path) -> None:
    with pytest.raises(ToolFailedError, match="policy refuses"):
        await fetched(tmp_path, f"{site}/page", allow_loopback=False)
