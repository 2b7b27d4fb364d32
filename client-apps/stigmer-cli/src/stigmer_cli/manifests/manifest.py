"""One resource as a file declares it, and how a file becomes several of them.

A document that says `document: {dsl: …}` is a workflow of the DSL as it stands; everything else is a resource in the
shape of its message, in camelCase or snake_case.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from google.protobuf.json_format import ParseDict, ParseError
from stigmer_dsl import InvalidDocumentError, Source, SourceDocument, SourceError, doubts_about, parse
from stigmer_dsl.problems import Position, Problem
from stigmer_dsl.stored import compile_traced
from stigmer_protos import descriptors
from stigmer_protos.descriptors import Kind
from workflow_runner import unsupported

from stigmer_cli import kinds
from stigmer_cli.manifests.files import File
from stigmer_cli.manifests.places import DEFINITION, Places, PlainPlaces, TaskPlaces, definition_places, moved
from stigmer_cli.manifests.reading import Reading
from stigmer_cli.plain import is_object
from stigmer_cli.references import DEFAULT_ORG, to_slug
from stigmer_cli.resources import Message

if TYPE_CHECKING:
    from stigmer_dsl.model import Workflow

_ORDER = (
    "organization",
    "environment",
    "mcp_server",
    "skill",
    "agent",
    "workflow",
    "agent_instance",
    "workflow_instance",
)
"""What others refer to comes first."""
_UNSCOPED = {"agent_execution", "execution_context"}
"""Kinds whose metadata must not say a scope; all others belong to an organization unless they say otherwise."""
_SEPARATOR = re.compile(r"^---(?=\s|$)[ \t]*", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A resource that was found sound."""

    kind: Kind
    message: Message
    source: str
    """The file it stands in."""
    position: Position
    definition: Workflow | None = None
    """What the workflow's tasks mean, for a workflow."""
    doubts: tuple[Problem, ...] = ()
    """What the workflow hardly means as it says it."""

    @property
    def name(self) -> str:
        """The name the manifest gives it."""
        return self.message.metadata.name or self.message.metadata.slug

    @property
    def slug(self) -> str:
        """What the server will know it by, within its organization."""
        return self.message.metadata.slug or to_slug(self.message.metadata.name)

    @property
    def org(self) -> str:
        """The organization it belongs to."""
        return self.message.metadata.org


def load(files: Sequence[File], *, org: str = "") -> tuple[list[Manifest], list[Problem]]:
    """Read every document of the files, in the order in which they can be applied, and every problem with them.

    Args:
        files: The texts.
        org: The organization of resources that name none.
    """
    manifests: list[Manifest] = []
    problems: list[Problem] = []
    for file in files:
        for document in _documents(file, problems):
            loader = _Loader(document, org or DEFAULT_ORG)
            manifest = loader.load()
            problems += loader.problems
            if manifest is not None:
                manifests.append(manifest)
    problems += _duplicates(manifests)
    return sorted(manifests, key=_rank), problems


def _documents(file: File, problems: list[Problem]) -> Iterator[SourceDocument]:
    try:
        source = Source.load(file.text, name=file.name)
    except SourceError as error:
        problems += error.problems
        return
    found = [document for document in source.documents if document.value is not None]
    if not found:
        problems.append(Problem(code="manifest.empty", message="there is no resource in it", source=file.name))
    yield from found


def _rank(manifest: Manifest) -> int:
    name = manifest.kind.enum_name
    return _ORDER.index(name) if name in _ORDER else len(_ORDER)


def _duplicates(manifests: Sequence[Manifest]) -> Iterator[Problem]:
    seen: dict[tuple[str, str, str], Manifest] = {}
    for manifest in manifests:
        first = seen.setdefault((manifest.kind.name, manifest.org, manifest.slug), manifest)
        if first is not manifest and manifest.slug:
            yield Problem(
                code="manifest.duplicate",
                message=f"the {manifest.kind.display_name.lower()} {manifest.name!r} is declared twice",
                position=manifest.position,
                source=manifest.source,
                hint=f"first at {first.source}:{first.position.line}",
            )


