"""Records the histories that test_replay.py replays: one of every construct, on a server of its own.

Run it after a change that is meant to change what new runs do, never to make a failing replay pass: runs that
are in flight have the old histories.

    python services/workflow-runner/tests/histories/record.py [NAME ...]

With names, only those histories are recorded, and the others stay: so what is new gets a history beside the old ones.
"""

import asyncio
import itertools
import json
import re
import sys
import tempfile
import uuid
from datetime import timedelta
from pathlib import Path
from typing import Any

from agent_runner.settings import Settings as AgentSettings
from agent_runner.worker import serve as serve_agents
from stigmer_protos import descriptors
from stigmer_runner.testing import temporal_server
from stigmer_server.testing import ServerProcess, manifest
from temporalio import activity
from temporalio.client import Client, WorkflowFailureError
from temporalio.common import RawValue
from temporalio.exceptions import ApplicationError
from temporalio.worker import Worker
from workflow_runner import names
from workflow_runner.cloud import EXECUTE
from workflow_runner.settings import Settings
from workflow_runner.testing import (
    HEADER,
    Execution,
    Request,
    Response,
    RunnerProcess,
    Runs,
    Site,
    peer_server,
    site_server,
)
from workflow_runner.testing.containers import container_engine
from workflow_runner.testing.shop import PROTO, SERVICE, TYPES, shop_server
from workflow_runner.worker import serve

FOLDER = Path(__file__).parent
BLOBS = FOLDER / "blobs"
"""What the history of `large` refers to."""
_MACHINE = re.compile(r"\b\d+@[\w.-]+")
"""Process and host, as identities and sticky queues have them."""
_FOREIGN = "foreign"
"""Queue of a worker that is not the runner's."""
_ONCE = "{retryPolicy: {maximumAttempts: 1}}"
_SECRETS = {"TOKEN": "tok-1234", "LOGIN": '{"username": "me", "password": "pass-1234"}'}
_FIRE = "schedule-fire"
_PARENTS = ("run-workflow", "run-workflow-told")
"""What these run is started by the real server; of the second, tasks tell which execution they wait for."""
_DRIVEN = "driven"
_CHILDREN = {
    "double": "do:\n- it: {set: '${ .n * 2 }'}",
    "broken": "do:\n- it: {raise: {error: {type: 'https://example.com/no', status: 418}}}",
    "endless": "do:\n- it: {wait: PT1H}",
}
"""What the parent runs."""
_WAITS = 1000
"""WorkflowTaskStatus: waiting for approval."""
_PAUSES = "\n".join(f"    - pause{index}: {{wait: {{milliseconds: 5}}}}" for index in range(6))

