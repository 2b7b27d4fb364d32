"""What a task asks a person, and asking it at the prompt: the outcome, then the form field by field."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stigmer_cli import console
from stigmer_cli.console import Style
from stigmer_cli.keyboard import Keyboard
from stigmer_cli.plain import is_object
from stigmer_cli.runs.execution import Task

_WORDS = {
    "APPROVE": ("approved", "approve", "yes", "accept", "ok"),
    "REJECT": ("rejected", "reject", "no", "deny", "decline"),
}
"""What outcomes are called that mean yes or no, the likeliest first."""
DEFAULTS = {action: words[0] for action, words in _WORDS.items()}
"""What they are called where a task does not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """The question of one task."""

    name: str
    """Of the task."""
    message: str
    outcomes: tuple[str, ...]
    fields: Mapping[str, Any]
    """Schemas of what is to be filled in, by name."""
    deadline: str

    @classmethod
    def of(cls, task: Task) -> Question:
        """Return what a task that waits asks; one of another runner may ask nothing in particular."""
        asked: Mapping[str, Any] = task.input if is_object(task.input) else {}
        form: Any = asked.get("form")
        properties: Any = form.get("properties", {}) if is_object(form) else {}
        return cls(
            name=task.name,
            message=str(asked.get("message") or ""),
            outcomes=tuple(map(str, asked.get("outcomes") or ())),
            fields=properties if is_object(properties) else {},
            deadline=str(asked.get("deadline") or ""),
        )

    def outcome_for(self, action: str) -> str:
        """Return which of the outcomes means APPROVE or REJECT; what it is usually called when none does."""
        found = (each for word in _WORDS[action] for each in self.outcomes if each.lower() == word)
        return next(found, DEFAULTS[action])

    def show(self) -> None:
        """Tell the person what is asked."""
        until = f" (until {self.deadline})" if self.deadline else ""
        console.note(f"{self.name} asks{until}: {console.printable(self.message)}", style=Style.BOLD)

    async def ask(self, typed: Keyboard) -> dict[str, Any] | None:
        """Have the person answer; None when they would rather do so later."""
        outcome = await self._outcome(typed)
        if outcome is None:
            return None
        data = {}
        for name, schema in self.fields.items():
            value = await self._field(typed, name, schema if is_object(schema) else {})
            if value is not None:
                data[name] = value
        return {"outcome": outcome, "form_data": data, "comment": await typed.line("comment (may be empty): ") or ""}

    async def _outcome(self, typed: Keyboard) -> str | None:
        offered = " / ".join(console.printable(each) for each in self.outcomes)
        while True:
            said = await typed.line(f"{offered or 'your answer'} (empty: later): ")
            if not said or not said.strip():
                return None
            said = said.strip()
            # The beginning of an outcome is enough, where it is of one only.
            meant = [each for each in self.outcomes if each.lower().startswith(said.lower())]
            if said in self.outcomes or not self.outcomes:
                return said
            if len(meant) == 1:
                return meant[0]

    async def _field(self, typed: Keyboard, name: str, schema: Mapping[str, Any]) -> Any:
        label = console.printable(str(schema.get("title") or schema.get("description") or name))
        kind = schema.get("type")
        choices: Any = schema.get("enum") or ([kind] if kind else [])
        hint = f" ({' / '.join(map(str, choices))})" if choices else ""
        while True:
            said = (await typed.line(f"  {label}{hint}: ") or "").strip()
            if not said:
                # What must be there and is not, the server says.
                return schema.get("default")
            if kind in ("string", None):
                return said
            try:
                return json.loads({"yes": "true", "no": "false"}.get(said, said) if kind == "boolean" else said)
            except ValueError:
                console.complain(f"{label} is of type {kind}; write it as JSON")
