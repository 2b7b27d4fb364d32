"""What a kind of resource says about itself.

Above stand the verbs, which know no kind by name; below stand the modules of this folder, one per kind, each of
which says only what is different about it. Message type, id prefix and services are not said here: they are read
from the contract's descriptors.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from stigmer_protos import descriptors

from stigmer_server.messages import Message
from stigmer_server.transitions import ENDED, Phase

if TYPE_CHECKING:
    from stigmer_sqlite.port import Reader

    from stigmer_server.checkpoints import Position
    from stigmer_server.resources import Resources
    from stigmer_server.unit import Unit

_PHASE_PREFIX = "EXECUTION_"
DEFAULT_SUFFIX = "-default"
"""What a default instance is called after its owner's name and slug."""
Filter = str | int | bool | Sequence[str]
"""What an indexed value must equal, or of which it must equal one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parent:
    """A resource that this kind cannot do without: checked when the child is written, and guarded against deletion."""

    kind: str
    """The parent's kind."""
    path: str
    """The field that holds the parent's id, such as `spec.agent_id`."""

    @property
    def index(self) -> str:
        """The name of the index on the field, which is the field's own name."""
        return self.path.rpartition(".")[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class References:
    """Resources that this kind names by reference. They are looked up when they are used, so that manifests may be
    applied in any order, but cannot be deleted while they are named."""

    kind: str
    path: str
    """A dotted path to a list of ApiResourceReference. A repeated message on the way is walked through."""


def _ends(status: Message) -> bool:
    del status
    return False


def _leave(status: Message) -> None:
    del status


def _keep(status: Message, begin: Position | None) -> None:
    del status, begin


@dataclass(frozen=True, slots=True, kw_only=True)
class Apart:
    """An array that grows with a run: the elements of a large resource's are stored by themselves, so that a report
    about one of them costs nothing of the others."""

    path: str
    """Where it is: the message around it and its field, such as `status.tasks`."""
    key: str = ""
    """The field by which reports name an element. A report then merges into the elements that it names, in place, and
    adds those that are not there at the end. Empty: a report brings the array as a whole, or nothing of it."""

    @property
    def owner(self) -> str:
        """The resource's field that the array is in."""
        return self.path.partition(".")[0]

    @property
    def name(self) -> str:
        """The array's own field."""
        return self.path.partition(".")[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Phases:
    """What is different about the executions of a kind; which phases there are is read from the contract."""

    merge_status: Callable[[Message, Message], None]
    """Merges a reported status (second) into the stored one (first); phase, reasons and times are not its business."""
    holds: Callable[[Message], bool] = _ends
    """Whether an execution with such a status may not complete yet, whatever its runner says."""
    close: Callable[[Message], None] = _leave
    """Settles what is still open in the status of an execution that has ended."""
    reopen: Callable[[Message, Position | None], None] = _keep
    """Takes out of the status of a failed execution what its recovery undoes; it goes on at the position (second)."""


def _settle_nothing(message: Message, stored: Message | None, unit: Unit) -> None:
    del message, stored, unit


def _remove_nothing(message: Message, unit: Unit) -> None:
    del message, unit


def _inspect_nothing(message: Message) -> None:
    del message


def _numbered(message: Message) -> tuple[str, str]:
    return message.metadata.version.id, ""


def _same_filter(name: str, value: Filter, reader: Reader) -> Mapping[str, Filter]:
    del reader
    return {name: value}


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of resource; every field but the name has the value that fits most kinds."""

    name: str
    """The kind's name in the contract's enum, such as `workflow_execution`."""
    named: bool = True
    """Whether the slug names the resource: it is unique in its organization. Otherwise slugs may repeat."""
    parents: tuple[Parent, ...] = ()
    references: tuple[References, ...] = ()
    indexes: Mapping[str, str] = field(default_factory=dict[str, str])
    """Further indexes, by name, of JSON paths; every parent's field is indexed anyway."""
    secrets: tuple[str, ...] = ()
    """Paths of maps whose values carry `is_secret`: sealed at rest, redacted on every read."""
    fixed: tuple[str, ...] = ()
    """Paths of fields that keep their first value: an update may leave one out, and must not change it."""
    applied_once: bool = False
    """Whether applying an existing resource is refused, because resources of the kind never change."""
    apart: tuple[Apart, ...] = ()
    """Arrays that are stored element by element where the resource is large; all in one message of the resource."""
    run: str = ""
    """The Temporal workflow type that runs an execution of this kind."""
    incidental: Callable[[Message], bool] = lambda message: False
    """Whether a resource exists only for its parent's sake, so that it does not stand in the way of its deletion."""
    default_child: str = ""
    """The kind of the `<name>-default` resource that exists with each resource of this kind, if any."""
    phases: Phases | None = None
    """Set for executions."""
    inspect: Callable[[Message], None] = _inspect_nothing
    """Checks and completes a new state by itself, before any transaction. Raises: InvalidError."""
    inspects_long: Callable[[Message], bool] = lambda message: False
    """Whether that may take so long that it needs a thread, which costs a call more than most of the rest."""
    settle: Callable[[Message, Message | None, Unit], None] = _settle_nothing
    """Completes a new state inside the transaction that stores it; second is the stored state, None on creation."""
    prepare: Callable[[Resources, Message], Awaitable[None]] | None = None
    """Finds out, before the transaction that creates a resource, what cannot be asked for inside of it."""
    removed: Callable[[Message, Unit], None] = _remove_nothing
    """Removes what goes with a resource, in the transaction that has deleted it."""
    version_names: Callable[[Message], tuple[str, str]] = _numbered
    """The tag and the hash (or empty) under which the version that a resource is now is found later."""
    content: tuple[str, ...] = ()
    """Paths of fields of the status that belong to the version, as the spec does, and go back with it."""
    shared: bool = False
    """Whether a resource that belongs to no organization is the platform's: everybody may see and use it."""
    is_tenant: bool = False
    """Whether resources of the kind are organizations, to which others belong; each belongs to itself."""
    no_rollback: str = ""
    """Why resources of the kind never go back to an earlier version, for people; empty where they may."""
    filtered: Callable[[str, Filter, Reader], Mapping[str, Filter]] = _same_filter
    """Turns a field of a list request into filters on indexes."""

    @property
    def phase_names(self) -> tuple[str, ...]:
        """Names of the phases that an execution can be in, as its status says them; none for other kinds."""
        return tuple(name for number, name in self._phase_names.items() if number) if self.phases else ()

    @property
    def tagged(self) -> bool:
        """Whether versions have names of their own beside their numbers."""
        return self.version_names is not _numbered

    @cached_property
    def described(self) -> descriptors.Kind:
        """What the contract says of the kind."""
        return descriptors.kind_by_enum_name(self.name)

    @cached_property
    def title(self) -> str:
        """What a resource says in its `kind` field, and messages to people say too."""
        return self.described.name

    @cached_property
    def type(self) -> Message:
        """The message class of the resource."""
        return descriptors.message_type(self.described.message)

    @cached_property
    def all_indexes(self) -> Mapping[str, str]:
        """Every index of the kind, with its JSON path."""
        parents = {parent.index: f"$.{_camel(parent.path)}" for parent in self.parents}
        phase = {"phase": "$.status.phase"} if self.phases else {}
        return {**parents, **phase, **self.indexes}

    def parse(self, wire: bytes) -> Message:
        """Return the resource that the bytes encode."""
        message = self.type()
        message.ParseFromString(wire)
        return message

    @cached_property
    def _phase_names(self) -> Mapping[int, str]:
        values = self.type.DESCRIPTOR.fields_by_name["status"].message_type.fields_by_name["phase"].enum_type.values
        return {value.number: value.name for value in values}

    @cached_property
    def _phases_by_number(self) -> Mapping[int, Phase]:
        known = {f"{_PHASE_PREFIX}{phase}": phase for phase in Phase}
        return {number: known[name] for number, name in self._phase_names.items() if name in known}

    @cached_property
    def _phase_numbers(self) -> Mapping[Phase, int]:
        return {phase: number for number, phase in self._phases_by_number.items()}

    def phase_of(self, status: Message) -> Phase:
        """Return the phase of a stored or reported status that says one."""
        return self._phases_by_number[status.phase]

    def phase_number(self, phase: Phase) -> int:
        """Return the kind's own number of a phase."""
        return self._phase_numbers[phase]

    def phase_name(self, number: int) -> str:
        """Return the name of a phase, as the index holds it."""
        return self._phase_names.get(number, str(number))

    @cached_property
    def unfinished(self) -> tuple[str, ...]:
        """Names of the phases of executions that have not ended."""
        return tuple(
            name
            for number, name in self._phase_names.items()
            if self.phases is None or self._phases_by_number.get(number) not in ENDED
        )

    def run_id(self, id: str, recoveries: int = 0) -> str:
        """Return the id of the Temporal workflow that runs an execution since its latest recovery."""
        return f"{self.run}/{id}/recovery-{recoveries}" if recoveries else f"{self.run}/{id}"

    def is_finished(self, message: Message) -> bool:
        """Tell whether the resource is an execution that has ended."""
        return self.phases is not None and self._phases_by_number.get(message.status.phase) in ENDED


def _camel(path: str) -> str:
    """Return a dotted path of field names as proto-JSON spells it."""

    def spell(name: str) -> str:
        first, *rest = name.split("_")
        return first + "".join(part.title() for part in rest)

    return ".".join(spell(name) for name in path.split("."))
