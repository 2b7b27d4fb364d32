"""What the workflow runner can be told."""

from pathlib import Path
from typing import ClassVar, Literal

from stigmer_dsl import schemas
from stigmer_runner import RunnerSettings, setting
from stigmer_runner.settings import folders

from workflow_runner import names
from workflow_runner.messages import MOST_AGENT_BYTES, MOST_BYTES, Limits
from workflow_runner.room import MOST_SENT_BYTES

_INLINE_RESPONSE_BYTES = 1_500_000


_GUARDED_COST = 25
"""Ten expressions of half a second each, and a run lets go: Temporal takes more for a hang."""
_LONGEST_BRANCH_CALL = 1.0
"""Seconds. What other branches ask of Temporal, such as a timer, waits for as long as the local call of one takes."""


class Settings(RunnerSettings):
    """The Temporal worker that runs Stigmer's workflows."""

    program: ClassVar[str] = "workflow-runner"

    task_queue: str = setting(
        names.TASK_QUEUE,
        "TEMPORAL_WORKFLOW_EXECUTION_RUNNER_TASK_QUEUE",
        description="Temporal task queue that runs are taken from",
        min_length=1,
    )
    validation_queue: str = setting(
        names.VALIDATION_QUEUE,
        "TEMPORAL_WORKFLOW_VALIDATION_RUNNER_TASK_QUEUE",
        description="Temporal task queue of validations, for servers that ask runners for them; empty: none are taken",
    )
    max_backward_jumps: int = setting(
        10_000,
        "STIGMER_MAX_BACKWARD_JUMPS",
        description="jumps backwards in one pass through a task list before the run faults",
        ge=0,
    )
    max_tasks: int = setting(
        1_000_000,
        "STIGMER_MAX_TASKS",
        description="tasks that one run may do, loops and retries included, before it faults; 0: any number",
        ge=0,
    )
    max_call_depth: int = setting(
        100,
        "STIGMER_MAX_CALL_DEPTH",
        description="runs that may start one another in a row, by running workflows or by events, before one may not",
        ge=0,
    )
    max_history_events: int = setting(
        0,
        "STIGMER_MAX_HISTORY_EVENTS",
        description="events after which a run goes on in a new history; 0 leaves it to Temporal",
        ge=0,
    )
    local_calls_in_row: int = setting(
        25,
        "STIGMER_LOCAL_CALLS_IN_ROW",
        description="finished safe calls that a killed runner may have to repeat",
        ge=0,
    )
    local_call_seconds: float = setting(
        5.0,
        "STIGMER_LOCAL_CALL_SECONDS",
        description="a safe call that takes longer is made by an ordinary activity",
        gt=0,
        le=8,
    )
    call_seconds: float = setting(
        300.0, "STIGMER_CALL_SECONDS", description="how long a call may take when its task has no timeout", gt=0
    )
    activity_task_queue: str = setting(
        "",
        "STIGMER_ACTIVITY_TASK_QUEUE",
        description="Temporal task queue of `call: activity` tasks that name none; without it they must name one",
    )
    agent_task_queue: str = setting(
        "agent_execution_runner",
        "TEMPORAL_AGENT_EXECUTION_RUNNER_TASK_QUEUE",
        description="Temporal task queue of the agent-runner, which asks models for `llm_call` and `eval` tasks",
        min_length=1,
    )
    model_start_seconds: float = setting(
        60.0,
        "STIGMER_MODEL_START_SECONDS",
        description="how long an agent-runner may leave a call of a model waiting before it fails",
        gt=0,
    )
    max_response_bytes: int = setting(
        0,
        "STIGMER_MAX_RESPONSE_BYTES",
        description="largest answer to a call, decompressed; 0: what a value may take (1,500,000 without a blob store)",
        ge=0,
    )

    max_resource_bytes: int = setting(
        16 * 2**20,
        "STIGMER_MAX_RESOURCE_BYTES",
        description="largest external resource: an OpenAPI document, a proto file, a script",
        ge=1,
    )
    resources_folder: Path | None = setting(
        None, "STIGMER_RESOURCES_FOLDER", description="folder below which workflows may name files; none unless given"
    )
    default_catalog: str = setting(
        "",
        "STIGMER_DEFAULT_CATALOG",
        description="address of the catalog that functions called NAME:VERSION@default stand in",
    )
    outbound_ca: Path | None = setting(
        None,
        "STIGMER_OUTBOUND_CA",
        description="PEM file of further certificate authorities that calls trust",
    )

    sandbox: Literal["local", "host", "off"] = setting(
        "local",
        "STIGMER_RUN_SANDBOX",
        description="where scripts and shells run: in namespaces of this machine, on the machine itself, or not at all",
    )
    sandbox_network: bool = setting(
        True, "STIGMER_RUN_NETWORK", description="whether a process gets the network when its task asks for it"
    )
    sandbox_memory_mb: int = setting(
        512, "STIGMER_RUN_MEMORY_MB", description="mebibytes that a script or shell may take", ge=16
    )
    sandbox_processes: int = setting(
        64, "STIGMER_RUN_PROCESSES", description="processes that a script or shell may have at once", ge=1
    )
    sandbox_readable: str = setting(
        "",
        "STIGMER_RUN_READABLE",
        description="folders that MCP servers may read besides the machine's programs, separated by colons",
    )

    def readable(self) -> tuple[Path, ...]:
        """Return the folders of `sandbox_readable`."""
        return folders(self.sandbox_readable)

    containers: Literal["on", "off"] = setting(
        "on", "STIGMER_CONTAINERS", description="whether tasks may run containers, where there is an engine for it"
    )
    container_socket: Path | None = setting(
        None,
        "STIGMER_CONTAINER_SOCKET",
        description="unix socket of Docker or Podman; one of the usual ones unless given",
    )
    container_volumes: Path | None = setting(
        None,
        "STIGMER_CONTAINER_VOLUMES",
        description="folder below which containers may be given folders of this machine; none unless given",
    )

    def limits(self) -> Limits:
        """Return the bounds that each run takes along."""
        made: Limits = {
            "max_backward_jumps": self.max_backward_jumps,
            "max_history_events": self.max_history_events,
            "max_tasks": self.max_tasks,
            "max_call_depth": self.max_call_depth,
            "guarded_cost": _GUARDED_COST,
            "raises_json": True,
            "max_schema_checks": schemas.most_checks.get(),
            "local_calls_in_row": self.local_calls_in_row,
            "local_call_seconds": self.local_call_seconds,
            "local_branch_seconds": min(self.local_call_seconds, _LONGEST_BRANCH_CALL),
            "ends_durably": True,
            "ends_once": True,
            "lends_reports": True,
            "call_seconds": self.call_seconds,
            "activity_task_queue": self.activity_task_queue,
            "agent_task_queue": self.agent_task_queue,
            "model_start_seconds": self.model_start_seconds,
            "max_value_bytes": self.value_bytes,
            "max_sent_bytes": MOST_SENT_BYTES,
            "max_agent_bytes": min(self.value_bytes, MOST_AGENT_BYTES),
        }
        if self.has_blobs:
            made["max_inline_bytes"] = self.blob_threshold_bytes
        return made

    @property
    def has_blobs(self) -> bool:
        """Whether values that are too large for histories have a place."""
        return self.blob_folder is not None or bool(self.blob_bucket)

    @property
    def value_bytes(self) -> int:
        """What one value of a run may take."""
        return self.max_value_bytes if self.has_blobs else MOST_BYTES

    @property
    def response_bytes(self) -> int:
        """What the answer to a call may take."""
        return self.max_response_bytes or (self.max_value_bytes if self.has_blobs else _INLINE_RESPONSE_BYTES)
