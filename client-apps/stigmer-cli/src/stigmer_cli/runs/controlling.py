"""The commands that control runs, as far as they are alike: several runs, a line for each, and waiting for an end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stigmer_cli import console, runtime
from stigmer_cli.connection import connect
from stigmer_cli.console import OutputFormat
from stigmer_cli.errors import RUN_FAILED, ConflictError
from stigmer_cli.options import Session
from stigmer_cli.references import Reference
from stigmer_cli.resources import Message, Resources
from stigmer_cli.runs.control import Call, Controls, Outcome, parse_runs, phase, told_stopped
from stigmer_cli.runs.phases import OVER
from stigmer_cli.streams import resume

if TYPE_CHECKING:
    from stigmer_grpc.channel import Channel


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """What a command does to runs, and how it tells of it."""

    command: str
    call: Call
    done: Callable[[Outcome], str]
    """What became of the run, after its id: `was cancelled`, `is cancelled already`."""
    awaited: frozenset[str] = OVER
    """Phases that end the waiting."""
    aim: frozenset[str] = OVER
    """Those of them that were the aim."""
    missed: int = RUN_FAILED
    """Exit code when the waiting ended in another phase."""


def by_method(method: str, reason: str) -> Call:
    """Return the call of a method that takes a reason and nothing else."""

    async def call(controls: Controls, reference: Reference, _: Message) -> Message:
        return await controls.call(reference, method, {"id": reference.id, "reason": reason})

    return call


def bring(session: Session, identifiers: Sequence[str], method: str, aim: str, *, reason: str, wait: bool) -> int:
    """Bring several runs to the phase `aim` by `method`, where they stay until told otherwise; return the exit code."""
    what = Control(
        command=f"stigmer {method}",
        call=by_method(method, reason),
        done=lambda outcome: told_stopped(outcome, aim),
        awaited=OVER | {aim},
        aim=frozenset({aim}),
        missed=ConflictError.exit_code,
    )
    return control(session, identifiers, what, wait=wait)


def control(session: Session, identifiers: Sequence[str], what: Control, *, wait: bool) -> int:
    """Do something to several runs and tell of each; return the exit code, that of the first one that went wrong."""
    work = _Work(session, what, wait=wait)
    try:
        runtime.run(work.main(parse_runs(identifiers)))
    finally:
        work.tell()
    return work.code


class _Work:
    def __init__(self, session: Session, what: Control, *, wait: bool) -> None:
        self._session = session
        self._what = what
        self._wait = wait
        self._outcomes: list[Outcome] = []
        self._refused: list[tuple[str, Exception]] = []
        self.code = 0

    async def main(self, references: Sequence[Reference]) -> None:
        """Do it to all of them, then wait for one after the other; what is refused for one is no matter of the rest."""
        environment, server = self._session.environment, self._session.server
        done: list[Outcome] = []
        async with connect(environment, server=server, command=self._what.command) as channel:
            controls = Controls(Resources(channel))
            for reference in references:
                try:
                    done.append(await controls.apply(reference, self._what.call))
                except Exception as error:  # noqa: BLE001 - told in the end, and becomes the exit code
                    self._refuse(reference.id, error)
        for outcome in done:
            try:
                self._outcomes.append(await self._awaited(outcome) if self._wait else outcome)
            except Exception as error:  # noqa: BLE001 - as above
                self._refuse(outcome.id, error)

    def _refuse(self, identifier: str, error: Exception) -> None:
        self._refused.append((identifier, error))
        self.code = self.code or runtime.exit_code(error)

    async def _awaited(self, outcome: Outcome) -> Outcome:
        """Return the outcome with the run in a phase that ends the waiting."""
        message = outcome.after
        if phase(message) not in self._what.awaited:
            console.note(f"waiting for {outcome.id} …")
            message = await self._until(outcome)
        if phase(message) not in self._what.aim:
            self.code = self.code or self._what.missed
        return Outcome(kind=outcome.kind, before=outcome.before, after=message)

    async def _until(self, outcome: Outcome) -> Message:
        def states(channel: Channel, token: str) -> AsyncIterator[Message]:
            del token
            return Resources(channel).subscribe(outcome.kind, outcome.id)

        stream = resume(self._session, states, command=self._what.command, token_of=lambda _: "")
        async with aclosing(stream):
            async for message in stream:
                if phase(message) in self._what.awaited:
                    return message
        raise AssertionError(outcome.id)

    def tell(self) -> None:
        """Print what became of every run, and what was refused."""
        output, outcomes = self._session.output, self._outcomes
        if not outcomes and not self._refused:
            return
        if output.is_structured:
            refused = [
                {"id": identifier, "error": {"message": str(error), "exit_code": runtime.exit_code(error)}}
                for identifier, error in self._refused
            ]
            console.result(console.structured({"items": [*map(_plain, outcomes), *refused]}, output))
        elif output is OutputFormat.NAME:
            for outcome in outcomes:
                console.result(f"{outcome.kind.enum_name}/{outcome.id}")
        else:
            for outcome in outcomes:
                console.result(f"{outcome.id} {self._what.done(outcome)}")
        for _, error in self._refused:
            runtime.report(error)


def _plain(outcome: Outcome) -> dict[str, Any]:
    return {
        "id": outcome.id,
        "kind": outcome.kind.name,
        "phase": outcome.phase,
        "changed": outcome.changed,
        "reason": outcome.reason or None,
    }
