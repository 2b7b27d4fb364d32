"""The loop of a turn: the graph, what people decide meanwhile, and the last words."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import AIMessageChunk, AnyMessage, HumanMessage

from agent_runner.contract import COMPLETED, WAITING, TurnResult
from agent_runner.errors import ResourceError
from agent_runner.files.exchange import prompt
from agent_runner.models.catalog import ModelCatalog
from agent_runner.models.prices import Prices
from agent_runner.resources import Resources
from agent_runner.turn.agent import Graph, build_agent, differences
from agent_runner.turn.answers import read_answer
from agent_runner.turn.conversation import read_conversation
from agent_runner.turn.decisions import Decisions, Waiting, next_expiry, waiting_calls
from agent_runner.turn.definition import AgentDefinition
from agent_runner.turn.events import Heard, Said
from agent_runner.turn.fork import opened
from agent_runner.turn.gate import Gate
from agent_runner.turn.journal import FencedSaver, Journal, Lease
from agent_runner.turn.middleware import TurnContext
from agent_runner.turn.taken import Plan, Taken
from agent_runner.turn.usage import Meter

_SUMMARIES = "summarization"


class HandedOverError(Exception):
    """The turn stopped between two steps because its worker stops; another goes on with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loop:
    """Runs agents' graphs.

    Attributes:
        resources: The server.
        journal: The runner's memory.
        models: The models.
        prices: What they cost.
        steps: Steps that a graph may take in a turn.
    """

    resources: Resources
    journal: Journal
    models: ModelCatalog
    prices: Prices
    steps: int

    async def run(self, taken: Taken, lease: Lease, plan: Plan) -> TurnResult:
        """Go on from where the checkpoint is until the turn is over, or people must decide.

        Raises:
            HandedOverError: The worker stops.
            ResourceError: The session has gone on, or the agent's definition is no good.
        """
        run, definition = taken.run, plan.definition
        files = await taken.bring_files()
        context = await self._context(taken, lease, plan)
        decisions = Decisions(self.resources, run.execution_id, taken.builder)
        config: Any = {"configurable": {"thread_id": run.thread}, "recursion_limit": self.steps}
        async with self.journal.checkpoints(lease) as saver:
            graph = await self._graph(plan, context, saver, prompt(files))
            state = await opened(graph, config, saver, run, self.resources)
            # Not `state.next`: a step whose result is kept and whose successors are not yet known is not in there.
            waiting = bool(state.tasks)
            conversation = read_conversation(state.values, waiting=waiting, message_id=run.execution_id)
            if conversation.passed:
                raise ResourceError("the session has gone on since this execution failed: say it again instead")
            taken.tell_so_far(conversation, context)
            given: Any = {"messages": [HumanMessage(taken.message, id=run.execution_id)]}
            calls: tuple[Waiting, ...] = ()
            # What an execution before this one has left undone is nobody's: a new message begins anew.
            if conversation.begun:
                given, calls = None, waiting_calls(state)
            finished = conversation.finished
            while True:
                if finished:
                    given = await _end(taken, state.values["messages"], definition)
                    if given is None:
                        await saver.settle(differences(graph, state.values))
                        return TurnResult(phase=COMPLETED)
                elif calls:
                    given = await decisions.resume(calls)
                    if given is None:
                        return await _wait(taken, calls)
                    taken.builder.start()
                await _follow(graph, given, config, taken, context)
                state, given = await graph.aget_state(config), None
                calls, finished = waiting_calls(state), not state.tasks

    async def _context(self, taken: Taken, lease: Lease, plan: Plan) -> TurnContext:
        run, definition, equipment = taken.run, plan.definition, plan.equipment
        used, earlier = await self.journal.used(run.thread, run.execution_id)
        return TurnContext(
            execution=run.execution_id,
            thread=run.thread,
            ledger=lease,
            observe=taken.reporter.observe,
            settle=taken.reporter.settle,
            redact=taken.redactor.value,
            recorder=self.models.recorder,
            effects=equipment.effects,
            meter=Meter(record=lease, prices=self.prices, budget=definition.budget, used=used, earlier=earlier),
            gate=Gate(policies=definition.approvals, observe=taken.reporter.observe, origins=equipment.tools.origins),
            inbox=taken.inbox,
            bring=taken.bring_files,
        )

    async def _graph(self, plan: Plan, context: TurnContext, saver: FencedSaver, files: str) -> Graph:
        definition, equipment = plan.definition, plan.equipment
        # In a thread: the first use of a provider imports its package, which takes seconds.
        return await asyncio.to_thread(
            build_agent,
            definition,
            models=self.models,
            choices=plan.choices,
            context=context,
            checkpointer=saver,
            tools=equipment.tools.main,
            of_sub_agents=equipment.tools.of_sub_agents,
            backend=equipment.backend,
            skills=equipment.skills,
            files=files,
            schema=definition.schema,
        )


async def _end(taken: Taken, messages: Sequence[AnyMessage], definition: AgentDefinition) -> Any:
    """Report the answer; gives what the agent is to go on with instead, if somebody has said something meanwhile.

    The server decides: it lets nothing complete that a person is about to be answered in.
    """
    if not taken.inbox.unseen(messages):
        if definition.schema is not None:
            taken.builder.answer(read_answer(messages, definition.schema))
        await taken.take_files()
        taken.builder.finish(COMPLETED)
        await taken.deliver()
    sent = taken.inbox.unseen(messages)
    if not sent:
        return None
    taken.builder.start()
    await taken.bring_files()
    for message in sent:
        taken.reporter.observe(Heard(message_id=message.id or "", text=message.text))
    return {"messages": sent}


async def _wait(taken: Taken, calls: tuple[Waiting, ...]) -> TurnResult:
    """Report that people must decide; the turn goes on when they have, or when they may no longer."""
    await taken.take_files()
    taken.builder.wait()
    await taken.deliver()
    return TurnResult(phase=WAITING, until=next_expiry(calls, taken.builder.status.approvals))


async def _follow(graph: Graph, given: Any, config: Any, taken: Taken, context: TurnContext) -> None:
    """Run the graph to its end, telling the text of its answers.

    Raises:
        HandedOverError: The worker stops; the last finished step is kept.
    """
    stream: AsyncGenerator[tuple[tuple[str, ...], str, Any]] = graph.astream(
        given, config, stream_mode=["messages", "updates"], subgraphs=True, durability="sync"
    )
    async with aclosing(stream) as parts:
        async for namespace, mode, data in parts:
            if mode == "messages":
                _tell_text(data, context)
            elif not namespace and taken.stop.is_set():
                raise HandedOverError


def _tell_text(data: tuple[Any, dict[str, Any]], context: TurnContext) -> None:
    message, metadata = data
    if not isinstance(message, AIMessageChunk) or metadata.get("lc_source") == _SUMMARIES:
        return
    scope = str(metadata.get("langgraph_checkpoint_ns", ""))
    task = (context.task_of(scope) or scope) if "|" in scope else ""
    if thought := _thought(message):
        context.observe(Said(draft=scope, text=thought, task=task, thinking=True))
    if message.text:
        context.observe(Said(draft=scope, text=message.text, task=task))


def _thought(message: AIMessageChunk) -> str:
    """What a piece of an answer has of the model's thinking."""
    if isinstance(message.content, str) and "reasoning_content" not in message.additional_kwargs:
        return ""
    return "".join(str(block.get("reasoning", "")) for block in message.content_blocks if block["type"] == "reasoning")
