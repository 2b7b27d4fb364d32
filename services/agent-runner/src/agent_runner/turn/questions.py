"""The tool with which an agent asks people: a call of it always waits, and a person's comment is its result."""

from __future__ import annotations

from langchain_core.tools import tool

from agent_runner.turn.approvals import ASK_PERSON


@tool(ASK_PERSON)
def ask_person(question: str, options: list[str] | None = None) -> str:
    """Ask a person a question that only they can answer, and wait for the answer.

    Args:
        question: The question, with everything that one must know to answer it.
        options: Answers to choose from, if they are few; any other answer may still come.
    """
    raise AssertionError((question, options))
