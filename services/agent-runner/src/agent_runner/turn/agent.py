"""From an agent's definition to a graph that can run: the only module that knows how deepagents is put together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from deepagents import SubAgent, create_deep_agent  # pyright: ignore[reportUnknownVariableType] - open parameters
from deepagents.backends import BackendProtocol, StateBackend
from deepagents.middleware.subagents import GENERAL_PURPOSE_SUBAGENT
from langchain.agents.middleware import TodoListMiddleware
from langchain_core.language_models import BaseChatModel
from langchain_core.tools import BaseTool
from langgraph.channels.delta import DeltaChannel
from langgraph.checkpoint.base import BaseCheckpointSaver

from agent_runner.models.catalog import ModelCatalog, ModelChoice
from agent_runner.models.providers import SCRIPTED
from agent_runner.skills.skill import Skill, prompt
from agent_runner.turn.answers import AnswerMiddleware
from agent_runner.turn.definition import AgentDefinition
from agent_runner.turn.middleware import RunnerMiddleware, TurnContext
from agent_runner.turn.questions import ask_person

MAIN = ""
"""Name of the main agent, where agents of a definition are told apart."""

Graph = Any
"""A compiled LangGraph; its type has four parameters that say nothing here."""


def build_agent(
    definition: AgentDefinition,
    *,
    models: ModelCatalog,
    choices: Sequence[ModelChoice],
    context: TurnContext,
    checkpointer: BaseCheckpointSaver[Any],
    tools: tuple[BaseTool, ...] = (),
    of_sub_agents: Mapping[str, tuple[BaseTool, ...]] | None = None,
    backend: BackendProtocol | None = None,
    skills: Mapping[str, tuple[Skill, ...]] | None = None,
    files: str = "",
    schema: Mapping[str, Any] | None = None,
) -> Graph:
    """The graph that runs `definition`, with planning, files in its own state, and its sub-agents.

    Without a backend, files live in the session's checkpoint, and there is no shell. Of several models, those after
    the first answer when the one before cannot. Sub-agents have the tools `of_sub_agents`, by their names; the one for
    general purposes has `tools`, as the main agent, which `files` tells of its files. With a schema, the turn ends with
    an answer that fits it.

    Raises:
        ConfigurationError: A model cannot be made.
        ResourceError: The schema is none.
    """
    asking = (ask_person,) if definition.can_ask else ()
    tools = (*tools, *asking)
    shared = {str(choice): models.make(choice) for choice in choices}

    def made(name: str) -> dict[str, BaseChatModel]:
        """The models of one agent, in the order in which they are asked: a script knows agents by their names."""
        own = {
            str(choice): models.make(choice, agent=name)
            for choice in choices
            if name != MAIN and choice.provider == SCRIPTED
        }
        return {**shared, **own}

    def sub_agent(name: str, description: str, instructions: str, own: tuple[BaseTool, ...]) -> SubAgent:
        # Middleware given to the main agent does not reach sub-agents: each gets its own.
        asked = made(name)
        return SubAgent(
            name=name,
            description=description,
            system_prompt=_instructions(instructions, name, skills),
            model=next(iter(asked.values())),
            tools=list(own),
            middleware=[RunnerMiddleware(context, asked, agent=name)],
        )

    sub_agents = [
        sub_agent(
            each.name,
            each.description or each.name,
            each.instructions,
            (*(of_sub_agents or {}).get(each.name, ()), *asking),
        )
        for each in definition.sub_agents
    ]
    general: Any = GENERAL_PURPOSE_SUBAGENT
    if all(each["name"] != general["name"] for each in sub_agents):
        sub_agents.append(sub_agent(general["name"], general["description"], general["system_prompt"], tools))
    asked = made(MAIN)
    answering = [] if schema is None else [AnswerMiddleware(schema)]
    return create_deep_agent(
        next(iter(asked.values())),
        list(tools),
        system_prompt="\n\n".join(filter(None, (_instructions(definition.instructions, MAIN, skills), files))),
        middleware=[TodoListMiddleware(), *answering, RunnerMiddleware(context, asked)],
        subagents=sub_agents,
        backend=backend or StateBackend(),
        checkpointer=checkpointer,
        name=definition.name,
    )


def differences(graph: Graph, values: Mapping[str, Any]) -> dict[str, Any]:
    """What is in the channels of `graph` that are stored as differences, of its state `values`."""
    channels: Mapping[str, Any] = graph.channels
    stored = [name for name, channel in channels.items() if isinstance(channel, DeltaChannel)]
    return {name: values[name] for name in stored if name in values}


def _instructions(instructions: str, name: str, skills: Mapping[str, tuple[Skill, ...]] | None) -> str:
    told = prompt((skills or {}).get(name, ()))
    return f"{instructions}\n\n{told}" if told else instructions
