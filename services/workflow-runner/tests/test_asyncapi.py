"""Messages by AsyncAPI documents, published to and consumed from real sockets."""

import asyncio
import json
import socket
import ssl
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
import trustme
from workflow_runner.activities.asyncapi import protocols
from workflow_runner.testing import Request, Response, Runs, Site, StartRunner
from workflow_runner.testing.brokers import (
    Broker,
    amqp_broker,
    mqtt_broker,
    nats_broker,
    redis_broker,
    websocket_broker,
)

ITEM = {
    "type": "object",
    "required": ["n"],
    "properties": {"n": {"$ref": "#/components/schemas/Number"}},
}


def document(protocol: str, port: int, **more: Any) -> dict[str, Any]:
    """A version 3 document of one channel."""
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "Pets", "version": "1"},
        "servers": {
            "main": {"host": "localhost:{port}", "protocol": protocol, "variables": {"port": {"default": str(port)}}}
        },
        "channels": {
            "pets": {
                "address": "pets",
                "messages": {
                    "pet": {
                        "payload": ITEM,
                        "correlationId": {"location": "$message.payload#/id"},
                    }
                },
                **more,
            }
        },
        "operations": {
            "send": {"action": "send", "channel": {"$ref": "#/channels/pets"}},
            "receive": {"action": "receive", "channel": {"$ref": "#/channels/pets"}},
        },
        "components": {"schemas": {"Number": {"type": "integer"}}},
    }


def old_document(protocol: str, port: int) -> str:
    """A version 2 document, as YAML."""
    return f"""
asyncapi: 2.6.0
info: {{title: Pets, version: '1'}}
servers:
  far: {{url: 'amqp1://far.example.com', protocol: amqp1}}
  main: {{url: 'localhost:{port}', protocol: {protocol}}}
channels:
  pets/{{kind}}:
    parameters: {{kind: {{schema: {{type: string, default: cats}}}}}}
    publish: {{operationId: tell, message: {{payload: {{type: object}}}}}}
    subscribe: {{operationId: hear, message: {{oneOf: [{{payload: {{type: object}}}}]}}}}
"""


def call(site: Site, rest: str, *, operation: str = "operation: send") -> str:
    with_ = f"{{document: {{endpoint: '{site.url}/asyncapi'}}, {operation}, {rest}}}"
    return f"do:\n- call: {{call: asyncapi, with: {with_}}}"


def consume(site: Site, subscription: str, more: str = "") -> str:
    return call(site, f"subscription: {subscription}{more}", operation="operation: receive")


BROKERS = {
    "ws": websocket_broker,
    "amqp": amqp_broker,
    "nats": nats_broker,
    "mqtt": mqtt_broker,
    "redis": redis_broker,
}


