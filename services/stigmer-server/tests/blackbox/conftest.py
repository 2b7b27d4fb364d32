"""The server as any client meets it: a process of its own, called over gRPC by a client that knows nothing but what
the server's reflection tells it.

Here every RPC of the contract is shown: that it succeeds, and each way in which it fails, with the exact status and
the fields that the error names. `test_coverage.py` reads from the contract's descriptors what has to be shown of
each RPC, and fails for what nobody shows.

**To add a case**, write a test and mark it with what it shows. A mark is a promise: the test fails unless it got
that status from that RPC.

    @pytest.mark.rpc("agent/create", "ALREADY_EXISTS")
    def test_a_slug_is_taken_once(client, make):
        agent = make("agent", "Taken")
        error = client.refused("agent/create", make.manifest("agent", "Taken"), "ALREADY_EXISTS")
        assert agent.metadata.id in error.message

- An RPC is named `<kind>/<method>` (`agent/create`), or `<service>/<method>` where the service belongs to no kind
  (`ResourceController/list`). `rpc("agent/create")` alone means OK.
- `client("agent/get", {"value": id})` returns the answer; `client.refused(name, request, code)` returns the error,
  whose `fields` say which field breaks which rule. Requests are proto-JSON, a message or bytes; a list of them for a
  stream of requests; `metadata={...}` goes with any of them.
- `make("session", "A talk", spec={...})` creates a resource, with the resources that it needs, in an organization of
  this test's own (`client.org`), so that tests do not see each other although they share one server;
  `make.manifest(...)` returns what it would send. A new kind adds its smallest spec to `Maker`.
- For the same case over many kinds, `pytest.param(kind, marks=pytest.mark.rpc(f"{kind}/get"))` marks each.
- An RPC that this server does not have is listed in `test_unserved.py`. To serve one, delete it there.

One process serves all tests of a pytest-xdist worker. Temporal is away throughout: what needs it is shown elsewhere.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import json_format
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2, status_pb2
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from stigmer_protos import descriptors

from stigmer_server.testing import free_port

Message = Any

_MARKS = pytest.StashKey[frozenset[tuple[str, str]]]()
_CALL_SECONDS = 30.0
_READY_SECONDS = 60.0
_OWN = "ai.stigmer."
DEFINITION = """
document: {dsl: 1.0.0, namespace: tests, name: flow, version: 0.1.0}
do:
  - greet:
      set: {greeting: hello}
