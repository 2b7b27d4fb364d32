"""What all loopback servers of models have in common: what they are told to say, and how they fail.

Knows no provider: how a reply looks on the wire is said by the servers that are made of this one.
"""

from __future__ import annotations

import contextlib
import json
import ssl
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

Reply = Mapping[str, Any]
"""What the model says, by these keys:

`text`; `tool_calls` [(name, args)], where args that are text are sent as they are; `usage` (input, output);
`status`, `message` and `headers`: an HTTP error instead; `stall`: the stream stands still after its first word;
`cut`: the connection breaks there; `fade`: the stream ends there as if it were complete.
"""

_HOLD_SECONDS = 60.0


class ModelServer:
    """A loopback server of a provider's API, streaming and not, that says what it is told to.

    Replies are keyed by the first line of the system prompt and given by position in the conversation, so the same
    request gets the same answer however often it is made.

    Attributes:
        replies: What each agent's model says, one reply for each call since the person's message.
        first: What the first calls get, whatever they ask.
        delay: Seconds before each answer.
        calls: The bodies of all calls.
        keys: The key of each.
        headers: The headers of each, their names in lower case.
        hold_at: Number of the call that is answered only when `release` is set; `held` is set when it has come.
        in_flight: How many calls are being answered.
    """

    base_path: ClassVar[str] = ""
    """What follows the address in the provider's variable for it."""
    stream_type: ClassVar[str] = "text/event-stream"

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        """Listen; with `tls`, over HTTPS."""
        self.replies: dict[str, list[Reply]] = {}
        self.first: list[Reply] = []
        self.delay = 0.0
        self.calls: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.in_flight = 0
        self.hold_at: int | None = None
        self.held = threading.Event()
        self.release = threading.Event()
        self._lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = server.read(self, json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                with contextlib.suppress(OSError):  # the caller has gone
                    server.answer(self, body)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._scheme = "http" if tls is None else "https"
        if tls is not None:
            self._http.socket = tls.wrap_socket(self._http.socket, server_side=True)
        self._thread = threading.Thread(target=self._http.serve_forever, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """The address, as the provider's variable wants it."""
        return f"{self._scheme}://127.0.0.1:{self._http.server_port}{self.base_path}"

    def close(self) -> None:
        """Stop, letting go of held and stalled calls."""
        self.release.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join(5)

    def answer(self, handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        """Write the call down, and answer it."""
        with self._lock:
            number = len(self.calls)
            self.calls.append(body)
            self.keys.append(self.key(handler.headers))
            self.headers.append({name.lower(): value for name, value in handler.headers.items()})
            self.in_flight += 1
        try:
            if number == self.hold_at:
                self.held.set()
                self.release.wait(_HOLD_SECONDS)
            time.sleep(self.delay)
            self._send(handler, body, self._reply(number, body), number)
        finally:
            with self._lock:
                self.in_flight -= 1

    def read(self, handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> dict[str, Any]:
        """A call's body, with what was said in `messages`, where the API has it elsewhere."""
        del handler
        return body

    def key(self, headers: Any) -> str:
        """The key that came with a call."""
        return str(headers.get("x-api-key") or headers.get("Authorization", "")).removeprefix("Bearer ")

    def system(self, body: Mapping[str, Any]) -> str:
        """The system prompt of a call."""
        messages: list[dict[str, Any]] = body["messages"]
        return next((text_of(each["content"]) for each in messages if each["role"] == "system"), "")

    def error(self, reply: Reply) -> Any:
        """The document of an error."""
        raise NotImplementedError

    def document(self, reply: Reply, number: int) -> Any:
        """An answer that is not streamed."""
        raise NotImplementedError

    def parts(self, reply: Reply, number: int) -> Iterator[bytes]:
        """A streamed answer, event by event."""
        raise NotImplementedError

    def is_streamed(self, body: Mapping[str, Any]) -> bool:
        """Whether the caller wants a stream."""
        return bool(body.get("stream"))

    def _reply(self, number: int, body: dict[str, Any]) -> Reply:
        if number < len(self.first):
            return self.first[number]
        messages: list[dict[str, Any]] = body["messages"]
        replies = self.replies[self.system(body).strip().partition("\n")[0]]
        last = max(index for index, each in enumerate(messages) if _is_persons(each))
        return replies[sum(each["role"] == "assistant" for each in messages[last:])]

    def _send(self, handler: BaseHTTPRequestHandler, body: dict[str, Any], reply: Reply, number: int) -> None:
        if "status" in reply:
            self._send_document(handler, self.error(reply), status=reply["status"], headers=reply.get("headers", {}))
        elif self.is_streamed(body):
            self._send_stream(handler, reply, number)
        else:
            self._send_document(handler, self.document(reply, number))

    @staticmethod
    def _send_document(
        handler: BaseHTTPRequestHandler, document: Any, *, status: int = 200, headers: Mapping[str, str] | None = None
    ) -> None:
        data = json.dumps(document).encode()
        handler.send_response(status)
        for name, value in (headers or {}).items():
            handler.send_header(name, value)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    def _send_stream(self, handler: BaseHTTPRequestHandler, reply: Reply, number: int) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", self.stream_type)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for part in self.parts(reply, number):
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
            if _has_begun(part, reply):
                if reply.get("stall"):
                    handler.wfile.flush()
                    self.release.wait(_HOLD_SECONDS)
                if reply.get("stall") or reply.get("cut"):
                    handler.close_connection = True
                    return
                if reply.get("fade"):
                    break
        handler.wfile.write(b"0\r\n\r\n")


def _has_begun(part: bytes, reply: Reply) -> bool:
    """Whether this part holds the answer's first word."""
    first = words(reply)[:1]
    return bool(first) and json.dumps(first[0]).encode()[:-1] in part


def _is_persons(message: Mapping[str, Any]) -> bool:
    """Whether a person said it: some providers hand tools' results back in the person's name."""
    if message["role"] != "user":
        return False
    content: Any = message["content"]
    return isinstance(content, str) or any(each["type"] != "tool_result" for each in content)


def text_of(content: Any) -> str:
    """The text of a message's content, which is text or a list of parts."""
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def words(reply: Reply) -> list[str]:
    """The text of a reply in the parts in which it is streamed."""
    text: str = reply.get("text", "")
    return [word for word in text.replace(" ", " \0").split("\0") if word]


def tool_calls(reply: Reply) -> Sequence[tuple[str, Any]]:
    """The tools that a reply asks for."""
    return reply.get("tool_calls", ())


def arguments(args: Any) -> str:
    """A tool's arguments as they stand on the wire, where text may be no JSON at all."""
    return args if isinstance(args, str) else json.dumps(args)


def usage(reply: Reply) -> tuple[int, int]:
    """Tokens in and out."""
    return reply.get("usage", (1, 1))
