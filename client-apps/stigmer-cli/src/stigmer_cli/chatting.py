"""A talk with an agent: every line that a person types is a run in one session."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from stigmer_cli import console, keyboard, references, runtime
from stigmer_cli.errors import InvalidInputError
from stigmer_cli.files.given import Given
from stigmer_cli.keyboard import Keyboard
from stigmer_cli.options import Session
from stigmer_cli.resources import Message, Resources
from stigmer_cli.runs.agent import AgentRun
from stigmer_cli.runs.attending import Attendant
from stigmer_cli.runs.control import Controls
from stigmer_cli.runs.declared import Declared
from stigmer_cli.runs.follow import ConnectionLostError, follow, follow_again
from stigmer_cli.runs.inputs import NO_INPUT
from stigmer_cli.runs.onlooking import Onlooker
from stigmer_cli.runs.outcome import tell
from stigmer_cli.runs.place import open_place
from stigmer_cli.runs.start import Request, create
from stigmer_cli.runs.states import Run, kind_of_run

_COMMAND = "stigmer chat"
_PROMPT = "> "


@dataclass(slots=True, kw_only=True)
class Chat:
    """One talk."""

    session: Session
    what: str
    name: str
    org: str
    model: str
    environment: Mapping[str, Mapping[str, Any]]
    files: tuple[Given, ...] = ()
    """What is put into the workspace before anything is said."""
    environments: tuple[str, ...] = ()
    """Environments whose variables and secrets the conversation has."""
    used: str = ""
    """What all of the conversation has used up, in words, once it is known."""
    conversation: str = ""
    """Id of the session, once there is one."""
    _typed: Keyboard = field(default_factory=Keyboard)
    _code: int = 0

    async def main(self) -> int:
        """Talk until there is nothing more to be said; the exit code is that of the last run."""
        declared = self._declared()
        async with open_place(self.session, command=_COMMAND) as place:
            return await place.do(self._talk(place.resources, declared))

    def _declared(self) -> Declared | None:
        kind = references.kind_of_id(self.what)
        if kind is not None and kind.enum_name == "session":
            if self.environments:
                raise InvalidInputError("--env-from is for a new conversation", hint="a session keeps its environments")
            self.conversation = self.what
            return None
        declared = Declared.read(self.what, name=self.name, org=self.org)
        if declared.chosen is not None:
            _require_agent(declared.chosen.kind.name)
        return declared

    async def _talk(self, resources: Resources, declared: Declared | None) -> int:
        if declared is None:
            agent = await self._agent_of_session(resources)
        else:
            agent = await declared.store(resources)
            _require_agent(agent.kind)
        prompt = _PROMPT if keyboard.is_there() else ""
        if prompt:
            console.note(f"talking with {agent.metadata.name}; Ctrl-D ends it", style=console.Style.DIM)
        while (line := await self._typed.line(prompt)) is not None:
            if (said := line.strip()) in {"/exit", "/quit"}:
                break
            if said:
                await self._say(resources, agent, said)
        return self._code

    async def _agent_of_session(self, resources: Resources) -> Message:
        session = await resources.get(references.parse(self.conversation, kind=None))
        instance = await resources.get(references.parse(session.spec.agent_instance_id, kind=None))
        return await resources.get(references.parse(instance.spec.agent_id, kind=None))

    async def _say(self, resources: Resources, agent: Message, text: str) -> None:
        request = Request(
            input=NO_INPUT,
            message=text,
            environment=self.environment,
            session=self.conversation,
            model=self.model,
            files=self.files,
            environments=() if self.conversation else self.environments,
        )
        self.files = ()
        created = await create(resources, agent, request)
        self.conversation = created.spec.session_id
        run, showed = await self._follow(resources, created.metadata.id)
        self.used = run.session_summary if isinstance(run, AgentRun) else ""
        answered = replace(run, phase="COMPLETED") if isinstance(run, AgentRun) and run.phase == "CANCELLED" else run
        code = tell(answered, self.session.output, showed_answer=showed)
        self._code = 0 if run.phase == "CANCELLED" else code

    async def _follow(self, resources: Resources, identifier: str) -> tuple[Run, bool]:
        """Follow a run to its end; Ctrl-C cancels it, and the talk goes on."""
        cancelling: list[asyncio.Task[Message]] = []

        def cancel() -> None:
            if not cancelling:
                call = Controls(resources).call(references.parse(identifier, kind=None), "cancel", {"id": identifier})
                cancelling.append(asyncio.ensure_future(call))

        kind_of_run(identifier)
        attendant = Attendant(self._typed if keyboard.is_there() else None)
        with Onlooker(self.session, identifier, attendant=attendant) as onlooker, runtime.on_interrupt(cancel):
            try:
                run = await follow(resources, identifier, onlooker.see)
            except ConnectionLostError:
                run = await follow_again(self.session, identifier, onlooker.see, command=_COMMAND, own=True)
        await asyncio.gather(*cancelling, return_exceptions=True)
        return run, onlooker.showed_answer


def _require_agent(kind: str) -> None:
    if kind != "Agent":
        msg = f"a resource of kind {kind} cannot be talked with"
        raise InvalidInputError(msg, hint="`stigmer get agents` lists who can be; `stigmer run` runs workflows")
