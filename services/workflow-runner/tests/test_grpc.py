"""gRPC calls, against a real server: methods of all kinds, described by a .proto or by the server itself."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from stigmer_dsl import parse
from stigmer_grpc import Server, bind, run
from workflow_runner import unsupported
from workflow_runner.activities.calls import CallFailedError
from workflow_runner.activities.grpc.description import described_by
from workflow_runner.activities.grpc.protos import Sources, compiled
from workflow_runner.activities.grpc.reflection import reflect
from workflow_runner.activities.grpc.statuses import ERRORS
from workflow_runner.testing import HEADER, Response, Runs, Site, StartRunner
from workflow_runner.testing.shop import PROTO, SERVICE, TYPES, Shop, shop_server

BIG = 2**53 + 1


@pytest.fixture
async def shop() -> AsyncGenerator[Shop]:
    async with shop_server() as made:
        yield made


@pytest.fixture
def proto(site: Site) -> str:
    """Where the shop's .proto is; what it imports is two folders above."""
    site.page("/protos/shop/v1/shop.proto", Response(PROTO.encode()))
    site.page("/protos/shop/v1/types.proto", Response(TYPES.encode()))
    return f"{site.url}/protos/shop/v1/shop.proto"


def call(shop: Shop, proto: str, method: str, arguments: str = "", *, service: str = SERVICE, more: str = "") -> str:
    given = f", arguments: {arguments}" if arguments else ""
    where = f"{{name: {service}, host: localhost, port: {shop.port}{more}}}"
    with_ = f"{{proto: {{endpoint: '{proto}'}}, service: {where}, method: {method}{given}}}"
    return f"do:\n- call: {{call: grpc, with: {with_}}}"


def reflected(shop: Any, method: str, arguments: dict[str, Any] | None = None, *, service: str = SERVICE) -> list[Any]:
    """The stored form, which cannot say where a .proto is."""
    config = {"service": f"localhost:{shop.port}/{service}", "method": method}
    if arguments is not None:
        config |= {"request": arguments}
    return [{"name": "call", "kind": "WORKFLOW_TASK_KIND_GRPC_CALL", "taskConfig": config}]


async def run_stored(runs: Runs, tasks: list[Any]) -> Any:
    execution = runs.add("")
    execution.tasks = tasks
    await (await runs.start(execution)).result()
    return execution.output


@pytest.mark.requirement("grpc.unary")
async def test_a_unary_call_outputs_the_answer_with_the_names_of_the_proto(runs: Runs, shop: Shop, proto: str) -> None:
    output = await runs.output(call(shop, proto, "Order", "{item_name: '${ .name }', count: 3}"), {"name": "hat"})
    assert output == {
        "item_name": "hat",
        "count": 3,
        "big": 0,
        "colour": "COLOUR_UNSPECIFIED",
        "sizes": [],
        "stock": {},
        "picture": "",
        "price": 0,
    }


async def test_values_of_every_kind_come_back_as_they_were_sent(runs: Runs, shop: Shop, proto: str) -> None:
    sent = {
        "item_name": "hat",
        "count": -7,
        "big": 12,
        "colour": "COLOUR_RED",
        "sizes": [1, 2],
        "stock": {"here": 5},
        "made_at": "2026-11-30T10:00:00Z",
        "extra": {"@type": "type.googleapis.com/shop.v1.Item", "item_name": "ribbon", "count": 1},
        "more": {"n": [1, "two", None]},
        "perhaps": 9,
        "part": {"item_name": "brim", "rank": 0},
        "picture": "aGF0",
        "price": 1.5,
    }
    output = await runs.output(call(shop, proto, "Order", "'${ . }'"), sent)
    assert {key: output[key] for key in sent if key not in ("extra", "part")} == {
        key: value for key, value in sent.items() if key not in ("extra", "part")
    }
    assert output["extra"]["item_name"] == "ribbon"
    assert output["extra"]["count"] == 1
    assert output["part"]["item_name"] == "brim"
    assert output["part"]["rank"] == 0


async def test_a_whole_number_of_64_bits_stays_exact(runs: Runs, shop: Shop, proto: str) -> None:
    definition = call(shop, proto, "Order", f"{{big: {BIG}, sizes: ['{2**63 - 1}']}}")
    output = await runs.output(definition + "\n- text: {set: {big: '${ .big | tostring }', sizes: '${ .sizes }'}}")
    # Beyond what a double holds, the contract's values are texts.
    assert output == {"big": str(BIG), "sizes": [str(2**63 - 1)]}