DOCUMENTS: dict[str, str] = {
    "own-calls": """
do:
- shape: {call: transform, with: {as: '{id: .n}'}}
- check: {call: validate, with: {schema: {document: {type: object, required: [id]}}}}
- told: {call: notification, with: {message: Done, data: {n: 1}, endpoint: SITE/pets}}
- published: {call: notification, with: {message: '${ .message }'}}
""",
    "models": """
do:
- ask: {call: llm_call, with: {prompt: '${ "n is \\(.n)" }', output: all}}
- judge: {call: eval, with: {input: x, criteria: ['${ length < 9 }']}}
- both:
    fork:
      branches:
      - one: {call: llm_call, with: {prompt: Hi, timeout: 20}}
      - two: {try: [{no: {call: llm_call, with: {model: 'scripted:none', prompt: Hi}}}], catch: {}}
""",
    "call-agent": """
use: {secrets: [TOKEN]}
do:
- one: {call: agent, with: {agent: clerk, message: One, env: {T: '${.secrets.TOKEN}'}, output: execution}}
- two:
    try: [{ask: {call: agent, with: {agent: clerk, message: Two, config: {timeout: 60}}}}]
    catch: {do: [{no: {set: {said: '${ $error.detail }'}}}]}
- three:
    try: [{ask: {call: agent, with: {agent: clerk, message: Three, config: {timeout: 1}}}}]
    catch: {errors: {with: {status: 408}}}
""",
    "call-agent-files": """
do:
- one:
    call: agent
    with:
      {agent: clerk, message: One, files: [{path: a.json, content: '${ . }'}], collect: ['*.txt'], output: execution}
- two:
    try:
    - ask: {call: agent, with: {agent: clerk, message: Two, files: '${ .files }', collect: [c], output: execution}}
    catch: {do: [{no: {set: {said: '${ $error.detail }'}}}]}
- three:
    try: [{ask: {call: agent, with: {agent: nobody, message: Three, files: [{path: a, content: b}]}}}]
    catch: {}
""",
    "human-input": """
do:
- ask: {call: human_input, with: {message: Go?, form: {document: {type: object}}, deadline: P1D, default: reject}}
- b:
    fork:
      compete: true
      branches: [{one: {call: human_input, with: {message: One?}}}, {two: {call: human_input, with: {message: Two?}}}]
- late: {call: human_input, with: {message: Late?, deadline: {milliseconds: 20}, default: approve}}
""",
    "set": "do:\n- a: {set: {n: '${ .n + 1 }'}, output: {as: '{m: .n}'}, export: {as: .}}\n- b: {set: '${ $context }'}",
    "guarded": "do:\n- l: {for: {in: '[range(25)]'}, do: [{s: {set: {x: '${ \"a\" | test(\"a\") }'}}}]}",
    "switch": "do:\n- w: {switch: [{a: {when: .n > 5, then: end}}, {b: {then: x}}]}\n- x: {set: {n: 9}}",
    "jumps": "do:\n- add: {set: {n: '${ .n + 1 }'}}\n- again: {if: .n < 4, set: '${ . }', then: add}",
    "for": "do:\n- l: {for: {in: '[1, 2, 3]'}, while: .n < 4, do: [{add: {set: {n: '${ .n + $item }'}}}]}",
    "do-and-end": "do:\n- o: {do: [{i: {do: [{a: {set: {n: 1}, then: end}}]}}]}\n- never: {set: {n: 2}}",
    "raise": "do:\n- boom: {raise: {error: {type: 'https://example.com/boom', status: 418, title: '${ \"no\" }'}}}",
    "try": """
do:
- t:
    try: [{boom: {raise: {error: {type: 'https://example.com/boom', status: 418}}}}]
    catch:
      retry:
        delay: {milliseconds: 5}
        backoff: {exponential: {}}
        jitter: {from: {milliseconds: 1}, to: {milliseconds: 5}}
        limit: {attempt: {count: 2, duration: {seconds: 5}}}
      do: [{tell: {set: {s: '${ $error.status }'}}}]
""",
    "run-shell": """
do:
- all: {run: {shell: {command: 'cat; echo $1 $A', arguments: ['${ .n }'], stdin: x, environment: {A: 1}}, return: all}}
- bad: {try: [{it: {run: {shell: {command: exit 3}}}}], catch: {}}
- alone: {run: {shell: {command: 'true'}, await: false}}
""",
    "run-script": """
do:
- code: {run: {script: {language: python, code: 'print(6 * 7)'}}}
- source: {run: {script: {language: python, source: {endpoint: SITE/script.py}}, return: code}}
""",
    "run-container": """
do:
- it: {run: {container: {image: alpine, command: echo, arguments: ['${ .n }'], environment: {A: '${ .n }'}}}}
- alone: {run: {container: {image: alpine, lifetime: {cleanup: eventually, after: PT1M}}, await: false, return: none}}
""",
    "large": """
do:
- get: {call: http, with: {method: get, endpoint: SITE/large}, export: {as: .}}
- l: {for: {in: '[range(8)]'}, do: [{w: {wait: {milliseconds: 2}}}]}
- post: {call: http, with: {method: post, endpoint: SITE/pet, body: '${ $context }'}}
""",
    "wait": "do:\n- short: {wait: {milliseconds: 5}}\n- long: {wait: PT0.6S}",
    "timeouts": "do:\n- t: {try: [{w: {timeout: {after: PT0.05S}, wait: PT30S}}], catch: {do: [{x: {set: {n: 1}}}]}}",
    "workflow-timeout": "timeout: {after: {milliseconds: 50}}\ndo:\n- w: {wait: PT30S}",
    "head": """
use: {secrets: [TOKEN]}
timeout: {after: PT1M}
do:
- a: {call: http, with: {method: get, endpoint: SITE/pet, headers: {T: '${ $secrets.TOKEN }'}}, export: {as: .}}
- b: {try: [{no: {call: http, with: {method: get, endpoint: SITE/missing}}}], catch: {}}
- many: {for: {in: '${ [1, 2] }'}, do: [{get: {call: http, with: {method: get, endpoint: SITE/pet}}}]}
- post: {call: http, with: {method: post, endpoint: SITE/pet, body: '${ $context }'}}
- c: {call: http, with: {method: get, endpoint: SITE/pet}}
""",
    "over": """
use: {secrets: [TOKEN]}
do:
- a: {call: http, with: {method: get, endpoint: SITE/pet, headers: {T: '${ $secrets.TOKEN }'}}}
- b: {try: [{no: {call: http, with: {method: get, endpoint: SITE/missing}}}], catch: {}}
- c: {set: {token: '${ $secrets.TOKEN }'}}
""",
    "over-again": "do:\n- a: {set: {a: 1}}",
    "http": """
use: {secrets: [TOKEN]}
do:
- get: {call: http, with: {method: get, endpoint: 'SITE/pet', headers: {K: '${ $secrets.TOKEN }'}}}
- post: {call: http, with: {method: post, endpoint: 'SITE/pet', body: {n: 1}}}
- all: {for: {in: '[range(8)]'}, do: [{get: {call: http, with: {method: get, endpoint: 'SITE/pet'}}}]}
- bad: {try: [{get: {call: http, with: {method: get, endpoint: 'SITE/none'}}}], catch: {}}
- slow: {call: http, with: {method: get, endpoint: 'SITE/slow'}}
""",
    "http-auth": """
use:
  secrets: [TOKEN, LOGIN]
  authentications: {named: {basic: {use: LOGIN}}}
do:
- bearer: {call: http, with: {method: get, endpoint: {uri: SITE/pet, authentication: {bearer: {use: TOKEN}}}}}
- basic: {call: http, with: {method: get, endpoint: {uri: SITE/pet, authentication: {use: named}}}}
- oauth2:
    call: http
    with:
      method: post
      endpoint:
        uri: SITE/pet
        authentication:
          oauth2:
            authority: SITE
            grant: client_credentials
            client: {id: me, secret: '${ $secrets.TOKEN }'}
- busy:
    try: [{get: {call: http, with: {method: get, endpoint: SITE/busy}}}]
    catch: {retry: {limit: {attempt: {count: 1}}}}
""",
    "openapi": """
do:
- get: {call: openapi, with: {document: {endpoint: SITE/api}, operationId: getPet, parameters: {id: 7}}}
- add: {call: openapi, with: {document: {endpoint: SITE/api}, operationId: addPet, parameters: {body: {name: Rex}}}}
- bad: {try: [{no: {call: openapi, with: {document: {endpoint: SITE/api}, operationId: none}}}], catch: {}}
""",
    "continued": f"""
do:
- t:
    try:
    - l:
        for: {{in: '[1, 2, 3]'}}
        do:
{_PAUSES.replace("    -", "        -")}
        - add: {{set: {{n: '${{ .n + $item }}'}}}}
    catch: {{}}
""",
    "invalid": "evaluate: {language: js}\ndo:\n- e: {set: {n: 1}}",
    "emit": "do:\n- e: {emit: {event: {with: {type: a.b, source: 'http://x', data: {n: '${ .n }'}}}}}",
    "listen-events": "do:\n- l: {listen: {to: {all: [{with: {type: a}}, {with: {type: signal, id: b}}]}}}",
    "listen-until": "do:\n- l: {listen: {to: {any: [{with: {type: 'a.*'}}], until: {one: {with: {type: b}}}}}}",
    "listen-foreach": """
do:
- l:
    listen: {to: {any: [{with: {type: a}}], until: '. | length == 12'}}
    foreach: {do: [{w: {wait: PT0.005S}}, {s: {set: {n: '${ $item }'}}}], output: {as: .n}, export: {as: .}}
""",
    "cancelled": "do:\n- o: {do: [{w: {wait: PT1H}}]}",
    "continued-kept": """
do:
- l: {for: {in: '[1, 2, 3]'}, do: [{a: {wait: PT0.005S}}, {b: {wait: PT0.005S}}, {c: {wait: PT0.005S}}]}
""",
    "recovered": """
do:
- before: {set: {n: 1}, export: {as: .}}
- l: {for: {in: '[1, 2]'}, do: [{send: {call: http, with: {method: post, endpoint: SITE/flaky}}}]}
- after: {set: '${ $context }'}
""",
    "listen": "do:\n- l: {listen: {to: {all: [{with: {type: signal, id: a}}, {with: {type: signal, id: b}}]}}}",
    "paused": "do:\n- t: {timeout: {after: PT30S}, do: [{a: {wait: PT0.6S}}, {b: {wait: PT0.01S}}]}",
    "paused-continued": "do:\n- o: {do: [{a: {wait: PT0.6S}}, {b: {wait: PT0.01S}}]}",
    "call-activity": """
do:
- charge: {call: activity, with: {name: Charge, taskQueue: FOREIGN, arguments: ['${ .n }', EUR]}}
- decline:
    try: [{it: {call: activity, with: {name: Decline, taskQueue: FOREIGN}, metadata: {activityOptions: ONCE}}}]
    catch: {do: [{tell: {set: {title: '${ $error.title }'}}}]}
""",
    "grpc": """
do:
- order: {call: grpc, with: {proto: PROTO, service: SHOP, method: Order, arguments: {count: '${ .n }'}}}
- browse: {call: grpc, with: {proto: PROTO, service: SHOP, method: Browse, arguments: {count: 2}}}
- fail:
    try: [{it: {call: grpc, with: {proto: PROTO, service: SHOP, method: Fail, arguments: {code: 5, message: gone}}}}]
    catch: {do: [{tell: {set: {status: '${ $error.status }'}}}]}
""",
    "mcp": """
use: {secrets: [TOKEN]}
do:
- list:
    call: mcp
    with: {method: tools/list, transport: {http: {endpoint: SITE/mcp, headers: {K: '${ $secrets.TOKEN }'}}}}
- call:
    call: mcp
    with:
      method: tools/call
      parameters: {name: add, arguments: {n: '${ .tools[0].name }'}}
      timeout: PT20S
      transport: {http: {endpoint: SITE/mcp}}
- fail:
    try:
    - it: {call: mcp, with: {method: tools/call, parameters: {name: fail}, transport: {http: {endpoint: SITE/mcp}}}}
    catch: {do: [{tell: {set: {title: '${ $error.title }'}}}]}
""",
    "fork": """
do:
- t:
    try:
    - f:
        fork:
          branches:
          - get: {call: http, with: {method: get, endpoint: SITE/pet}}
          - post: {do: [{w: {wait: PT0.01S}}, {post: {call: http, with: {method: post, endpoint: SITE/pet}}}]}
          - inner: {fork: {branches: [{a: {set: {n: 1}}}, {b: {wait: PT0.6S}}]}}
    - g:
        fork:
          branches:
          - waits: {wait: P1D}
          - fails: {do: [{w: {wait: PT0.05S}}, {boom: {raise: {error: {type: 'https://example.com/x', status: 418}}}}]}
    catch: {}
""",
    "ended": "do:\n- get: {call: http, with: {method: get, endpoint: 'SITE/pet'}}",
    "ended-once": "do:\n- get: {call: http, with: {method: get, endpoint: 'SITE/pet'}}",
    "fork-local": """
do:
- f:
    fork:
      branches:
      - a: {call: http, with: {method: get, endpoint: SITE/pet}}
      - b: {do: [{one: {call: http, with: {method: get, endpoint: SITE/pet}}}, {two: {set: {n: 2}}}]}
      - c: {do: [{slow: {call: http, with: {method: get, endpoint: SITE/slow}}}, {nap: {wait: PT0.05S}}]}
""",
    "fork-compete": """
do:
- f:
    fork:
      compete: true
      branches:
      - waits: {wait: P1D}
      - calls: {call: http, with: {method: get, endpoint: SITE/slow}}
      - listens: {listen: {to: {one: {with: {type: signal, id: never}}}}}
      - wins: {do: [{w: {wait: PT0.05S}}, {s: {set: {n: 1}}}]}
""",
    "fork-continued": """
do:
- f:
    fork:
      branches:
      - sleeps: {wait: PT1S}
      - busy: {for: {in: '[range(8)]'}, do: [{get: {call: http, with: {method: get, endpoint: SITE/pet}}}]}
      - inner: {fork: {branches: [{a: {wait: PT0.7S}}, {b: {do: [{w: {wait: PT0.01S}}, {s: {set: {n: 1}}}]}}]}}
""",
    "extensions": """
use:
  extensions:
  - say:
      extend: all
      before: [{get: {call: http, with: {method: get, endpoint: SITE/pet}}}]
      after: [{w: {wait: PT0.01S}}]
do:
- a: {set: {n: 1}}
- l: {for: {in: '[1, 2]'}, do: [{b: {set: {n: 2}}}]}
""",
    "asyncapi": """
do:
- tell: {call: asyncapi, with: {document: MESSAGES, operation: send, message: {payload: {n: '${ .n }'}}}}
- hear:
    call: asyncapi
    with:
      document: MESSAGES
      operation: receive
      subscription:
        filter: '${ .payload.n > 1 }'
        consume: {while: '${ .payload.n < 4 }'}
        foreach: {do: [{wait: {wait: {milliseconds: 5}}}, {keep: {set: {n: '${ $item.payload.n }'}}}]}
- some:
    call: asyncapi
    with: {document: MESSAGES, operation: receive, subscription: {consume: {amount: 2}}}
- none:
    call: asyncapi
    with: {document: MESSAGES, operation: silent, subscription: {consume: {amount: 1, for: {milliseconds: 300}}}}
""",
    "function": """
use:
  functions: {twice: {do: [{add: {set: {n: '${ .n + .n }'}}}, {again: {call: 'triple:1.0.0@ours'}}]}}
  catalogs: {ours: {endpoint: SITE}}
do:
- given: {call: twice, with: {n: '${ .n }'}}
- passed: {for: {in: '[1, 2]'}, do: [{it: {call: 'triple:1.0.0@ours'}}]}
- pause: {wait: PT0.6S}
""",
    "a2a": """
do:
- get: {call: a2a, with: {method: tasks/get, server: SITE/a2a, parameters: {id: t1}}}
- send: {call: a2a, with: {method: message/send, server: SITE/a2a, parameters: {message: {parts: []}}}}
- stream: {call: a2a, with: {method: message/stream, server: SITE/a2a, parameters: {message: {parts: []}}}}
""",
    _DRIVEN: """
timeout: {after: {minutes: 5}}
do:
- begin: {set: {n: 1}}
- again:
    for: {each: item, in: '[range(20)]'}
    do:
    - rest: {wait: {milliseconds: 10}}
""",
    **dict.fromkeys(
        _PARENTS,
        """
do:
- waits: {run: {workflow: {namespace: test, name: double, input: {n: 2}}}}
- alone: {run: {workflow: {namespace: test, name: double, input: {n: 3}}, await: false}}
- caught: {try: [{it: {run: {workflow: {namespace: test, name: broken}}}}], catch: {}}
- none: {try: [{it: {run: {workflow: {namespace: test, name: nobody}}}}], catch: {}}
- late: {try: [{it: {timeout: {after: PT2S}, run: {workflow: {namespace: test, name: endless}}}}], catch: {}}
""",
    ),
    "many": "do:\n- l: {for: {in: '[range(600)]'}, do: [{add: {set: {n: '${ .n + 1 }'}}}]}",
}