class _Loader:
    """Turns one document into a manifest and collects what is wrong with it."""

    def __init__(self, document: SourceDocument, org: str) -> None:
        self._document = document
        self._org = org
        self.problems: list[Problem] = []

    def load(self) -> Manifest | None:
        """Return the manifest, None when there are problems."""
        value = self._document.value
        if not is_object(value):
            self._problem("manifest.shape", "", "a resource is an object, with `kind:` or `document:`")
            return None
        is_plain = "document" in value and "kind" not in value
        return self._plain() if is_plain else self._resource(value)

    def _plain(self) -> Manifest | None:
        """Read a workflow of the DSL that stands for itself."""
        definition = self._checked(lambda: parse(self._document))
        if definition is None:
            return None
        message = self._new(kind := descriptors.kind_by_name("Workflow"))
        message.metadata.name = definition.document.name
        message.metadata.org = self._org
        message.metadata.owner_scope = _ORGANIZATION_SCOPE
        message.spec.definition = _text_of(self._document)
        message.spec.description = definition.document.summary or ""
        return self._workflow(kind, message, definition, PlainPlaces(document=self._document))

    def _workflow(self, kind: Kind, message: Message, definition: Workflow, places: Places) -> Manifest | None:
        self._check_runnable(definition, places)
        return None if self.problems else self._manifest(kind, message, definition, self._doubts(definition, places))

    def _doubts(self, definition: Workflow, places: Places) -> tuple[Problem, ...]:
        """Return what the workflow hardly means as it says it, at its places in the file."""
        return tuple(
            replace(
                doubt,
                pointer=places.pointer(doubt.pointer),
                position=places.position(doubt.pointer),
                source=self._document.name,
            )
            for doubt in doubts_about(definition)
        )

    def _resource(self, value: dict[str, Any]) -> Manifest | None:
        kind = self._kind(value)
        if kind is None:
            return None
        reading = Reading()
        content = {key: item for key, item in value.items() if key not in {"kind", "status"}}
        shape: Any = descriptors.message_type(kind.message).DESCRIPTOR
        sound = reading.message(shape, content)
        for mistake in reading.mistakes:
            self._problem("manifest.field", mistake.pointer, mistake.message, mistake.hint)
        message = self._build(kind, sound)
        if message is None:
            return None
        self._check_name(message, reading)
        self._check_rules(message, reading)
        if kind.name == "Agent":
            self._check_agent(message, reading)
        found = None if reading.hides("spec") else self._definition(kind, message, value, reading)
        if found is not None:
            return self._workflow(kind, message, *found)
        return None if self.problems else self._manifest(kind, message)

    def _kind(self, value: dict[str, Any]) -> Kind | None:
        said = value.get("kind")
        if isinstance(said, str):
            kind = kinds.find(said)
            if kind is None:
                known = [known.name for known in kinds.usable()]
                hint = kinds.suggest(said, known) or f"kinds: {', '.join(known)}"
                self._problem("manifest.kind", "/kind", f"there is no kind of resource called {said!r}", hint)
            return kind
        hint = "write `kind: Workflow`, `kind: Agent` …, or `document: {dsl: …}` for a plain workflow"
        self._problem("manifest.kind", "/kind", "it does not say what it is", hint)
        return None

    def _build(self, kind: Kind, sound: dict[str, Any]) -> Message | None:
        message = self._new(kind)
        api_version = sound.pop("api_version", kind.api_version)
        try:
            ParseDict(sound, message)
        except ParseError as error:
            self._problem("manifest.field", "", str(error))
            return None
        message.api_version, message.kind = api_version, kind.name
        message.metadata.org = message.metadata.org or self._org
        if kind.enum_name not in _UNSCOPED and not message.metadata.owner_scope:
            message.metadata.owner_scope = _ORGANIZATION_SCOPE
        return message

    def _new(self, kind: Kind) -> Message:
        message: Message = descriptors.message_type(kind.message)()
        message.api_version, message.kind = kind.api_version, kind.name
        return message

    def _check_name(self, message: Message, reading: Reading) -> None:
        metadata = message.metadata
        is_run = message.kind.endswith("Execution")
        if metadata.name or metadata.slug or is_run or reading.hides("metadata.name"):
            return
        self._problem("manifest.name", "/metadata", "the resource has no name", "write `metadata: {name: …}`")

    def _check_rules(self, message: Message, reading: Reading) -> None:
        from stigmer_grpc.errors import InvalidArgumentError
        from stigmer_grpc.interceptors.validation import check

        try:
            check(message)
        except InvalidArgumentError as error:
            for violation in error.violations:
                self._violated(violation.field, violation.rule_id, violation.message, reading)
            if not error.violations:
                self._problem("rule", "", error.message)

    def _check_agent(self, message: Message, reading: Reading) -> None:
        """Tell what the server would refuse of an agent by itself."""
        from stigmer_server import agents
        from stigmer_server.errors import InvalidError

        try:
            agents.inspect(message)
        except InvalidError as error:
            for violation in error.violations:
                self._violated(violation.field, violation.rule, violation.message, reading)

    def _violated(self, field: str, rule: str, message: str, reading: Reading) -> None:
        if reading.hides(field):
            return
        pointer = _nearest(field, reading.pointers)
        missing = _rest(field, pointer)
        self._problem(f"rule.{rule}", pointer, f"{missing}: {message}" if missing else message)

    def _definition(
        self, kind: Kind, message: Message, value: dict[str, Any], reading: Reading
    ) -> tuple[Workflow, Places] | None:
        if kind.name != "Workflow":
            return None
        if message.spec.definition:
            return self._inner_definition(message.spec.definition, secrets=list(message.spec.env_spec.data))
        return self._compiled(value["spec"]) if message.spec.tasks and not reading.hides("spec.tasks") else None

    def _compiled(self, spec: dict[str, Any]) -> tuple[Workflow, Places] | None:
        try:
            workflow, origin = compile_traced(spec)
        except InvalidDocumentError as error:
            told = {problem.pointer for problem in self.problems}
            for problem in error.problems:
                if (pointer := f"/spec{problem.pointer}") not in told:
                    self._problem(problem.code, pointer, problem.message, problem.hint)
            return None
        return workflow, TaskPlaces(document=self._document, origin=origin)

    def _inner_definition(self, text: str, *, secrets: list[str]) -> tuple[Workflow, Places] | None:
        """Read the definition inside a manifest, and place its problems where they stand in the file."""
        try:
            workflow = parse(text, name=self._document.name, secrets=secrets)
        except (InvalidDocumentError, SourceError) as error:
            for problem in error.problems:
                place = moved(problem.position, self._document, text)
                pointer = f"{DEFINITION}{problem.pointer}"
                self._problem(problem.code, pointer, problem.message, problem.hint, position=place)
            return None
        return workflow, definition_places(self._document, text)

    def _check_runnable(self, definition: Workflow, places: Places) -> None:
        """Refuse what is sound but cannot be run yet, before anything of it has run."""
        for problem in unsupported(definition):
            self._problem(
                problem.code,
                places.pointer(problem.pointer),
                problem.message,
                "a later version of Stigmer may run it",
                position=places.position(problem.pointer, key=True),
            )

    def _checked(self, read: Any) -> Workflow | None:
        try:
            return read()
        except (InvalidDocumentError, SourceError) as error:
            self.problems += error.problems
            return None

    def _manifest(
        self, kind: Kind, message: Message, definition: Workflow | None = None, doubts: tuple[Problem, ...] = ()
    ) -> Manifest:
        return Manifest(
            kind=kind,
            message=message,
            source=self._document.name,
            position=self._document.position(""),
            definition=definition,
            doubts=doubts,
        )

    def _problem(
        self, code: str, pointer: str, message: str, hint: str = "", *, position: Position | None = None
    ) -> None:
        self.problems.append(
            Problem(
                code=code,
                message=message,
                pointer=pointer,
                position=position or self._document.position(pointer, key=True),
                source=self._document.name,
                hint=hint,
            )
        )


