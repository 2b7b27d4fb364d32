"""Where the runs of a workflow execution got to, kept so that a failed one can be recovered.

A checkpoint is the runner's own: the server keeps its content without reading it, and knows only with which tasks a
run may begin. Of each task the newest checkpoint counts. All of them go when the execution ends well, or is deleted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pydantic import TypeAdapter
from stigmer_sqlite.paging import records
from stigmer_sqlite.port import KindSchema, Query, Record, Transaction

from stigmer_server import naming, values
from stigmer_server.errors import InvalidError, RefusedError
from stigmer_server.messages import Message

if TYPE_CHECKING:
    from stigmer_server.unit import Unit

SCHEMA = KindSchema(kind="execution_checkpoint", named=False, indexes={"execution": "$.execution"})
"""The store's kind of checkpoints; no resource of anybody's."""
MAX_BYTES = 32 * 2**20
"""What the checkpoints of one execution may hold together; beyond it the oldest go."""
MAX_LARGE = 3
"""How many large ones an execution may have beside the newest."""
BEGINNING = frozenset({"/", "/do"})
"""What to call the beginning of a workflow."""
_SHOWN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """A task with which a run can begin."""

    reference: str
    """JSON pointer of the task in the definition."""
    task_name: str
    task_id: str
    within: tuple[str, ...] = ()
    """Ids of the tasks around it, outermost first."""
    failed: bool = False
    """Whether a run failed here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What one run left behind at one moment."""

    id: str
    execution: str
    run: str
    """Id of the Temporal workflow that left it."""
    content: bytes = b""
    large_key: str = ""
    """Names the content where it is a large value."""
    large_bytes: int = 0
    positions: tuple[Position, ...] = field(default_factory=tuple)
    """In the order in which the tasks began."""
    chosen: str | None = None
    """Pointer of the task with which the next run begins, empty for the one that failed; None: not in this one."""


def save(unit: Unit, given: Message) -> None:
    """Keep a checkpoint; of those before it, what it replaces goes."""
    positions = tuple(
        Position(
            reference=item.reference,
            task_name=item.task_name,
            task_id=item.task_id,
            within=tuple(item.within),
            failed=item.failed,
        )
        for item in given.positions
    )
    new = Checkpoint(
        id=naming.new_id("chk"),
        execution=given.execution_id,
        run=given.temporal_workflow_id,
        content=given.content,
        large_key=given.large_content.key,
        large_bytes=given.large_content.bytes,
        positions=positions,
    )
    replaced = {(position.reference, position.failed) for position in positions}
    room = MAX_BYTES - len(new.content)
    large_room = MAX_LARGE
    kept: list[Checkpoint] = []
    for old in reversed(list(_of(unit.transaction, given.execution_id))):
        room -= len(old.content)
        rest = tuple(item for item in old.positions if (item.reference, item.failed) not in replaced)
        large_room -= bool(old.large_key)
        if room < 0 or large_room < 0 or not (rest or old.chosen is not None):
            _delete(unit, old, kept=new.large_key)
        elif rest != old.positions:
            kept.append(replace(old, positions=rest))
    for checkpoint in [*kept, new]:
        unit.transaction.save(_record(checkpoint))


def choose(unit: Unit, execution: str, from_task: str, *, of: str = "") -> Position | None:
    """Settle where the next run begins: with the named task, or where the last one failed; None is the beginning.

    What began after that place is forgotten. `of`: the execution whose runs these were, if it is another one.

    Raises:
        InvalidError: Several tasks have the name.
        RefusedError: No run can begin there.
    """
    known = list(_of(unit.transaction, execution))
    if from_task in BEGINNING or not (known or from_task):
        drop(unit, execution)
        return None
    places = [(checkpoint, position) for checkpoint in known for position in checkpoint.positions]
    found = (
        _named(places, from_task) if from_task else next((item for item in reversed(places) if item[1].failed), None)
    )
    if found is None:
        raise RefusedError(_unreachable(of or execution, from_task, (position for _, position in places)))
    chosen, position = found
    past = False
    for checkpoint in known:
        before = tuple(_until(checkpoint.positions, position)) if checkpoint is chosen else checkpoint.positions
        if past:
            _delete(unit, checkpoint, kept=chosen.large_key)
        else:
            begins = "" if position.failed else position.reference
            mark = begins if checkpoint is chosen else None
            unit.transaction.save(_record(replace(checkpoint, positions=before, chosen=mark)))
        past = past or checkpoint is chosen
    return position


def chosen(unit: Unit, execution: str) -> Checkpoint | None:
    """Return the checkpoint with which the present run begins, if it does not begin at the beginning."""
    return next((item for item in _of(unit.transaction, execution) if item.chosen is not None), None)


def known(unit: Unit, execution: str) -> bool:
    """Tell whether there is any place of an execution with which a run can begin."""
    return any(checkpoint.positions for checkpoint in _of(unit.transaction, execution))


def take_over(unit: Unit, earlier: str, execution: str, from_task: str) -> Position:
    """Give a new execution what an earlier one has left, and settle where its first run begins.

    That is with the named task; else where the earlier one did not end well; else with the task that it began last.

    Raises:
        InvalidError: Several tasks have the name.
        RefusedError: No run can begin there.
    """
    last: Position | None = None
    for checkpoint in list(_of(unit.transaction, earlier)):
        unit.transaction.save(_record(replace(checkpoint, id=naming.new_id("chk"), execution=execution, chosen=None)))
        if checkpoint.large_key:
            values.add(unit.transaction, execution, checkpoint.large_key)
        last = next((item for item in reversed(checkpoint.positions) if item.failed), None) or next(
            iter(checkpoint.positions[-1:]), last
        )
    if last is None:
        raise RefusedError(f"{earlier} has left no state: begin with / to run everything with its input")
    begin = choose(unit, execution, from_task or ("" if last.failed else last.reference), of=earlier)
    if begin is None:
        raise RefusedError(_unreachable(earlier, from_task, ()))
    return begin


def drop(unit: Unit, execution: str) -> None:
    """Remove every checkpoint of an execution."""
    for checkpoint in list(_of(unit.transaction, execution)):
        _delete(unit, checkpoint)


def _delete(unit: Unit, checkpoint: Checkpoint, *, kept: str = "") -> None:
    """Remove a checkpoint, with its content unless that is the one to be kept."""
    unit.transaction.delete(SCHEMA.kind, checkpoint.id)
    if checkpoint.large_key != kept:
        values.forget(unit.transaction, checkpoint.execution, checkpoint.large_key)


def _named(places: list[tuple[Checkpoint, Position]], name: str) -> tuple[Checkpoint, Position] | None:
    usable = [item for item in places if not item[1].failed]
    found = [item for item in usable if item[1].reference == name] or [
        item for item in usable if item[1].task_name == name
    ]
    references = sorted({position.reference for _, position in found})
    if len(references) > 1:
        listed = ", ".join(references)
        raise InvalidError.of("from_task", "from_task.ambiguous", f"several tasks have this name, say which: {listed}")
    return found[-1] if found else None


def _unreachable(execution: str, from_task: str, positions: Iterable[Position]) -> str:
    if from_task:
        what = f"no run of {execution} is known to have begun task {from_task}"
    else:
        what = f"the last run of {execution} left no record of where it was"
    names = dict.fromkeys(position.reference for position in positions if not position.failed)
    shown = f"one of {', '.join(list(names)[:_SHOWN])}, or with " if names else ""
    can = f"begin with {shown}/ to run everything again"
    return f"{what}; {can}"


def _until(positions: tuple[Position, ...], last: Position) -> Iterator[Position]:
    for position in positions:
        yield position
        if position == last:
            return


def _of(transaction: Transaction, execution: str) -> Iterator[Checkpoint]:
    query = Query(kind=SCHEMA.kind, where={"execution": execution}, newest_first=False, limit=200)
    return map(_checkpoint, records(transaction, query))


def _record(checkpoint: Checkpoint) -> Record:
    data = _codec.dump_json(checkpoint, exclude={"content"}).decode()
    return Record(kind=SCHEMA.kind, id=checkpoint.id, data=data, wire=checkpoint.content)


def _checkpoint(record: Record) -> Checkpoint:
    return replace(_codec.validate_json(record.data), content=record.wire or b"")


_codec = TypeAdapter(Checkpoint)