_API: dict[str, Any] = {
    "openapi": "3.1.0",
    "paths": {
        "/pets/{id}": {"get": {"operationId": "getPet", "parameters": [{"name": "id", "in": "path"}]}},
        "/pets": {"post": {"operationId": "addPet", "requestBody": {"content": {"application/json": {}}}}},
    },
}


async def record(address: str, wanted: set[str]) -> None:
    """Run every document that is wanted and write its histories; without any, all of them."""
    client = await Client.connect(address, identity="recorder")
    foreign = Worker(client, task_queue=_FOREIGN, activities=[_charge, _decline])
    socket = Path(tempfile.mkdtemp()) / "engine.sock"
    async with peer_server() as peer, site_server() as site, shop_server() as shop, foreign, container_engine(socket):
        site.page("/script.py", Response(b"print(1)"))
        site.page("/large", {"text": "large " * 50_000})
        site.page("/shop.proto", Response(PROTO.encode()))
        site.page("/shop/v1/types.proto", Response(TYPES.encode()))
        site.page("/pet", {"name": "Rex"})
        site.page("/slow", _slow)
        site.page("/oauth2/token", {"access_token": "tok-5678", "expires_in": 3600})
        busy = iter([Response({}, 429, {"retry-after": "1"}), Response({})])
        site.page("/busy", lambda _: next(busy))
        site.page("/pets/7", {"name": "Rex"})
        site.page("/pets", {"id": 8})
        site.page("/api", _API)
        site.page("/mcp", _mcp)
        site.page("/a2a", Response({"jsonrpc": "2.0", "id": "1", "result": {"kind": "task", "id": "t1"}}))
        site.page("/functions/triple/1.0.0/function.yaml", Response(b"set: {n: '${ .n * 3 }'}"))
        answers = iter([Response({}), Response({}, 500), Response({})])
        site.page("/flaky", lambda _: next(answers))
        runs = Runs(client, peer, f"queue-{uuid.uuid4().hex}")
        stop = asyncio.Event()
        settings = {
            "temporal_address": address,
            "server_address": peer.address,
            "task_queue": runs.queue,
            "max_history_events": 40,
            "local_calls_in_row": 5,
            "local_call_seconds": 0.2,
            "sandbox": "host",
            "container_socket": socket,
            "agent_task_queue": f"agents-{runs.queue}",
            "blob_folder": BLOBS,
        }
        worker = asyncio.create_task(serve(Settings.model_validate(settings), stop))
        agents = {
            "temporal_address": address,
            "server_address": peer.address,
            "task_queue": settings["agent_task_queue"],
            "data_folder": socket.parent,
            "sandbox": "off",
        }
        models = asyncio.create_task(serve_agents(AgentSettings.model_validate(agents), stop))
        chosen = {name: document for name, document in DOCUMENTS.items() if name in wanted or not wanted}
        for old in FOLDER.glob("*.json"):
            if re.sub(r"-\d+$", "", old.stem) in chosen:
                old.unlink()
        site.page("/asyncapi", _asyncapi(site.url))
        numbers = itertools.count(1)
        site.page("/pets", lambda request: Response({"n": next(numbers)} if request.method == "GET" else {}))
        site.page("/silent", Response(b"", 204))
        service = f"{{name: {SERVICE}, host: localhost, port: {shop.port}}}"
        if not wanted or _FIRE in wanted:
            await _write_fired(client, runs)
        for name in _PARENTS:
            if chosen.pop(name, ""):
                await _write_parent(name, address, client)
        for name, document in chosen.items():
            text = document.replace("PROTO", "{endpoint: SITE/shop.proto}").replace("SHOP", service)
            text = text.replace("MESSAGES", "{endpoint: SITE/asyncapi}")
            execution = await _run(name, text, runs, site)
            suffix = f"/recovery-{execution.recoveries}" if execution.recoveries else ""
            run = f"{names.WORKFLOW}/{execution.id}{suffix}"
            await _write(name, client, f"{names.DRIVEN}{execution.id}" if name == _DRIVEN else run)
        stop.set()
        await asyncio.gather(worker, models)


