"""What a run task can run: a container, a script, a shell command, another workflow."""

from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import Tag, model_validator
from pydantic_core import PydanticCustomError

from stigmer_dsl.model.element import Choice, Element, ExpressionText, Flag, Mapped, Text, by_shape
from stigmer_dsl.model.values import DurationLike, ExternalResource

Arguments: TypeAlias = tuple[Text, ...]
SubflowInput: TypeAlias = Annotated[
    Annotated[Mapped, Tag("<object>")]
    | Annotated[tuple[Any, ...], Tag("<list>")]
    | Annotated[ExpressionText, Tag("<text>")],
    by_shape("an object, a list or an expression"),
]


class ContainerLifetime(Element):
    """When the container is removed."""

    cleanup: Literal["always", "never", "eventually"]
    after: DurationLike | None = None

    @model_validator(mode="after")
    def _after_with_eventually(self) -> Self:
        if (self.cleanup == "eventually") != (self.after is not None):
            raise PydanticCustomError("lifetime", "needs `after` when cleanup is eventually, and only then")
        return self


class Container(Element):
    """A container to run."""

    image: Text
    name: Text | None = None
    command: Text | None = None
    ports: Mapped | None = None
    volumes: Mapped | None = None
    environment: Mapped | None = None
    stdin: Text | None = None
    arguments: Arguments | None = None
    lifetime: ContainerLifetime | None = None
    pull_policy: Literal["ifNotPresent", "always", "never"] = "ifNotPresent"


class Script(Choice):
    """A script to run: its code, or where the code is."""

    one_of = (("code", "source"),)

    language: Text
    """`js` (or `javascript`) or `python`."""
    code: Text | None = None
    source: ExternalResource | None = None
    stdin: Text | None = None
    arguments: Arguments | None = None
    environment: Mapped | None = None


class Shell(Element):
    """A shell command to run."""

    command: Text
    stdin: Text | None = None
    arguments: Arguments | None = None
    environment: Mapped | None = None


class Subflow(Element):
    """Another workflow to run."""

    namespace: Text
    name: Text
    version: Text = "latest"
    input: SubflowInput | None = None


class RunConfiguration(Choice):
    """What a run task does."""

    one_of = (("container", "script", "shell", "workflow"),)

    container: Container | None = None
    script: Script | None = None
    shell: Shell | None = None
    workflow: Subflow | None = None
    await_: Flag = True
    """Whether the task waits for the process; if not, it outputs its input."""
    return_: Literal["stdout", "stderr", "code", "all", "none"] = "stdout"