_ORGANIZATION_SCOPE = 2
"""ApiResourceOwnerScope.organization."""


def _nearest(path: str, pointers: dict[str, str]) -> str:
    """Return the JSON pointer of the field, or of the nearest thing around it that the document has."""
    while path not in pointers and path:
        path = path[: max(path.rfind("."), path.rfind("["), 0)]
    return pointers.get(path, "")


def _rest(path: str, pointer: str) -> str:
    """Return the field's name when the pointer is not the field's own, because the document leaves it out."""
    name = re.sub(r"\[.*\]$", "", path.rpartition(".")[2])
    last = pointer.rpartition("/")[2]
    return "" if not path or last.replace("_", "").lower() == name.replace("_", "").lower() else name


def _text_of(document: SourceDocument) -> str:
    """Return the text of this document alone, as the user wrote it, comments included."""
    line = document.position("").line
    text = document.text
    starts = [match.start() for match in _SEPARATOR.finditer(text)]
    before = [start for start in starts if text.count("\n", 0, start) < line]
    after = [start for start in starts if text.count("\n", 0, start) >= line]
    start = _SEPARATOR.match(text, before[-1]).end() if before else 0  # pyright: ignore[reportOptionalMemberAccess] - it was found there
    return text[start : after[0] if after else len(text)].removeprefix("\n")