@activity.defn(name="Charge")
async def _charge(amount: int, currency: str) -> dict[str, Any]:
    return {"charged": amount, "currency": currency}


@activity.defn(name="Decline")
async def _decline() -> None:
    raise ApplicationError("no money", {"balance": -1}, type="CardDeclined")


def _mcp(request: Request) -> Response:
    """Be the smallest MCP server that there is."""
    if request.method != "POST":
        return Response({}, 405)
    asked = request.json
    results: dict[str, Any] = {
        "initialize": {
            "protocolVersion": "2025-06-18",
            "capabilities": {},
            "serverInfo": {"name": "s", "version": "1"},
        },
        "tools/list": {"tools": [{"name": "add", "inputSchema": {"type": "object"}}]},
        "tools/call": {
            "content": [{"type": "text", "text": "done"}],
            "isError": asked.get("params", {}).get("name") == "fail",
        },
    }
    if "id" not in asked:
        return Response(b"", 202)
    return Response({"jsonrpc": "2.0", "id": asked["id"], "result": results[asked["method"]]})


def _asyncapi(url: str) -> dict[str, Any]:
    channels = {name: {"address": name} for name in ("pets", "silent")}
    return {
        "asyncapi": "3.0.0",
        "servers": {"site": {"host": url.removeprefix("http://"), "protocol": "http"}},
        "channels": channels,
        "operations": {
            name: {"channel": {"$ref": f"#/channels/{'silent' if name == 'silent' else 'pets'}"}}
            for name in ("send", "receive", "silent")
        },
    }


