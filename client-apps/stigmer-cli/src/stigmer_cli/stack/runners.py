"""The runners of the stack: which there are, and how they are told where everything is."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from importlib.util import find_spec

from stigmer_cli.stack import temporal
from stigmer_cli.stack.child import ChildSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Runner:
    """A Temporal worker program of this workspace."""

    name: str
    module: str
    """What `python -m` runs."""
    queue: str
    """The task queue it serves by default."""
    queue_variable: str
    """The environment variable that names another one."""
    is_heavy: bool = False
    """Takes seconds to load: starts when the others serve, so as not to hold them up."""


RUNNERS = (
    Runner(
        name="workflow-runner",
        module="workflow_runner",
        queue="workflow_execution_runner",
        queue_variable="TEMPORAL_WORKFLOW_EXECUTION_RUNNER_TASK_QUEUE",
    ),
    Runner(
        name="agent-runner",
        module="agent_runner",
        queue="agent_execution_runner",
        queue_variable="TEMPORAL_AGENT_EXECUTION_RUNNER_TASK_QUEUE",
        is_heavy=True,
    ),
)


def installed() -> tuple[Runner, ...]:
    """Return the runners that can be started here."""
    return tuple(runner for runner in RUNNERS if find_spec(f"{runner.module}.__main__") is not None)


def spec(
    runner: Runner, variables: Mapping[str, str], *, temporal_address: str, namespace: str, server_address: str
) -> ChildSpec:
    """Say how to run a runner against the given Temporal and server, in the given environment otherwise."""
    queue = variables.get(runner.queue_variable) or runner.queue
    environment = {
        **variables,
        "PYTHONUNBUFFERED": "1",
        "TEMPORAL_HOST_PORT": temporal_address,
        "TEMPORAL_SERVICE_ADDRESS": temporal_address,
        "TEMPORAL_NAMESPACE": namespace,
        "STIGMER_BACKEND_ENDPOINT": server_address,
    }

    async def is_ready(since: datetime) -> bool:
        return await temporal.has_pollers(temporal_address, namespace=namespace, queue=queue, since=since)

    return ChildSpec(
        name=runner.name, command=(sys.executable, "-m", runner.module), environment=environment, is_ready=is_ready
    )
