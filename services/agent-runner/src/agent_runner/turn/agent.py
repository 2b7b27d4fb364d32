"""From an agent's definition to a graph that can run: the only module that knows how deepagents is put together."""

from __future__ import annotations

from typing import Any

from deepagents import SubAgent, create_deep_agent  # pyright: ignore[reportUnknownVariableType] - open parameters
from deepagents.backends import StateBackend
from deepagents.middleware.subagents import GENERAL_PURPOSE_SUBAGENT
from langchain.agents.middleware import TodoListMiddleware
from langchain_core.tools import BaseTool
from langgraph.checkpoint.base import BaseCheckpointSaver

from agent_runner.models.catalog import SCRIPTED, ModelCatalog, ModelChoice
from agent_runner.turn.definition import AgentDefinition
from agent_runner.turn.middleware import RunnerMiddleware, TurnContext
from agent_runner.turn.questions import ask_person

Graph = Any
"""A compiled LangGraph; its type has four parameters that say nothing here."""


def build_agent(
    definition: AgentDefinition,
    *,
    models: ModelCatalog,
    choice: ModelChoice,
    context: TurnContext,
    checkpointer: BaseCheckpointSaver[Any],
    tools: tuple[BaseTool, ...] = (),
) -> Graph:
    """The graph that runs `definition`, with planning, files in its own state, and its sub-agents.

    Files live in the session's checkpoint: nothing here can reach the host's.

    Raises:
        ConfigurationError: The model cannot be made.
    """

    model = models.make(choice)
    if definition.can_ask:
        tools = (*tools, ask_person)

    def sub_agent(name: str, description: str, instructions: str) -> SubAgent:
        # Middleware given to the main agent does not reach sub-agents: each gets its own.
        return SubAgent(
            name=name,
            description=description,
            system_prompt=instructions,
            model=models.make(choice, agent=name) if choice.provider == SCRIPTED else model,
            tools=list(tools),
            middleware=[RunnerMiddleware(context)],
        )

    sub_agents = [
        sub_agent(each.name, each.description or each.name, each.instructions) for each in definition.sub_agents
    ]
    general: Any = GENERAL_PURPOSE_SUBAGENT
    if all(each["name"] != general["name"] for each in sub_agents):
        sub_agents.append(sub_agent(general["name"], general["description"], general["system_prompt"]))
    return create_deep_agent(
        model,
        list(tools),
        system_prompt=definition.instructions,
        middleware=[TodoListMiddleware(), RunnerMiddleware(context)],
        subagents=sub_agents,
        backend=StateBackend(),
        checkpointer=checkpointer,
        name=definition.name,
    )