async def _slow(_: Any) -> Response:
    await asyncio.sleep(0.5)
    return Response({"slow": True})


async def _over_again(text: str, runs: Runs) -> Execution:
    """Run what is sent a signal when it has told its end, so that Temporal has its step repeated."""
    execution, started = runs.add(text), asyncio.get_running_loop().create_future()

    async def signalled(_: Execution) -> None:
        handle = await started
        await handle.signal(names.SIGNAL, {"id": "late", "name": "late", "payload": None, "at": "2026-01-01T00:00:00Z"})

    runs.peer.when_over = signalled
    handle = await runs.start(execution)
    started.set_result(handle)
    await handle.result()
    runs.peer.when_over = lambda _: None
    return execution


async def _run(name: str, document: str, runs: Runs, site: Site) -> Execution:
    text = document.replace("SITE", site.url).replace("FOREIGN", _FOREIGN).replace("ONCE", _ONCE)
    if name == "recovered":
        execution = await runs.run(text)
        await (await runs.recover(execution)).result()
        return execution
    if name == "over-again":
        return await _over_again(text, runs)
    if name == _DRIVEN:
        return await _driven(text, runs)
    if name in _PUBLISHED:
        return await _published(text, _PUBLISHED[name], runs)
    if name in _ANSWERED:
        return await _answered(text, _ANSWERED[name], runs)
    if name == "call-agent":
        return await _with_agents(text, runs)
    if name == "call-agent-files":
        return await _with_files(text, runs)
    if name in _TOLD:
        return await _told(text, _TOLD[name], runs)
    if name != "cancelled":
        return await runs.run(text, {"n": 1}, secrets=_SECRETS)
    execution = runs.add(text)
    handle = await runs.start(execution)
    await runs.peer.until(execution, lambda seen: bool(seen.reported))
    await handle.cancel()
    try:
        await handle.result()
    except WorkflowFailureError:
        return execution
    raise RuntimeError("it was not cancelled")