@pytest.mark.requirement("grpc.streams")
async def test_a_stream_of_arguments_is_a_list_or_the_items_of_messages(runs: Runs, shop: Shop, proto: str) -> None:
    items = [{"item_name": "a", "count": 1}, {"item_name": "b", "count": 2}]
    listed = await runs.output(call(shop, proto, "Count", "'${ .items }'"), {"items": items})
    named = await runs.output(call(shop, proto, "Count", "{messages: '${ .items }'}"), {"items": items})
    one = await runs.output(call(shop, proto, "Count", "{item_name: c, count: 5}"))
    none = await runs.output(call(shop, proto, "Count"))
    assert [(each["item_name"], each["count"]) for each in (listed, named, one, none)] == [
        ("b", 3),
        ("b", 3),
        ("c", 5),
        ("", 0),
    ]


@pytest.mark.requirement("grpc.streams")
async def test_a_stream_of_answers_is_an_array(runs: Runs, shop: Shop, proto: str) -> None:
    output = await runs.output(call(shop, proto, "Browse", "{item_name: hat, count: 3}"))
    assert [(each["item_name"], each["count"]) for each in output] == [("hat", 0), ("hat", 1), ("hat", 2)]


@pytest.mark.requirement("grpc.streams")
async def test_streams_both_ways_are_lists(runs: Runs, shop: Shop, proto: str) -> None:
    output = await runs.output(call(shop, proto, "Haggle", "{messages: [{count: 10}, {count: 20}]}"))
    assert [each["count"] for each in output] == [9, 19]


async def test_a_stream_without_end_is_bounded(start_runner: StartRunner, shop: Shop, proto: str) -> None:
    runs = await start_runner(max_response_bytes=20_000)
    error = await runs.error(call(shop, proto, "Browse", "{item_name: hat, count: 1000000000}"))
    assert error["type"].endswith("/errors/communication")
    assert "longer than 10000 messages or 20000 bytes" in error["detail"]


@pytest.mark.requirement("grpc.reflection")
async def test_the_server_describes_itself_where_there_is_no_proto(runs: Runs, shop: Shop) -> None:
    output = await run_stored(runs, reflected(shop, "Order", {"itemName": "hat", "count": 2}))
    assert (output["item_name"], output["count"]) == ("hat", 2)


async def test_reflection_is_asked_in_its_first_version_too(runs: Runs) -> None:
    files = {"shop.proto": PROTO.encode(), "shop/v1/types.proto": TYPES.encode()}
    pool = described_by(await compiled(Sources(root="shop.proto", files=files), 30)).pool

    async def order(request: Any, _: Any) -> Any:
        return request

    class At:
        port = 0

    server = Server([bind(pool, SERVICE, {"Order": order})], pool=pool)
    (address,) = await server.start("localhost:0")
    At.port = int(address.rpartition(":")[2])
    try:
        output = await run_stored(runs, reflected(At, "Order", {"item_name": "hat"}))
    finally:
        await server.stop(grace=0)
    assert output["item_name"] == "hat"


async def test_a_server_without_reflection_needs_a_proto(runs: Runs) -> None:
    async with shop_server(reflects=False) as shop:
        execution = runs.add("")
        execution.tasks = reflected(shop, "Order")
        handle = await runs.start(execution)
        await runs.peer.until(execution, lambda seen: seen.phase == "FAILED")
        assert "say where its `proto` is" in execution.error["detail"]
        assert handle is not None


async def test_a_question_whose_refusal_grpcio_has_lost_is_asked_again() -> None:
    """As it is when the server refuses the stream just while the question is written; seen once in thousands."""

    def lost(details: str) -> grpc.aio.AioRpcError:
        return grpc.aio.AioRpcError(grpc.StatusCode.INTERNAL, grpc.aio.Metadata(), grpc.aio.Metadata(), details)

    class Stream:
        async def write(self, _: Any) -> None:
            if errors:
                raise lost(errors.pop())
            raise grpc.aio.AioRpcError(grpc.StatusCode.UNIMPLEMENTED, grpc.aio.Metadata(), grpc.aio.Metadata())

        def cancel(self) -> None:
            pass

    class Channel:
        def stream_stream(self, *_: Any, **__: Any) -> Any:
            return self.stream

        def stream(self, **_: Any) -> Stream:
            return Stream()

    channel: Any = Channel()
    errors = ["Internal error from Core"] * 3
    with pytest.raises(CallFailedError, match="say where its `proto` is"):
        await reflect(channel, "x.Y", metadata=[], seconds=1)
    errors = ["broken"]
    with pytest.raises(grpc.aio.AioRpcError, match="broken"):
        await reflect(channel, "x.Y", metadata=[], seconds=1)
    errors = ["Internal error from Core"] * 100
    with pytest.raises(grpc.aio.AioRpcError, match="Internal error from Core"):
        await reflect(channel, "x.Y", metadata=[], seconds=1)


