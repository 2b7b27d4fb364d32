"""The runners of the stack: which there are, and how they are told where everything is."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path

from stigmer_cli.environment import Home
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


_NOT_FOR_RUNNERS = frozenset(
    {
        "STIGMER_TOKEN",
        "STIGMER_TOKEN_FILE",
        "STIGMER_API_KEY",
        "STIGMER_API_KEY_FILE",
        "STIGMER_BACKEND_TLS",
        "STIGMER_BACKEND_CA",
    }
)


def installed() -> tuple[Runner, ...]:
    """Return the runners that can be started here."""
    return tuple(runner for runner in RUNNERS if find_spec(f"{runner.module}.__main__") is not None)


def spec(
    runner: Runner,
    variables: Mapping[str, str],
    *,
    temporal_address: str,
    namespace: str,
    server_address: str,
    key_file: Path | None,
    home: Home,
) -> ChildSpec:
    """Say how to run a runner against the given Temporal and server, in the given environment otherwise.

    It signs in with the key in a file of its own. The tokens of the person who starts it are none of its business.
    """
    queue = variables.get(runner.queue_variable) or runner.queue
    environment = {
        "STIGMER_AGENT_RUNNER_DATA": str(home.agents),
        "STIGMER_BLOB_FOLDER": str(home.blobs),
        "STIGMER_SCRIPTS_FOLDER": str(home.scripts),
        **{name: value for name, value in variables.items() if name not in _NOT_FOR_RUNNERS},
        "PYTHONUNBUFFERED": "1",
        "TEMPORAL_HOST_PORT": temporal_address,
        "TEMPORAL_SERVICE_ADDRESS": temporal_address,
        "TEMPORAL_NAMESPACE": namespace,
        "STIGMER_BACKEND_ENDPOINT": server_address,
        **({"STIGMER_API_KEY_FILE": str(key_file)} if key_file is not None else {}),
    }

    async def is_ready(since: datetime) -> bool:
        return await temporal.has_pollers(temporal_address, namespace=namespace, queue=queue, since=since)

    return ChildSpec(
        name=runner.name, command=(sys.executable, "-m", runner.module), environment=environment, is_ready=is_ready
    )