_TOLD: dict[str, list[tuple[str, str]]] = {
    "listen": [(names.SIGNAL, "unheard"), (names.SIGNAL, "b"), (names.SIGNAL, "a")],
    "paused": [(names.PAUSE, ""), (names.PAUSE, ""), (names.RESUME, "")],
    "paused-continued": [(names.PAUSE, ""), *((names.SIGNAL, "unheard") for _ in range(40)), (names.RESUME, "")],
}


_ANSWERED: dict[str, list[tuple[str, str]]] = {
    "human-input": [("/do/0/ask", "approve"), ("/do/1/b/fork/branches/1/two", "reject")],
}
"""Ids of tasks, and what they are answered."""


_PUBLISHED: dict[str, list[str]] = {
    "listen-events": ["unheard", "a", "!b"],
    "listen-until": ["a", "ab", "unheard", "b"],
    "listen-foreach": ["a"] * 12,
}
"""Types of events; after a `!`, names of signals."""


async def _published(text: str, kinds: list[str], runs: Runs) -> Execution:
    """Run a document and publish events, with time for each to be seen."""
    execution = runs.add(text)
    handle = await runs.start(execution)
    await runs.peer.until(execution, lambda seen: bool(seen.reported))
    for number, kind in enumerate(kinds):
        if kind.startswith("!"):
            await handle.signal(names.SIGNAL, {"id": f"s{number}", "name": kind[1:], "payload": number})
        else:
            await runs.publish(kind, number)
        await asyncio.sleep(0.05)
    await handle.result()
    return execution


