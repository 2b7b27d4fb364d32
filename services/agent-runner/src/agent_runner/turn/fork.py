"""Begins the thread of a forked session with what was said in the session that it was forked from.

Of a session, a runner has two records. Its checkpoint is the conversation as the model saw it; it is the better one,
and whichever turns have come since, everything that was said is still in it. Where this runner has none, because
another one took those turns, the server's executions tell it: without what was taken out of them for being a secret,
and without thoughts. A fork is begun by one write, once: what an attempt before did of it is done again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.messages import AnyMessage, ToolMessage
from loguru import logger

from agent_runner.contract import Fork, ResolvedRun
from agent_runner.errors import ResourceError
from agent_runner.models.marks import begins_turn
from agent_runner.resources import Resources
from agent_runner.turn.agent import Graph, differences
from agent_runner.turn.journal import FencedSaver
from agent_runner.turn.records import messages_of
from agent_runner.turn.thread import last_plan

_MESSAGES, _TODOS, _SUMMARY, _JUMP = "messages", "todos", "_summarization_event", "jump_to"


async def opened(graph: Graph, config: Any, saver: FencedSaver, run: ResolvedRun, resources: Resources) -> Any:
    """The state of the run's thread; that of a fork begins where the fork does.

    Raises:
        ResourceError: Neither this runner nor the server knows what was said up to there.
    """
    state = await graph.aget_state(config)
    if run.forked_from is None or state.created_at is not None:
        return state
    values = await _values(graph, run.forked_from, resources)
    logger.info("{} begins with {} messages of {}", run.thread, len(values[_MESSAGES]), run.forked_from.session_id)
    await saver.begin(values, differences(graph, values))
    return await graph.aget_state(config)


async def _values(graph: Graph, fork: Fork, resources: Resources) -> dict[str, Any]:
    state = await graph.aget_state({"configurable": {"thread_id": fork.thread}})
    values = cut(state.values, fork)
    if values is not None:
        return values
    logger.info("this runner does not have {} up to {}: the server tells it", fork.session_id, fork.execution_id)
    return {_MESSAGES: await _told(fork, resources)}


def cut(values: Mapping[str, Any], fork: Fork) -> dict[str, Any] | None:
    """A session's state as it was when the last message of the fork was said; None: that message is not in it.

    Files that are in the state stay as they are: when each was written is not known.
    """
    messages: Sequence[AnyMessage] = values.get(_MESSAGES, ())
    end = _end(messages, fork)
    if end is None:
        return None
    kept = list(messages[:end])
    made = {**values, _MESSAGES: kept}
    made.pop(_JUMP, None)
    if end < len(messages):
        made[_TODOS] = last_plan(kept)
        event = values.get(_SUMMARY)
        # A summary of what is not in the fork would tell the model of it.
        if event is not None and event["cutoff_index"] > end:
            made[_SUMMARY] = None
    return made


def _end(messages: Sequence[AnyMessage], fork: Fork) -> int | None:
    """How many messages are in the fork: with an answer come the results of the tools that it asks for."""
    wanted = fork.message_id or fork.execution_id
    at = next((index for index, each in enumerate(messages) if each.id == wanted), None)
    if at is None:
        return None
    following = range(at + 1, len(messages))
    if fork.message_id:
        return next((index for index in following if not isinstance(messages[index], ToolMessage)), len(messages))
    return next((index for index in following if begins_turn(messages[index])), len(messages))


async def _told(fork: Fork, resources: Resources) -> list[AnyMessage]:
    """What the server's executions tell of a session, and of those that it was forked from."""
    try:
        earlier = await resources.forked_from(fork.session_id)
        before = [] if earlier is None else await _told(earlier, resources)
        for execution in await resources.executions(fork.session_id):
            before += messages_of(execution)
            if execution.metadata.id == fork.execution_id:
                end = _end(before, fork)
                return before if end is None else before[:end]
    except ResourceError:
        logger.info("the server does not have {} either", fork.session_id)
    raise ResourceError(
        f"the session cannot begin: it was forked from {fork.session_id} at {fork.execution_id}, and neither this "
        "runner nor the server has what was said there any more"
    )
