"""What the runner adds to an agent: to each step, to many agents at once, to itself when idle, and to long sessions.

Server, runner and Temporal are processes of this machine, and so is the peer: deepagents alone, with nothing around it
and no checkpoints. All of them ask one loopback server of OpenAI's API; a step is what lies between two calls of it.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, cast

from _report import Row
from _server import resident_megabytes
from _temporal import measure_and_print
from agent_runner.loopback.openai import OpenAIServer
from agent_runner.loopback.server import Reply
from agent_runner.testing import Stack, Stigmer, client_of, phase, run_stack

INSTRUCTIONS = "You are measured."
ALONE = "--alone"
STEP_PROMISE_MS = 15.0
IDLE_PROMISE_MIB, READY_PROMISE_SECONDS = 300.0, 4.0
AGENTS, THINKING_SECONDS = 50, 2.0
LONG, SHORT = 1000, 10
"""Messages of a session."""
AT_ONCE = 9
"""Tools that the model asks for at once, where a session is to become long soon."""


class Model(OpenAIServer):
    """Takes as many steps as the person says, and writes down when it was asked for each.

    A person says `{"name": …, "steps": …, "tools": …}`: answers that ask for so many tools each, and then a last one.
    """

    def __init__(self) -> None:
        super().__init__()
        self.times: dict[str, list[float]] = defaultdict(list)
        # Else the parts of a stream wait for each other's receipts.
        handler: Any = self._http.RequestHandlerClass
        handler.disable_nagle_algorithm = True

    def answer(self, handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        self.times[_asked(body)["name"]].append(time.perf_counter())
        super().answer(handler, body)
        self.calls.clear()

    def _reply(self, number: int, body: dict[str, Any]) -> Reply:
        asked, roles = _asked(body), [message["role"] for message in body["messages"]]
        last = len(roles) - 1 - roles[::-1].index("user")
        if roles[last:].count("assistant") < asked["steps"]:
            return {"tool_calls": [("ls", {"path": "/"})] * asked["tools"]}
        return {"text": "Done."}

    def steps(self, name: str) -> float:
        """The median of what lies between two calls, in milliseconds."""
        times = self.times[name]
        return statistics.median((after - before) * 1000 for before, after in itertools.pairwise(times))


def _asked(body: dict[str, Any]) -> dict[str, Any]:
    said: str = next(message["content"] for message in reversed(body["messages"]) if message["role"] == "user")
    return json.loads(said)


def message(name: str, *, steps: int, tools: int = 1) -> str:
    return json.dumps({"name": name, "steps": steps, "tools": tools})


class Agent:
    """The measured agent, on a stack."""

    def __init__(self, stigmer: Stigmer, model: Model, agent: str) -> None:
        self._stigmer = stigmer
        self._model = model
        self._agent = agent

    async def run(self, said: str, session: str = "") -> tuple[str, float]:
        """Run an execution to its end; gives its session, and seconds from its creation to the first call."""
        begun = time.perf_counter()
        made = await self._stigmer.execute(
            self._agent,
            said,
            model="openai:measured",
            session=session,
            env={"OPENAI_BASE_URL": self._model.url},
            secrets={"OPENAI_API_KEY": "sk-of-the-measured"},
        )
        status = await self._stigmer.finish(made.metadata.id, seconds=600)
        if phase(status) != "EXECUTION_COMPLETED":
            raise RuntimeError(status.error)
        return made.spec.session_id, self._model.times[json.loads(said)["name"]][0] - begun


async def step_row(agent: Agent, model: Model, steps: int) -> Row:
    """What the runner adds to a step: effects are recorded, every step is kept, and people see it."""
    await agent.run(message("ours", steps=steps))
    alone = await asyncio.create_subprocess_exec(
        sys.executable, __file__, ALONE, model.url, message("alone", steps=steps)
    )
    if await alone.wait():
        raise RuntimeError("deepagents alone has failed")
    ours, theirs = model.steps("ours"), model.steps("alone")
    name = f"added to a step of {theirs:.1f} ms"
    return Row(name=name, ours=ours - theirs, peer_name="promise", peer=STEP_PROMISE_MS, unit="ms", limit=1.0)


async def run_alone(url: str, said: str) -> None:
    """Take the same steps with deepagents and nothing else."""
    from deepagents import create_deep_agent  # pyright: ignore[reportUnknownVariableType] - open parameters
    from langchain_core.messages import HumanMessage
    from langchain_openai import ChatOpenAI

    model = ChatOpenAI(model="measured", base_url=url, api_key=lambda: "sk-of-the-measured")
    agent = cast("Any", create_deep_agent(model, system_prompt=INSTRUCTIONS))
    await agent.ainvoke({"messages": [HumanMessage(said)]}, {"recursion_limit": 10_000})


async def crowd_row(agent: Agent, model: Model, calls: int) -> Row:
    """How much more many agents get done at once than one, when the model takes its time."""
    model.delay = THINKING_SECONDS
    begun = time.perf_counter()
    await agent.run(message("one", steps=calls - 1))
    one = time.perf_counter() - begun
    begun = time.perf_counter()
    await asyncio.gather(*(agent.run(message(f"of many {number}", steps=calls - 1)) for number in range(AGENTS)))
    many = (time.perf_counter() - begun) / AGENTS
    model.delay = 0.0
    name = f"{AGENTS} agents at once, model of {THINKING_SECONDS:g} s"
    rates = {"ours": 60 / many, "peer": 60 / one}
    return Row(name=name, **rates, peer_name="one agent", unit="runs/min", limit=20, at_least=True)


async def session_row(agent: Agent, rounds: int) -> Row:
    """How soon the model is asked in a session with much in it."""
    sessions = {length: await session_of(agent, length) for length in (SHORT, LONG)}
    began: dict[int, list[float]] = {length: [] for length in sessions}
    for number in range(rounds):
        for length, session in sessions.items():
            _, seconds = await agent.run(message(f"next of {length}, {number}", steps=0), session)
            began[length].append(seconds * 1000)
    return Row(
        name=f"next execution in a session of {LONG}",
        ours=statistics.median(began[LONG]),
        peer_name=f"in one of {SHORT} messages",
        peer=statistics.median(began[SHORT]),
        unit="ms",
        limit=2.0,
    )


async def session_of(agent: Agent, messages: int) -> str:
    """A session with so many messages: of people, the agent, and tools."""
    session, there = "", 0
    while there < messages:
        steps = min(10, max(1, (messages - there) // (AT_ONCE + 1)))
        tools = AT_ONCE if messages - there > SHORT else SHORT - 3
        session, _ = await agent.run(message(f"fills {messages}, {there}", steps=steps, tools=tools), session)
        there += 2 + steps * (1 + tools)
    return session


async def idle_rows(stack: Stack) -> list[Row]:
    """What a worker takes while it has nothing to do; the scripted model is as good as any for that."""
    begun = time.perf_counter()
    process = await stack.start_runner()
    ready = time.perf_counter() - begun
    await asyncio.sleep(5)  # It goes on importing behind what it serves.
    resident = resident_megabytes(process.pid)
    process.terminate()
    await process.wait()
    memory = Row(name="idle worker", ours=resident, peer_name="promise", peer=IDLE_PROMISE_MIB, unit="MiB", limit=1.0)
    start = Row(name="ready worker", ours=ready, peer_name="promise", peer=READY_PROMISE_SECONDS, unit="s", limit=1.0)
    return [memory, start]


async def measure(folder: Path, temporal: str, rounds: int) -> list[Row]:
    model = Model()
    async with run_stack(folder, temporal) as stack, client_of(stack) as stigmer:
        rows = await idle_rows(stack)
        # Files in the conversation, as deepagents alone has them: what a sandbox takes is no part of a step.
        await stack.start_runner(STIGMER_AGENT_STATUS_SECONDS="0.5", STIGMER_AGENT_SANDBOX="off")
        agent = Agent(stigmer, model, await stigmer.agent(INSTRUCTIONS))
        await agent.run(message("first", steps=1))  # The first use of a provider imports its package.
        rows.append(await step_row(agent, model, 10 * rounds))
        rows.append(await crowd_row(agent, model, max(2, rounds // 2)))
        rows.append(await session_row(agent, rounds))
    model.close()
    return rows


def main(arguments: Sequence[str]) -> int:
    if arguments[:1] == [ALONE]:
        asyncio.run(run_alone(arguments[1], arguments[2]))
        return 0
    return measure_and_print("agent", __doc__, measure, quick=3, full=10)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