@pytest.fixture(params=list(BROKERS))
async def protocol(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
async def broker(protocol: str, site: Site) -> AsyncGenerator[Broker]:
    made: AbstractAsyncContextManager[Broker] = BROKERS[protocol]()
    async with made as broker:
        site.page("/asyncapi", document(protocol, broker.port))
        yield broker


@pytest.mark.requirement("asyncapi.publish", "asyncapi.protocols")
async def test_a_message_is_published_and_the_input_passes(runs: Runs, site: Site, broker: Broker) -> None:
    definition = call(site, "message: {payload: {n: '${ .n + 1 }'}, headers: {Kind: cat}}")
    assert await runs.output(definition, {"n": 1}) == {"n": 1}
    await broker.until(lambda seen: bool(seen.received))
    last = broker.received[0]
    assert (last[-1] if isinstance(last, tuple) else last) == {"n": 2}


@pytest.mark.requirement("asyncapi.message", "asyncapi.consume", "asyncapi.lifetime", "asyncapi.protocols")
async def test_an_amount_of_messages_is_consumed(runs: Runs, site: Site, broker: Broker) -> None:
    execution = runs.add(consume(site, "{consume: {amount: 3}}"))
    handle = await runs.start(execution)
    await broker.say({"n": 1, "id": "a"}, {"n": 2}, {"n": 3})
    await handle.result()
    assert [each["payload"]["n"] for each in execution.output] == [1, 2, 3]
    assert execution.output[0]["correlationId"] == "a"
    await broker.until(lambda seen: seen.listeners == 0)


@pytest.mark.requirement("asyncapi.consume", "asyncapi.lifetime", "asyncapi.foreach")
async def test_messages_are_filtered_and_processed_one_by_one(runs: Runs, site: Site, broker: Broker) -> None:
    execution = runs.add(
        consume(
            site,
            """{
              filter: '${ .payload.n > 1 }',
              consume: {while: '${ .payload.n < 4 }'},
              foreach: {
                item: pet, at: place,
                do: [{double: {set: {n: '${ $pet.payload.n * 2 }', place: '${ $place }'}}}],
                output: {as: '${ .n }'}, export: {as: '${ [$context[]?, $output] }'}
              }
            }""",
        )
        + "\n- all: {set: {outputs: '${ . }', context: '${ $context }'}}"
    )
    handle = await runs.start(execution)
    await broker.say({"n": 1}, {"n": 2}, {"n": 1}, {"n": 3}, {"n": 4}, {"n": 5})
    await handle.result()
    assert execution.output == {"outputs": [4, 6, 8], "context": [4, 6, 8]}


@pytest.mark.requirement("asyncapi.lifetime")
async def test_consumption_ends_before_the_message_that_says_so(
    runs: Runs, site: Site, broker: Broker, protocol: str
) -> None:
    execution = runs.add(consume(site, "{consume: {until: '${ .payload.n == 3 }'}}"))
    handle = await runs.start(execution)
    await broker.say({"n": 1}, {"n": 2}, {"n": 3}, {"n": 4})
    await handle.result()
    assert [each["payload"]["n"] for each in execution.output] == [1, 2]
    if protocol == "amqp":
        # What was not wanted is there for others.
        await broker.until(lambda seen: seen.listeners == 0)
        assert [json.loads(content)["n"] for content, _ in broker.seen["left"]] == [3, 4]


@pytest.mark.requirement("asyncapi.lifetime")
async def test_consumption_ends_when_its_time_is_over(runs: Runs, site: Site, broker: Broker) -> None:
    output = await runs.output(consume(site, "{consume: {amount: 3, for: {milliseconds: 300}}}"))
    assert output == []
    await broker.until(lambda seen: seen.listeners == 0)


@pytest.mark.requirement("asyncapi.document")
async def test_what_does_not_fit_the_document_is_not_published(runs: Runs, site: Site, broker: Broker) -> None:
    error = await runs.error(call(site, "message: {payload: {n: many}}"))
    assert error["type"].endswith("/errors/validation")
    assert "payload/n: 'many' is not of type 'integer'" in error["detail"]
    assert broker.received == []


@pytest.mark.requirement("asyncapi.document")
@pytest.mark.parametrize("protocol", ["nats"], indirect=True)
async def test_a_document_of_version_2_says_the_same(runs: Runs, site: Site, broker: Broker) -> None:
    site.page("/asyncapi", Response(old_document("nats", broker.port).encode()))
    execution = runs.add(call(site, "subscription: {consume: {amount: 1}}", operation="channel: 'pets/{kind}'"))
    handle = await runs.start(execution)
    await broker.until(lambda seen: seen.listeners == 1)
    await runs.output(call(site, "message: {payload: {n: 1}, headers: {Kind: cat}}", operation="operation: tell"))
    await handle.result()
    (message,) = execution.output
    assert message["payload"] == {"n": 1}
    assert message["headers"] == {"Kind": "cat", "Content-Type": "application/json", "subject": "pets/cats"}


@pytest.mark.requirement("asyncapi.server")
@pytest.mark.parametrize(
    ("rest", "said"),
    [
        ("operation: shout", "has no operation 'shout'; there are: send, receive"),
        ("channel: dogs", "has no channel 'dogs'"),
        ("operation: send, server: {name: other}", "has no server named 'other'; it has: main (jms), slow (ws)"),
        ("operation: send, server: {name: main}", "the protocol 'jms' is not spoken; those that are: "),
        ("operation: send, protocol: kafka", "has no server that speaks kafka"),
        ("operation: send, server: {name: slow}", "kind has no value; give it in `server.variables`"),
        (
            "operation: send, server: {name: slow, variables: {kind: z}}",
            "the server variable kind is 'z', and may be: a, b",
        ),
    ],
)
async def test_what_a_document_lacks_is_told(runs: Runs, site: Site, rest: str, said: str) -> None:
    text = document("jms", 1)
    text["servers"]["slow"] = {"host": "{kind}:1", "protocol": "ws", "variables": {"kind": {"enum": ["a", "b"]}}}
    site.page("/asyncapi", text)
    error = await runs.error(call(site, "message: {payload: {n: 1}}", operation=rest))
    assert error["type"].endswith("/errors/configuration")
    assert said in error["detail"]


@pytest.mark.requirement("asyncapi.server")
@pytest.mark.parametrize("protocol", ["nats"], indirect=True)
async def test_a_server_is_the_first_of_a_protocol_or_one_that_is_named_with_its_variables(
    runs: Runs, site: Site, broker: Broker
) -> None:
    text = document("jms", 1)
    variables = {"place": {"default": "localhost"}, "port": {"default": str(broker.port)}}
    text["servers"]["other"] = {"host": "{place}:{port}", "protocol": "nats", "variables": variables}
    text["servers"]["far"] = {**text["servers"]["other"], "variables": {"place": {}, "port": {}}}
    site.page("/asyncapi", text)
    await runs.output(call(site, "protocol: nats, message: {payload: {n: 1}}"))
    chosen = f"server: {{name: far, variables: {{place: localhost, port: '{broker.port}'}}}}"
    await runs.output(call(site, f"{chosen}, message: {{payload: {{n: 2}}}}"))
    await broker.until(lambda seen: [body for _, _, body in seen.received] == [{"n": 1}, {"n": 2}])


@pytest.mark.requirement("asyncapi.publish", "asyncapi.protocols")
async def test_a_message_goes_by_http_as_the_binding_says(runs: Runs, site: Site) -> None:
    text = document("http", int(site.url.rpartition(":")[2]))
    text["operations"]["send"]["bindings"] = {"http": {"method": "PUT"}}
    site.page("/asyncapi", text)
    site.page("/pets", lambda request: Response({}, 200 if request.method == "PUT" else 405))
    definition = call(site, "message: {payload: {n: 1}, headers: {X-Kind: cat}}, authentication: {bearer: {token: t}}")
    await runs.output(definition)
    (request,) = site.seen("/pets")
    assert (request.json, request.headers["x-kind"]) == ({"n": 1}, "cat")
    assert request.headers["authorization"] == "Bearer t"
    site.page("/pets", Response({"why": "full"}, 503))
    error = await runs.error(definition)
    assert error["status"] == 503
    assert "full" in error["detail"]


@pytest.mark.requirement("asyncapi.consume", "asyncapi.protocols")
async def test_messages_come_by_http_as_answers_to_repeated_requests(runs: Runs, site: Site) -> None:
    answers = iter([Response({"n": 1}), Response({"n": 2})])
    site.page("/asyncapi", document("http", int(site.url.rpartition(":")[2])))
    site.page("/pets", lambda _: next(answers, Response(b"", 204)))
    output = await runs.output(consume(site, "{consume: {amount: 2}}"))
    assert [each["payload"] for each in output] == [{"n": 1}, {"n": 2}]


async def test_server_sent_events_go_on_after_the_last_one(runs: Runs, site: Site) -> None:
    site.page("/asyncapi", document("http", int(site.url.rpartition(":")[2])))

    def events(request: Request) -> Response:
        last = int(request.headers.get("last-event-id", "0"))
        text = f": hello\nid: {last + 1}\nevent: pet\ndata: {json.dumps({'n': last + 1})}\n\n"
        return Response(text.encode(), headers={"content-type": "text/event-stream"})

    site.page("/pets", events)
    output = await runs.output(consume(site, "{consume: {amount: 2}}"))
    assert output == [
        {"payload": {"n": 1}, "headers": {"event": "pet", "id": "1"}},
        {"payload": {"n": 2}, "headers": {"event": "pet", "id": "2"}},
    ]


async def test_a_subscription_outlives_its_connection_where_the_broker_keeps_it(runs: Runs, site: Site) -> None:
    async with mqtt_broker() as broker:
        site.page("/asyncapi", document("mqtt", broker.port))
        consumed = asyncio.Event()

        def tell(_: Request) -> Response:
            consumed.set()
            return Response({})

        site.page("/got", tell)
        told = f"{{call: http, with: {{method: post, endpoint: '{site.url}/got'}}}}"
        each = f"foreach: {{do: [{{tell: {told}}}, {{keep: {{set: '${{ $item.payload.n }}'}}}}]}}"
        execution = runs.add(consume(site, f"{{consume: {{amount: 3}}, {each}}}"))
        handle = await runs.start(execution)
        await broker.say({"n": 1})
        async with asyncio.timeout(20):
            await consumed.wait()
        await broker.cut()
        await broker.say({"n": 2}, {"n": 3})
        await handle.result()
        assert execution.output == [1, 2, 3]


@pytest.mark.parametrize("kind", ["nats", "mqtt"])
async def test_credentials_are_given_as_the_protocol_asks(runs: Runs, site: Site, kind: str) -> None:
    made = nats_broker(token="tok-1234") if kind == "nats" else mqtt_broker(password="tok-1234")
    policy = "{bearer: {token: TOKEN}}" if kind == "nats" else "{basic: {username: me, password: TOKEN}}"
    async with made as broker:
        site.page("/asyncapi", document(kind, broker.port))
        right = call(site, f"message: {{payload: {{n: 1}}}}, authentication: {policy.replace('TOKEN', 'tok-1234')}")
        await runs.output(right)
        error = await runs.error(call(site, "message: {payload: {n: 1}}"))
        assert error["type"].endswith("/errors/authentication")
        assert len(broker.received) == 1


@pytest.mark.requirement("outbound.guard")
@pytest.mark.parametrize("kind", ["ws", "nats", "mqtt", "redis", "kafka", "amqp"])
async def test_the_outbound_guard_stands_before_every_broker(start_runner: StartRunner, site: Site, kind: str) -> None:
    text = document(kind, 1)
    text["servers"]["main"]["host"] = "169.254.169.254:1"
    site.page("/asyncapi", text)
    runs = await start_runner()
    error = await runs.error(call(site, "message: {payload: {n: 1}}"))
    assert error["type"].endswith("/errors/authorization")
    assert "never allowed" in error["detail"]


@pytest.mark.requirement("call.communication")
async def test_a_broker_that_is_away_is_a_communication_error(runs: Runs, site: Site) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    for kind in ("ws", "nats", "mqtt"):
        site.page(f"/asyncapi/{kind}", document(kind, port))
        for definition in (call(site, "message: {payload: {n: 1}}"), consume(site, "{consume: {amount: 1}}")):
            error = await runs.error(definition.replace("/asyncapi'", f"/asyncapi/{kind}'"))
            assert error["type"].endswith("/errors/communication")
            assert error["status"] == 503
            assert f"localhost:{port}" in error["detail"]


@pytest.mark.requirement("asyncapi.protocols", "problems.unsupported")
async def test_a_protocol_that_is_not_spoken_is_refused_before_anything_is_done(runs: Runs, site: Site) -> None:
    error = await runs.error(call(site, "protocol: jms, message: {payload: {n: 1}}"))
    assert "/do/0/call/with/protocol: the protocol 'jms' is not spoken" in error["detail"]
    assert site.requests == []


async def test_a_library_that_is_missing_is_named_with_what_to_install(
    runs: Runs, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing(_: str) -> None:
        """Find no library."""

    monkeypatch.setattr(protocols, "find_spec", nothing)
    error = await runs.error(call(site, "protocol: kafka, message: {payload: {n: 1}}"))
    assert "pip install 'workflow-runner[kafka]'" in error["detail"]


async def test_tls_expects_the_name_though_the_address_was_looked_up_before(
    start_runner: StartRunner, site: Site, tmp_path: Path
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    runs = await start_runner(outbound_ca=tmp_path / "ca.pem")
    for name, holds in (("localhost", True), ("elsewhere.example", False)):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        issued = authority.issue_cert(name)
        with issued.private_key_and_cert_chain_pem.tempfile() as file:
            context.load_cert_chain(file)
        async with websocket_broker(context) as broker:
            site.page(f"/asyncapi/{name}", document("wss", broker.port))
            definition = call(site, "message: {payload: {n: 1}}").replace("/asyncapi'", f"/asyncapi/{name}'")
            execution = await runs.run(definition)
            assert (execution.phase == "COMPLETED") is holds
            assert holds or "certificate is not valid for 'localhost'" in execution.error["detail"]
