"""What the server's record of an execution tells of a conversation, as the messages that a model is asked with."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage
from stigmer_runner.values import read_struct, read_value

from agent_runner.models.marks import SENT

Message = Any
"""A protobuf message of the contract's descriptor pool; its fields are read by name."""

_KEY = "message_id"
_OVER = ("TOOL_CALL_COMPLETED", "TOOL_CALL_FAILED", "TOOL_CALL_SKIPPED")


def messages_of(execution: Message) -> list[AnyMessage]:
    """The messages of an execution, with the results of tools where they were given."""
    found: list[AnyMessage] = []
    for each in execution.status.messages:
        key = each.metadata.fields[_KEY].string_value if _KEY in each.metadata.fields else ""
        match _name(each, "type"):
            case "MESSAGE_HUMAN":
                # Only the first of them begins the execution; the others were said while it ran.
                marks: dict[str, Any] = {} if key == execution.metadata.id else {SENT: True}
                found.append(HumanMessage(each.content, id=key or None, additional_kwargs=marks))
            case "MESSAGE_AI":
                calls = [{"id": call.id, "name": call.name, "args": read_struct(call.args)} for call in each.tool_calls]
                text = each.content or ("" if calls else _output(execution))
                if text or calls:
                    found.append(AIMessage(text, id=key or None, tool_calls=calls))
                found += _results(each)
            case _:
                continue
    return found


def _results(message: Message) -> Iterator[ToolMessage]:
    for call in message.tool_calls:
        if _name(call, "status") in _OVER:
            failed = bool(call.error)
            yield ToolMessage(
                call.error or call.result,
                tool_call_id=call.id,
                name=call.name,
                status="error" if failed else "success",
            )


def _output(execution: Message) -> str:
    """An answer that has a schema is no text."""
    status = execution.status
    return json.dumps(read_value(status.output), ensure_ascii=False) if status.HasField("output") else ""


def _name(message: Message, field: str) -> str:
    number = getattr(message, field)
    return str(message.DESCRIPTOR.fields_by_name[field].enum_type.values_by_number[number].name)