@pytest.mark.requirement("error.raised", "call.communication")
async def test_each_status_is_a_standard_error(runs: Runs, shop: Shop, proto: str) -> None:
    codes = [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK]
    attempt = call(shop, proto, "Fail", "{code: '${ $item }', message: no such luck}").removeprefix("do:\n- ")
    definition = f"""
do:
- each:
    for: {{in: '.codes'}}
    do:
    - tried: {{try: [{{{attempt}}}], catch: {{as: error, do: [{{keep: {{set: {{error: '${{ $error }}'}}}}}}]}}}}
    - add: {{set: {{errors: '${{ $context.errors + [.error] }}'}}, export: {{as: .}}}}
"""
    output = await runs.output(definition, {"codes": [code.value[0] for code in codes], "errors": []})
    for code, error in zip(codes, output["errors"], strict=True):
        name, status = next(meaning for known, meaning in ERRORS.items() if known == code.value[0])
        assert error["type"].endswith(f"/errors/{name}")
        assert error["status"] == status
        assert f"ended with {code.name}: no such luck" in error["detail"]


async def test_violations_that_a_server_tells_are_in_the_error(runs: Runs, shop: Shop, proto: str) -> None:
    error = await runs.error(call(shop, proto, "Fail", "{code: 3, message: bad}"))
    assert "item_name: must not be empty" in error["detail"]


async def test_what_there_is_instead_of_an_unknown_service_or_method_is_told(
    runs: Runs, shop: Shop, proto: str
) -> None:
    method = await runs.error(call(shop, proto, "Ordre"))
    assert "has no method 'Ordre' (did you mean Order?); there are: Browse, Count" in method["detail"]
    service = await runs.error(call(shop, proto, "Order", service="shop.v2.Shop"))
    assert "there is no service 'shop.v2.Shop' (did you mean shop.v1.Shop?)" in service["detail"]
    execution = runs.add("")
    execution.tasks = reflected(shop, "Order", service="shop.v1.Shp")
    await runs.start(execution)
    await runs.peer.until(execution, lambda seen: seen.phase == "FAILED")
    assert "there is no service 'shop.v1.Shp' (did you mean shop.v1.Shop?)" in execution.error["detail"]


async def test_the_package_may_be_left_out(runs: Runs, shop: Shop, proto: str) -> None:
    assert (await runs.output(call(shop, proto, "Order", "{count: 1}", service="Shop")))["count"] == 1
    assert (await run_stored(runs, reflected(shop, "Order", {"count": 1}, service="Shop")))["count"] == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("{colour: COLOUR_GREEN}", "colour"),
        ("{nonsense: 1}", 'no field named "nonsense"'),
        ("{part: {count: many}}", "Failed to parse part field: Failed to parse count field"),
        ("'${ [1] }'", "must be an object"),
        ("{extra: {'@type': 'type.googleapis.com/no.Such'}}", "no.Such"),
    ],
)
async def test_bad_arguments_tell_the_field(runs: Runs, shop: Shop, proto: str, arguments: str, said: str) -> None:
    error = await runs.error(call(shop, proto, "Order", arguments))
    assert error["type"].endswith("/errors/validation")
    assert said in error["detail"]
    assert shop.orders == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('syntax = "proto3"; import "no/such.proto";', "imports 'no/such.proto', which is in none of"),
        ('syntax = "proto3"; import "../../etc/passwd";', "which is no path below a folder"),
        ('syntax = "proto3"; message A { nothing here }', "the proto is not valid: bad.proto:1"),
    ],
)
async def test_a_proto_that_is_not_valid_says_where(runs: Runs, shop: Shop, site: Site, text: str, said: str) -> None:
    site.page("/bad.proto", Response(text.encode()))
    error = await runs.error(call(shop, f"{site.url}/bad.proto", "Order"))
    assert error["type"].endswith("/errors/configuration")
    assert said in error["detail"]