"""


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "rpc(name, code='OK'): the test shows that the RPC answers with the status")


def _marked(item: pytest.Item) -> set[tuple[str, str]]:
    return {(mark.args[0], mark.args[1] if len(mark.args) > 1 else "OK") for mark in item.iter_markers("rpc")}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(session: pytest.Session, items: list[pytest.Item]) -> None:
    """Remember what the tests of this folder promise, before any of them is deselected."""
    promises = {promise for item in items for promise in _marked(item)}
    session.config.stash[_MARKS] = frozenset(promises)


@pytest.fixture(scope="session")
def promises(request: pytest.FixtureRequest) -> frozenset[tuple[str, str]]:
    """Which RPC is shown with which status; only in a run of the whole folder."""
    here = {path.name for path in Path(__file__).parent.glob("test_*.py")}
    ran = {item.path.name for item in request.session.items if item.path.parent == Path(__file__).parent}
    if here - ran:
        pytest.skip(f"without {', '.join(sorted(here - ran))} nobody can say what is shown")
    return request.config.stash[_MARKS]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """Hold a test that passed against its promises."""
    outcome = yield
    client: Client | None = getattr(item, "funcargs", {}).get("client")
    broken = _marked(item) - (client.seen if client is not None else set())
    if broken:
        pytest.fail(f"marked with what was not seen: {sorted(broken)}")
    return outcome


class Refused(Exception):  # noqa: N818 - what a call that failed says
    """A call that did not end well."""

    def __init__(self, name: str, error: grpc.RpcError) -> None:
        call: Any = error
        self.code: str = call.code().name
        self.message: str = call.details() or ""
        self.fields: dict[str, str] = {}
        """Rules by the fields that break them."""
        for key, value in call.trailing_metadata() or ():
            if key == "grpc-status-details-bin":
                self._read(value)
        super().__init__(f"{name}: {self.code}: {self.message}")

    def _read(self, details: bytes) -> None:
        status = status_pb2.Status.FromString(details)
        assert status.message
        for packed in status.details:
            detail = error_details_pb2.BadRequest()
            if packed.Unpack(detail):
                self.fields |= {violation.field: violation.reason for violation in detail.field_violations}


@cache
def names() -> Mapping[str, str]:
    """Return the full path of every method of the contract by its short name."""
    found: dict[str, str] = {}
    for service in descriptors.services():
        kind = descriptors.service_kind(service.full_name)
        short = kind.enum_name if kind is not None else service.name
        found |= {f"{short}/{method.name}": f"/{service.full_name}/{method.name}" for method in service.methods}
    return found


class Client:
    """Calls RPCs by their short names, and remembers how each of them ended."""

    def __init__(self, channel: grpc.Channel, pool: DescriptorPool, org: str) -> None:
        self._channel = channel
        self._pool = pool
        self.org = org
        self.seen: set[tuple[str, str]] = set()
        self.trailers: dict[str, str | bytes] = {}
        """What came with the end of the last call."""

    def __call__(self, name: str, request: Any = None, *, metadata: Mapping[str, str] | None = None) -> Message:
        """Call a method that has one response. Raises: Refused."""
        return self.begin(name, request, metadata=metadata)()

    def begin(
        self, name: str, request: Any = None, *, metadata: Mapping[str, str] | None = None
    ) -> Callable[[], Message]:
        """Begin a call with one response, and return what waits for its end."""
        method, raw = self._prepared(name, request)
        made: Any = self._stub("stream_unary" if method.client_streaming else "unary_unary", name)
        sent = iter(raw) if method.client_streaming else raw[0]
        call = made.future(sent, timeout=_CALL_SECONDS, metadata=tuple((metadata or {}).items()))

        def result() -> Message:
            try:
                answer = GetMessageClass(method.output_type).FromString(call.result())
            except grpc.RpcError as error:
                self._ended(name, call)
                raise Refused(name, error) from None
            self._ended(name, call)
            return answer

        return result

    def stream(
        self, name: str, request: Any = None, *, metadata: Mapping[str, str] | None = None
    ) -> Generator[Message]:
        """Call a method that has many responses; close the iterator to give it up. Raises: Refused."""
        method, raw = self._prepared(name, request)
        made: Any = self._stub("unary_stream", name)
        call = made(raw[0], timeout=_CALL_SECONDS, metadata=tuple((metadata or {}).items()))
        try:
            for response in call:
                yield GetMessageClass(method.output_type).FromString(response)
        except grpc.RpcError as error:
            self._ended(name, call)
            raise Refused(name, error) from None
        except GeneratorExit:
            self.seen.add((name, "OK"))
            raise
        finally:
            call.cancel()
        self._ended(name, call)

    def refused(self, name: str, request: Any, code: str, *, metadata: Mapping[str, str] | None = None) -> Refused:
        """Call a method, and return the error after making sure that it has this status and says something."""
        call = self._all if self.descriptor(name).server_streaming else self.__call__
        with pytest.raises(Refused) as caught:
            call(name, request, metadata=metadata)
        assert caught.value.code == code, caught.value
        assert caught.value.message
        return caught.value

    def _all(self, name: str, request: Any, *, metadata: Mapping[str, str] | None) -> list[Message]:
        return list(self.stream(name, request, metadata=metadata))

    def descriptor(self, name: str) -> Any:
        """Return the descriptor of a method, as the server tells it; of what the server lacks, the contract's."""
        service, _, method = names()[name].removeprefix("/").partition("/")
        try:
            return self._pool.FindServiceByName(service).methods_by_name[method]
        except KeyError:
            return descriptors.pool().FindServiceByName(service).methods_by_name[method]

    def named(self, name: str, id: str) -> dict[str, str]:
        """Return a request that names one resource, whatever it calls the id."""
        fields = self.descriptor(name).input_type.fields_by_name
        field = next(field for field in ("value", "resource_id", "execution_id", "id") if field in fields)
        return {field: id}

    def message(self, name: str, content: Any) -> Message:
        """Return the request of a method from proto-JSON."""
        made = GetMessageClass(self.descriptor(name).input_type)()
        json_format.ParseDict(content, made, descriptor_pool=self._pool)
        return made

    def plain(self, message: Message) -> dict[str, Any]:
        """Return a message as proto-JSON."""
        return json_format.MessageToDict(message, descriptor_pool=self._pool)

    def _prepared(self, name: str, request: Any) -> tuple[Any, list[bytes]]:
        """Return the method, and what to send: of a stream of requests, each of them."""
        method = self.descriptor(name)
        parts: list[Any] = list(request or ()) if method.client_streaming else [request]
        return method, [self._encoded(name, part) for part in parts]

    def _encoded(self, name: str, request: Any) -> bytes:
        if isinstance(request, bytes):
            return request
        message = request if hasattr(request, "SerializeToString") else self.message(name, request or {})
        return message.SerializeToString()

    def _stub(self, shape: str, name: str) -> Any:
        untyped: Any = self._channel
        return getattr(untyped, shape)(names()[name])

    def _ended(self, name: str, call: Any) -> None:
        self.seen.add((name, call.code().name))
        self.trailers = dict(call.trailing_metadata() or ())


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A `stigmer-server` of its own for the tests of this worker; its address."""
    folder = tmp_path_factory.mktemp("server")
    port = free_port()
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("STIGMER_", "TEMPORAL_"))},
        "DB_PATH": str(folder / "stigmer.db"),
        "STORAGE_PATH": str(folder / "storage"),
        "GRPC_PORT": str(port),
        "TEMPORAL_HOST_PORT": f"127.0.0.1:{free_port()}",
    }
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "stigmer_server", "--http-port", "off"], env=environment, stdout=log, stderr=log
        )
    try:
        _wait(process, f"127.0.0.1:{port}", folder / "log")
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        code = process.wait(30)
    assert code == 0, (folder / "log").read_text()
    assert "Traceback" not in (folder / "log").read_text(), (folder / "log").read_text()


def _wait(process: subprocess.Popen[bytes], address: str, log: Path) -> None:
    """Wait until the server answers."""
    untyped: Any = grpc
    deadline = time.monotonic() + _READY_SECONDS
    with grpc.insecure_channel(address) as channel:
        ready = untyped.channel_ready_future(channel)
        while True:
            try:
                ready.result(timeout=0.2)
            except grpc.FutureTimeoutError:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
            else:
                return


@pytest.fixture
def channel(server: str) -> Iterator[grpc.Channel]:
    """A connection of the test's own, so that what it leaves behind concerns no other."""
    unlimited = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(server, options=[*unlimited, ("grpc.use_local_subchannel_pool", 1)]) as opened:
        yield opened


