"""The texts that models are giving: what may be shown of each, and what of that has been told."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from stigmer_runner.redaction import RedactedStream, Redactor

LONGEST = 32_768
"""Characters of one text in a status: every update sends the whole status, and a server takes 10 MiB."""
_MOST_FINISHED = 16
"""Finished texts that nobody has taken yet; a status holds them, so older ones need not be told."""


@dataclass(slots=True, kw_only=True)
class Draft:
    """A text that is being given.

    Attributes:
        key: Names it.
        position: Index of its message in the status; -1: it is in none.
        task: The `task` call for which a sub-agent says it.
        thinking: Whether it is thinking, and no answer.
        text: What may be shown of it.
        finished: Whether it is over.
        told: How many characters of it were told already.
        changes: How often it has changed.
        rewinds: How often it became another text.
        is_due: Whether there is something to tell of it.
    """

    key: str
    position: int
    task: str
    thinking: bool
    stream: RedactedStream
    text: str = ""
    finished: bool = False
    told: int = 0
    changes: int = 0
    rewinds: int = 0
    is_due: bool = False

    def add(self, text: str) -> None:
        """Some more was said."""
        self.text = (self.text + _whole_characters(self.stream.feed(text)))[:LONGEST]

    def become(self, text: str) -> None:
        """The text is another one, from some place on."""
        text = text[:LONGEST]
        if not text.startswith(self.text):
            self.told = 0
            self.rewinds += 1
        self.text = text

    def finish(self) -> None:
        """Nothing more will be said."""
        self.become(self.text + _whole_characters(self.stream.rest()))
        self.finished = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """Some more of a draft: what comes after its first `offset` characters."""

    draft: Draft
    offset: int
    text: str
    finished: bool
    changes: int
    rewinds: int


class Drafts:
    """The drafts of one turn."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._drafts: dict[str, Draft] = {}
        self.changed = asyncio.Event()

    def find(self, key: str) -> Draft | None:
        """The draft of that name, if there is one."""
        return self._drafts.get(key)

    def begin(self, key: str, *, position: int, task: str = "", thinking: bool = False) -> Draft:
        """A new draft."""
        draft = Draft(key=key, position=position, task=task, thinking=thinking, stream=self._redactor.stream())
        self._drafts[key] = draft
        return draft

    def note(self, draft: Draft) -> None:
        """A draft has changed."""
        draft.is_due = True
        draft.changes += 1
        finished = [each.key for each in self._drafts.values() if each.finished]
        for key in finished[:-_MOST_FINISHED]:
            del self._drafts[key]
        self.changed.set()

    def unsay(self, key: str) -> None:
        """What was said in a draft does not count: the model is asked again."""
        draft = self._drafts.get(key)
        if draft is not None and not draft.finished:
            draft.stream = self._redactor.stream()
            draft.become("")
            self.note(draft)

    def due(self) -> list[Delta]:
        """What is new in the drafts; `told` it must be, or it is due again."""
        return [
            Delta(
                draft=draft,
                offset=draft.told,
                text=draft.text[draft.told :],
                finished=draft.finished,
                changes=draft.changes,
                rewinds=draft.rewinds,
            )
            for draft in self._drafts.values()
            if draft.is_due
        ]

    def told(self, delta: Delta) -> None:
        """A delta has been told."""
        draft = delta.draft
        if draft.rewinds == delta.rewinds:
            draft.told = delta.offset + len(delta.text)
        draft.is_due = draft.changes != delta.changes
        if draft.finished and not draft.is_due and self._drafts.get(draft.key) is draft:
            del self._drafts[draft.key]


def _whole_characters(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