async def _answered(text: str, answers: list[tuple[str, str]], runs: Runs) -> Execution:
    """Run a document whose tasks wait for people, and answer each once it waits."""
    execution = runs.add(text)
    handle = await runs.start(execution)
    for task, outcome in answers:
        await runs.peer.until(
            execution, lambda seen, task=task: task in seen.reported and seen.reported[task].status == _WAITS
        )
        given = {"form_data": {"n": 1}, "comment": "so", "by": "ada", "at": "2026-01-01T00:00:00Z"}
        await handle.signal(names.ANSWER, {"id": task, "task_id": task, "outcome": outcome, **given})
    await handle.result()
    return execution


async def _with_agents(text: str, runs: Runs) -> Execution:
    """Run a document whose tasks call agents: one that answers, one that fails, and one that is cancelled."""
    execution = runs.add(text, secrets=_SECRETS)
    handle = await runs.start(execution)
    agents = runs.peer.agents
    await agents.end(await agents.begun(1), "yes")
    await agents.end(await agents.begun(2), error="no")
    await handle.result()
    return execution


async def _with_files(text: str, runs: Runs) -> Execution:
    """Run a document that gives agents files: one makes what is collected, one does not, and one is not there."""
    execution = runs.add(text, {"n": 1})
    handle = await runs.start(execution)
    agents = runs.peer.agents
    await agents.end(await agents.begun(1), "yes", files={"b.txt": b"made"})
    await agents.end(await agents.begun(2), "no")
    await handle.result()
    return execution