@pytest.mark.requirement("resource.fetch")
async def test_a_proto_is_read_from_the_folder_that_the_operator_allows(
    start_runner: StartRunner, shop: Shop, tmp_path: Path
) -> None:
    (tmp_path / "shop" / "v1").mkdir(parents=True)
    (tmp_path / "shop" / "v1" / "types.proto").write_text(TYPES)
    (tmp_path / "shop.proto").write_text(PROTO)
    runs = await start_runner(resources_folder=tmp_path)
    assert (await runs.output(call(shop, f"file://{tmp_path}/shop.proto", "Order", "{count: 1}")))["count"] == 1


@pytest.mark.requirement("grpc.tls")
async def test_tls_is_spoken_where_the_task_says_so(start_runner: StartRunner, proto: str, tmp_path: Path) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    chain = b"".join(part.bytes() for part in issued.cert_chain_pems)
    credentials = grpc.ssl_server_credentials([(issued.private_key_pem.bytes(), chain)])
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    async with shop_server(credentials=credentials) as shop:
        definition = call(shop, proto, "Order", "{count: 1}") + "\n  "
        secure = definition.replace("- call: {call", "- call: {metadata: {tls: true}, call")
        runs = await start_runner(outbound_ca=tmp_path / "ca.pem")
        assert (await runs.output(secure))["count"] == 1
        assert (await runs.error(definition))["status"] == 503
        # An authority that nobody knows is not trusted.
        strangers = await start_runner()
        assert (await strangers.error(secure))["status"] == 503


@pytest.mark.requirement("grpc.authentication")
async def test_authentication_is_sent_as_metadata(runs: Runs, shop: Shop, proto: str) -> None:
    basic = ", authentication: {basic: {username: me, password: '${ $secrets.TOKEN }'}}"
    bearer = ", authentication: {bearer: {token: '${ $secrets.TOKEN }'}}"
    for more in (basic, bearer):
        definition = "use: {secrets: [TOKEN]}\n" + call(shop, proto, "Order", "{count: 1}", more=more)
        await runs.output(definition, secrets={"TOKEN": "tok-1234"})
    assert [each["authorization"] for each in shop.metadata] == ["Basic bWU6dG9rLTEyMzQ=", "Bearer tok-1234"]


async def test_a_call_ends_with_the_timeout_of_its_task(runs: Runs, shop: Shop, proto: str) -> None:
    await runs.output(call(shop, proto, "Order"))
    error = await runs.error(call(shop, proto, "Sleep").replace("{call: grpc", "{timeout: {after: PT0.5S}, call: grpc"))
    assert error["type"].endswith("/errors/timeout")
    assert error["status"] == 408
    async with asyncio.timeout(20):
        await shop.cancelled.wait()


@pytest.mark.requirement("outbound.guard")
async def test_the_outbound_guard_stands_before_it(start_runner: StartRunner, shop: Shop) -> None:
    runs = await start_runner(outbound_allow_loopback=False)
    execution = runs.add("")
    execution.tasks = reflected(shop, "Order")
    await runs.start(execution)
    await runs.peer.until(execution, lambda seen: seen.phase == "FAILED")
    assert execution.error["type"].endswith("/errors/authorization")
    assert "policy refuses" in execution.error["detail"]
    assert shop.metadata == []


@pytest.mark.parametrize("host", ["metadata.google.internal", "169.254.169.254", "0x7f000001"])
async def test_hosts_that_are_never_allowed_are_refused(runs: Runs, shop: Shop, proto: str, host: str) -> None:
    error = await runs.error(call(shop, proto, "Order").replace("host: localhost", f"host: '{host}'"))
    assert error["status"] in (400, 403)


async def test_a_server_that_comes_back_is_found_again(runs: Runs, shop: Shop, proto: str) -> None:
    await runs.output(call(shop, proto, "Order"))
    await shop.stop()
    assert (await runs.error(call(shop, proto, "Order")))["status"] == 503


def test_digest_authentication_is_refused_beforehand() -> None:
    where = "{name: a.B, host: localhost, authentication: {digest: {username: a, password: b}}}"
    text = f"do:\n- c: {{call: grpc, with: {{proto: {{endpoint: 'http://x/a.proto'}}, service: {where}, method: M}}}}"
    problems = [(problem.pointer, problem.message) for problem in unsupported(parse(HEADER + text))]
    assert problems == [
        ("/do/0/c/with/service/authentication/digest", "task 'c': digest authentication is one of HTTP alone")
    ]


def test_protoc_is_run_where_standard_output_is_a_socket_too() -> None:
    files = {"shop.proto": PROTO.encode(), "shop/v1/types.proto": TYPES.encode()}
    # A service's own loop is uvloop, which makes sockets of what others make pipes of.
    assert SERVICE in described_by(run(compiled(Sources(root="shop.proto", files=files), 30))).services