@pytest.fixture(scope="session")
def pool(server: str) -> DescriptorPool:
    """The contract as the server's reflection tells it."""
    with grpc.insecure_channel(server) as channel:
        return _pool(channel)


def _pool(channel: grpc.Channel) -> DescriptorPool:
    files: dict[str, FileDescriptorProto] = {}
    wanted = [reflection_pb2.ServerReflectionRequest(file_containing_symbol=name) for name in reflected(channel)]
    while wanted:
        for answer in _reflect(channel, wanted):
            for raw in answer.file_descriptor_response.file_descriptor_proto:
                file = FileDescriptorProto.FromString(raw)
                files[file.name] = file
        missing = {name for file in files.values() for name in file.dependency} - set(files)
        wanted = [reflection_pb2.ServerReflectionRequest(file_by_filename=name) for name in sorted(missing)]
    made = DescriptorPool()
    added: set[str] = set()

    def add(name: str) -> None:
        if name not in added:
            added.add(name)
            for dependency in files[name].dependency:
                add(dependency)
            made.Add(files[name])

    for name in files:
        add(name)
    return made


@pytest.fixture
def services(channel: grpc.Channel) -> frozenset[str]:
    """The services that the server says it has."""
    return frozenset(reflected(channel))


def reflected(channel: grpc.Channel) -> list[str]:
    """Return the names of the server's own services."""
    (answer,) = _reflect(channel, [reflection_pb2.ServerReflectionRequest(list_services="")])
    return [service.name for service in answer.list_services_response.service if service.name.startswith(_OWN)]


def _reflect(channel: grpc.Channel, requests: list[Any]) -> list[Any]:
    untyped: Any = reflection_pb2_grpc
    return list(untyped.ServerReflectionStub(channel).ServerReflectionInfo(iter(requests)))


_numbers = count(1)


@pytest.fixture
def client(channel: grpc.Channel, pool: DescriptorPool) -> Client:
    """A client whose organization nobody else uses."""
    return Client(channel, pool, f"org-{os.getpid()}-{next(_numbers)}")


class Maker:
    """Makes resources for a test, with what they need: `make("session", "A talk", spec={…}, labels={…})`."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._specs: dict[str, Callable[[], dict[str, Any]]] = {
            "agent": lambda: {"instructions": "Answer every question in one sentence."},
            "agent_instance": lambda: {"agentId": self("agent").metadata.id},
            "session": lambda: {"agentInstanceId": self("agent_instance").metadata.id},
            "agent_execution": lambda: {"agentId": self("agent").metadata.id, "message": "Hello"},
            "workflow": lambda: {"definition": DEFINITION},
            "workflow_instance": lambda: {"workflowId": self("workflow").metadata.id},
            "workflow_execution": lambda: {"workflowId": self("workflow").metadata.id},
            "environment": lambda: {"data": {"REGION": {"value": "eu-west-1"}}},
            "execution_context": lambda: {"executionId": "wex-1", "data": {"REGION": {"value": "eu-west-1"}}},
            "mcp_server": lambda: {"stdio": {"command": "serve-tools"}},
        }

    def __call__(self, kind: str, name: str = "", *, spec: Mapping[str, Any] | None = None, **metadata: Any) -> Message:
        """Create a resource, and return it."""
        return self._client(f"{kind}/create", self.manifest(kind, name, spec=spec, **metadata))

    def manifest(
        self, kind: str, name: str = "", *, spec: Mapping[str, Any] | None = None, **metadata: Any
    ) -> dict[str, Any]:
        """Return what creates a resource, as proto-JSON; what it needs is made on the way."""
        described = descriptors.kind_by_enum_name(kind)
        scope = {} if kind in ("agent_execution", "execution_context") else {"ownerScope": "organization"}
        return {
            "apiVersion": described.api_version,
            "kind": described.name,
            "metadata": {"name": name or f"{kind} {next(_numbers)}", "org": self._client.org, **scope, **metadata},
            "spec": {**self.spec(kind), **(spec or {})},
        }

    def spec(self, kind: str) -> dict[str, Any]:
        """Return a smallest spec of the kind."""
        return self._specs[kind]()


@pytest.fixture
def make(client: Client) -> Maker:
    return Maker(client)