async def _driven(text: str, runs: Runs) -> Execution:
    """Run a document as a server with a workflow of its own has it run."""
    execution = runs.add(text)
    message: Any = descriptors.message_type("ai.stigmer.agentic.workflowexecution.v1.WorkflowExecution")()
    message.metadata.id, message.metadata.org = execution.id, "acme"
    await runs.client.execute_activity(
        EXECUTE,
        message,
        id=execution.id,
        task_queue=runs.queue,
        result_type=RawValue,
        start_to_close_timeout=timedelta(minutes=10),
    )
    await runs.client.get_workflow_handle(f"{names.DRIVEN}{execution.id}").result()
    return execution


async def _told(text: str, signals: list[tuple[str, str]], runs: Runs) -> Execution:
    """Run a document and give it signals, with time for each to be seen."""
    execution = runs.add(text)
    handle = await runs.start(execution)
    await runs.peer.until(execution, lambda seen: bool(seen.reported))
    for number, (signal, name) in enumerate(signals):
        # The second pause has the first one's id.
        key = 0 if signal == names.PAUSE else number
        await handle.signal(signal, {"id": f"s{key}", "name": name, "payload": number})
        await asyncio.sleep(0.03)
    await handle.result()
    return execution


async def _write_fired(client: Client, runs: Runs) -> None:
    """Write the history of a moment of a schedule."""
    handle = await client.start_workflow(
        names.FIRE_WORKFLOW,
        {"workflow_id": "wfl-1", "org": "acme"},
        id=f"{names.FIRE_WORKFLOW}/wfl-1-2026-01-01T08:00:00Z",
        task_queue=runs.queue,
    )
    await handle.result()
    history = await handle.fetch_history()
    value = {**json.loads(_MACHINE.sub("runner", history.to_json())), "workflow_id": handle.id}
    (FOLDER / f"{_FIRE}.json").write_text(json.dumps(value, indent=1) + "\n")


async def _write_parent(name: str, address: str, client: Client) -> None:
    """Write the history of a run that runs other workflows, which only the real server can start."""
    with tempfile.TemporaryDirectory() as folder:
        server = ServerProcess(Path(folder), TEMPORAL_HOST_PORT=address)
        runner = RunnerProcess(Path(folder), temporal=address, server=server.address)
        try:
            api = await server.ready()
            await runner.start()
            made: Any = None
            for each, document in {**_CHILDREN, name: DOCUMENTS[name]}.items():
                spec = {"definition": HEADER.replace("name: test", f"name: {each}") + document}
                made = await api("workflow", "create", manifest("workflow", each, spec))
            spec = {"workflowId": made.metadata.id}
            execution = await api("workflow_execution", "create", manifest("workflow_execution", name, spec))
            run = f"{names.WORKFLOW}/{execution.metadata.id}"
            async for state in api.stream("workflow_execution", "subscribe", {"executionId": execution.metadata.id}):
                if state.status.temporal_workflow_id:
                    break
            await client.get_workflow_handle(run).result()
            await _write(name, client, run)
        finally:
            await runner.kill()
            await server.close()


async def _write(name: str, client: Client, workflow_id: str) -> None:
    first = client.get_workflow_handle(workflow_id)
    run_id = (await first.describe()).raw_description.workflow_execution_info.first_run_id
    number = 0
    while run_id:
        history = await client.get_workflow_handle(first.id, run_id=run_id).fetch_history()
        value = _without_traces(json.loads(_MACHINE.sub("runner", history.to_json())))
        value["workflow_id"] = first.id
        suffix = f"-{number}" if number else ""
        (FOLDER / f"{name}{suffix}.json").write_text(json.dumps(value, indent=1) + "\n")
        last = history.events[-1]
        run_id = last.workflow_execution_continued_as_new_event_attributes.new_execution_run_id
        number += 1


def _without_traces(value: Any) -> Any:
    """Return a history without the stack traces of failures, which hold paths and are not replayed."""
    match value:
        case dict():
            return {key: "" if key == "stackTrace" else _without_traces(item) for key, item in value.items()}  # pyright: ignore[reportUnknownVariableType] - JSON
        case list():
            return [_without_traces(item) for item in value]  # pyright: ignore[reportUnknownVariableType] - JSON
        case _:
            return value


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder, temporal_server(Path(folder)) as at:
        asyncio.run(record(at, set(sys.argv[1:])))
