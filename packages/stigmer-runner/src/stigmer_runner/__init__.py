"""What Stigmer's runners share: the worker's life, the server's client, secrets and redaction, and settings."""

import stigmer_grpc  # noqa: F401  # pyright: ignore[reportUnusedImport] - before Temporal's client, which loads gRPC

from stigmer_runner.errors import RunnerError, SettingsError
from stigmer_runner.process import run_process, set_up_log
from stigmer_runner.redaction import REDACTED, Redactor
from stigmer_runner.server import (
    EXECUTION_TOKEN,
    MINIMAL,
    RUNTIME,
    Environments,
    ExecutionEnvironment,
    StigmerServer,
    server_channel,
)
from stigmer_runner.settings import RunnerSettings, setting, variables_of
from stigmer_runner.traces import traces
from stigmer_runner.values import (
    fill_struct,
    fill_value,
    is_too_deep,
    read_struct,
    read_value,
    sayable,
    sayable_value,
    shallow,
)
from stigmer_runner.worker import run_worker, stop_on_signals

__all__ = [
    "EXECUTION_TOKEN",
    "MINIMAL",
    "REDACTED",
    "RUNTIME",
    "Environments",
    "ExecutionEnvironment",
    "Redactor",
    "RunnerError",
    "RunnerSettings",
    "SettingsError",
    "StigmerServer",
    "fill_struct",
    "fill_value",
    "is_too_deep",
    "read_struct",
    "read_value",
    "run_process",
    "run_worker",
    "sayable",
    "sayable_value",
    "server_channel",
    "set_up_log",
    "setting",
    "shallow",
    "stop_on_signals",
    "traces",
    "variables_of",
]
