"""Every setting of the server: what it may be, what it is by default, and which variable says otherwise.

A value is taken from the first of: command line, environment, file, default. An empty environment variable counts
as unset. All wrong values are reported together, and none is ever replaced by a default in silence.
"""

from __future__ import annotations

import re
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, Field, SecretStr, StringConstraints, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict
from stigmer_grpc.traces import TraceExporter

from stigmer_server.keys import decode_keys
from stigmer_server.settings_file import FileSource

HTTP_PORT = 8081
"""Where HTTP is offered when nobody says where, and nobody else is there."""
_RUNNERS = frozenset({"workflow", "agent"})
_Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=1000)]
_Address = Annotated[
    str, StringConstraints(strip_whitespace=True, pattern=r"^(\[[0-9A-Fa-f:]+\]|[^\s:/]+):[0-9]{1,5}$")
]


def _home() -> Path:
    """Return where the server keeps its files unless told otherwise: `~/.stigmer`, or here when there is no home."""
    try:
        return Path.home() / ".stigmer"
    except RuntimeError:
        return Path()


def _setting(default: object, *variables: str, description: str) -> Any:
    return Field(default=default, validation_alias=AliasChoices(*variables), description=description)


class Settings(BaseSettings):
    """The settings of one server. Constructor arguments are named like the fields and win over everything."""

    model_config = SettingsConfigDict(
        env_ignore_empty=True, populate_by_name=True, frozen=True, extra="forbid", hide_input_in_errors=True
    )

    grpc_host: _Name = _setting("127.0.0.1", "GRPC_HOST", description="address to listen on")
    grpc_port: Annotated[int, Field(ge=0, le=65535)] = _setting(
        8080, "GRPC_PORT", description="port to listen on; 0 picks a free one"
    )
    http_host: _Name = _setting("127.0.0.1", "STIGMER_HTTP_HOST", description="address to offer HTTP at")
    http_port: Annotated[int, Field(ge=0, le=65535)] | Literal["auto", "off"] = _setting(
        "auto",
        "STIGMER_HTTP_PORT",
        description=f"port to offer HTTP at: a number, 0 for a free one, `off`, or `auto`: {HTTP_PORT} if it is free",
    )
    http_allowed_hosts: str = _setting(
        "",
        "STIGMER_HTTP_ALLOWED_HOSTS",
        description="names that HTTP is reached by, beside localhost and the address itself; by comma, `*` for any",
    )
    http_allowed_origins: str = _setting(
        "",
        "STIGMER_HTTP_ALLOWED_ORIGINS",
        description="origins of pages that may call over HTTP, such as https://app.example.com; by comma, `*` for all",
    )
    http_max_body_bytes: Annotated[int, Field(ge=1024, le=2**31)] = _setting(
        16 * 1024 * 1024, "STIGMER_HTTP_MAX_BODY_BYTES", description="largest body of an HTTP request but an upload"
    )
    http_max_connections: Annotated[int, Field(ge=1, le=100_000)] = _setting(
        1000, "STIGMER_HTTP_MAX_CONNECTIONS", description="HTTP connections that may be open at once"
    )
    http_head_timeout_seconds: Annotated[float, Field(gt=0, le=300)] = _setting(
        10.0, "STIGMER_HTTP_HEAD_TIMEOUT_SECONDS", description="how long the head of an HTTP request may take to come"
    )
    http_body_timeout_seconds: Annotated[float, Field(gt=0, le=3600)] = _setting(
        30.0,
        "STIGMER_HTTP_BODY_TIMEOUT_SECONDS",
        description="how long the body of an HTTP request may take to come, or the next piece of an upload",
    )
    http_write_timeout_seconds: Annotated[float, Field(gt=0, le=3600)] = _setting(
        60.0,
        "STIGMER_HTTP_WRITE_TIMEOUT_SECONDS",
        description="how long the reader of an HTTP answer may take nothing of it",
    )
    http_keep_alive_seconds: Annotated[int, Field(ge=1, le=3600)] = _setting(
        75, "STIGMER_HTTP_KEEP_ALIVE_SECONDS", description="how long an HTTP connection may be idle"
    )
    db_path: Path = _setting(_home() / "stigmer.db", "DB_PATH", description="database file; its folder is created")
    storage_path: Path = _setting(
        _home() / "storage",
        "STORAGE_PATH",
        description="folder of skills, large values and files of workspaces",
    )
    max_value_bytes: Annotated[int, Field(ge=2**20, le=2**31)] = _setting(
        64 * 2**20,
        "STIGMER_MAX_VALUE_BYTES",
        description="largest output, input or state of a workflow that is kept whole; of more, the beginnings are",
    )
    max_file_bytes: Annotated[int, Field(ge=2**10, le=2**31)] = _setting(
        100 * 2**20,
        "STIGMER_MAX_FILE_BYTES",
        description="largest file of a workspace that is taken in",
    )
    upload_idle_seconds: Annotated[float, Field(gt=0, le=3600)] = _setting(
        60.0,
        "STIGMER_UPLOAD_IDLE_SECONDS",
        description="how long the next part of an upload over gRPC may take to come",
    )
    changes_kept: Annotated[int, Field(ge=1, le=2**40)] = _setting(
        100_000,
        "STIGMER_CHANGES_KEPT",
        description="changes that are kept for watches to go on after; older ones are dropped",
    )
    events_kept: Annotated[int, Field(ge=1, le=2**40)] = _setting(
        100_000,
        "STIGMER_EVENTS_KEPT",
        description="events of each organization that are kept; the oldest of more are dropped",
    )
    events_kept_hours: Annotated[float, Field(gt=0, le=24 * 36_500)] = _setting(
        168.0, "STIGMER_EVENTS_KEPT_HOURS", description="how long an event is kept at most"
    )
    lifecycle_events: Literal["off", "workflows", "tasks"] = _setting(
        "off",
        "STIGMER_LIFECYCLE_EVENTS",
        description="of what lifecycle events are published: `off` of nothing, `workflows` of workflow executions, "
        "`tasks` of their tasks, too, which are many",
    )
    encryption_key: SecretStr | None = _setting(
        None,
        "STIGMER_ENCRYPTION_KEY",
        description="key that seals secrets: 32 bytes in base64 or hex; several, by comma, seal with the first and "
        "open with any. Unset: a file `encryption.key` beside the database, made at first start",
    )
    auth: Literal["none", "token"] = _setting(
        "none", "STIGMER_AUTH", description="`token` lets in only calls with a token, `none` everybody"
    )
    token_file: Path | None = _setting(
        None,
        "STIGMER_TOKEN_FILE",
        description="file of the operator's token, which may do everything. Unset: a file `token` beside the database. "
        "Made at first start when it is not there",
    )
    runner_token_file: Path | None = _setting(
        None,
        "STIGMER_RUNNER_TOKEN_FILE",
        description="file of the token of the runners. Unset: a file `runner-token` beside the database. Made likewise",
    )
    tls_certificate: Path | None = _setting(
        None, "STIGMER_TLS_CERTIFICATE", description="PEM file of the certificate to serve TLS with, and its chain"
    )
    tls_key: Path | None = _setting(None, "STIGMER_TLS_KEY", description="PEM file of the certificate's private key")
    tls_client_ca: Path | None = _setting(
        None,
        "STIGMER_TLS_CLIENT_CA",
        description="PEM file of an authority; only clients with a certificate of it are let in, with their tokens",
    )
    insecure: bool = _setting(
        False,
        "STIGMER_INSECURE",
        description="listen for other machines without TLS, as behind a proxy that has it",
    )
    log_level: Literal["trace", "debug", "info", "warning", "error"] = _setting(
        "info", "LOG_LEVEL", description="least severe message to log"
    )
    keep_finished_days: Annotated[float, Field(ge=0)] = _setting(
        0.0,
        "STIGMER_KEEP_FINISHED_DAYS",
        description="how many days finished executions are kept; 0: for ever",
    )
    keep_finished_count: Annotated[int, Field(ge=0)] = _setting(
        0,
        "STIGMER_KEEP_FINISHED_COUNT",
        description="how many finished executions of each kind are kept, the newest; 0: all",
    )
    slow_call_seconds: Annotated[float, Field(ge=0)] = _setting(
        1.0,
        "STIGMER_SLOW_CALL_SECONDS",
        description="from how long on a call is logged as slow; 0: none is. Streams never are",
    )
    metrics_port: Annotated[int, Field(ge=0, le=65535)] | Literal["off"] = _setting(
        "off",
        "STIGMER_METRICS_PORT",
        description="port of 127.0.0.1 to offer metrics at, beside HTTP; 0 picks a free one",
    )
    traces_exporter: TraceExporter = _setting(
        "auto",
        "OTEL_TRACES_EXPORTER",
        description="`otlp` sends traces by OTLP over HTTP, `none` does not, `auto` does if it is told where to",
    )
    otlp_endpoint: str = _setting(
        "", "OTEL_EXPORTER_OTLP_ENDPOINT", description="URL of the collector of traces, such as http://localhost:4318"
    )
    otlp_traces_endpoint: str = _setting(
        "", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", description="the same with its path, if that is not /v1/traces"
    )
    runners: str = _setting(
        "workflow,agent",
        "STIGMER_RUNNERS",
        description="runners that belong to the server, by comma; its status takes no notice of others",
    )
    env: _Name = _setting("local", "ENV", description="`local` logs for people, anything else logs JSON lines")
    shutdown_grace_seconds: Annotated[float, Field(ge=0, le=300)] = _setting(
        5.0, "SHUTDOWN_GRACE_SECONDS", description="how long running calls may take to finish at shutdown"
    )
    temporal_address: _Address = _setting(
        "localhost:7233",
        "TEMPORAL_HOST_PORT",
        "TEMPORAL_SERVICE_ADDRESS",
        description="Temporal, as host:port; need not be there when the server starts",
    )
    temporal_namespace: _Name = _setting("default", "TEMPORAL_NAMESPACE", description="Temporal namespace")
    agent_execution_queue: _Name = _setting(
        "agent_execution_runner",
        "TEMPORAL_AGENT_EXECUTION_RUNNER_TASK_QUEUE",
        description="task queue on which agent runs start",
    )
    workflow_execution_queue: _Name = _setting(
        "workflow_execution_runner",
        "TEMPORAL_WORKFLOW_EXECUTION_RUNNER_TASK_QUEUE",
        description="task queue on which workflow runs start",
    )
    watch_seconds: Annotated[float, Field(gt=0, le=3600)] = _setting(
        5.0,
        "STIGMER_WATCH_SECONDS",
        description="how long a run may be quiet before Temporal is asked after it",
    )
    pending_timeout_seconds: Annotated[float, Field(ge=0)] = _setting(
        0.0,
        "STIGMER_PENDING_TIMEOUT_SECONDS",
        description="how long an execution may wait for a runner before it fails; 0 lets it wait",
    )
    # The four queues below belong to workers that a server of the first generation hosted itself. They are
    # accepted and checked, so that an environment written for it keeps working, and are not used.
    agent_execution_stigmer_queue: _Name = _setting(
        "agent_execution_stigmer",
        "TEMPORAL_AGENT_EXECUTION_STIGMER_TASK_QUEUE",
        description="accepted for older set-ups, not used",
    )
    workflow_execution_stigmer_queue: _Name = _setting(
        "workflow_execution_stigmer",
        "TEMPORAL_WORKFLOW_EXECUTION_STIGMER_TASK_QUEUE",
        description="accepted for older set-ups, not used",
    )
    workflow_validation_stigmer_queue: _Name = _setting(
        "workflow_validation_stigmer",
        "TEMPORAL_WORKFLOW_VALIDATION_STIGMER_TASK_QUEUE",
        description="accepted for older set-ups, not used",
    )
    workflow_validation_queue: _Name = _setting(
        "workflow_validation_runner",
        "TEMPORAL_WORKFLOW_VALIDATION_RUNNER_TASK_QUEUE",
        description="accepted for older set-ups, not used",
    )

    @field_validator("log_level", mode="before")
    @classmethod
    def _lower(cls, value: object) -> object:
        """Accept any case, and the short name that older set-ups use."""
        if not isinstance(value, str):
            return value
        level = value.strip().lower()
        return "warning" if level == "warn" else level

    @field_validator("grpc_host", "http_host", mode="after")
    @classmethod
    def _unbracket(cls, value: str) -> str:
        """Accept an address of IPv6 as addresses with a port have it, too."""
        return value.removeprefix("[").removesuffix("]")

    @field_validator(
        "db_path",
        "storage_path",
        "token_file",
        "runner_token_file",
        "tls_certificate",
        "tls_key",
        "tls_client_ca",
        mode="after",
    )
    @classmethod
    def _expand(cls, value: Path | None) -> Path | None:
        return value.expanduser() if value is not None else None

    @field_validator("runners", mode="after")
    @classmethod
    def _check_runners(cls, value: str) -> str:
        if unknown := set(_listed(value)) - _RUNNERS:
            msg = f"there is no runner {', '.join(sorted(unknown))} (there are {', '.join(sorted(_RUNNERS))})"
            raise ValueError(msg)
        return value

    @field_validator("encryption_key", mode="after")
    @classmethod
    def _check_key(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            decode_keys(value.get_secret_value())
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Put the settings file between the environment and the defaults."""
        return init_settings, env_settings, FileSource(settings_cls)

    @property
    def keys_path(self) -> Path:
        """The file that holds the encryption key when no variable does."""
        return self.db_path.parent / "encryption.key"

    @property
    def runner_names(self) -> tuple[str, ...]:
        """The runners of `runners`."""
        return _listed(self.runners)

    @property
    def http_hosts(self) -> tuple[str, ...]:
        """The names of `http_allowed_hosts`."""
        return _listed(self.http_allowed_hosts)

    @property
    def http_origins(self) -> tuple[str, ...]:
        """The origins of `http_allowed_origins`."""
        return _listed(self.http_allowed_origins)

    @property
    def token_path(self) -> Path:
        """The file that holds the operator's token."""
        return self.token_file or self.db_path.parent / "token"

    @property
    def runner_token_path(self) -> Path:
        """The file that holds the runners' token."""
        return self.runner_token_file or self.db_path.parent / "runner-token"

    @property
    def serves_tls(self) -> bool:
        """Whether what is served over TCP is encrypted."""
        return self.tls_certificate is not None

    def refusals(self, address: str) -> list[str]:
        """Return why nothing may listen at the address (host:port, or unix:…), each with what to do; none if it may.

        The loopback interface is for whoever works on this machine. Anywhere else callers have to be told apart, and
        what they say has to be sealed.
        """
        problems = self._tls_problems()
        if is_local(address):
            return problems
        where = f"{address} can be reached from other machines"
        if self.auth == "none":
            problems.append(f"--auth (STIGMER_AUTH): {where}; let callers sign in: --auth token")
        if not self.serves_tls and not self.insecure:
            problems.append(
                f"--tls-certificate (STIGMER_TLS_CERTIFICATE): {where}; serve TLS with --tls-certificate and "
                "--tls-key, or say --insecure if something in front of the server does"
            )
        return problems

    def _tls_problems(self) -> list[str]:
        if (self.tls_certificate is None) != (self.tls_key is None):
            return ["--tls-certificate (STIGMER_TLS_CERTIFICATE): it is given together with --tls-key"]
        if self.tls_client_ca is not None and not self.serves_tls:
            return ["--tls-client-ca (STIGMER_TLS_CLIENT_CA): it needs --tls-certificate and --tls-key"]
        return []

    @property
    def address(self) -> str:
        """Where to listen, as gRPC writes it."""
        return endpoint(self.grpc_host, self.grpc_port)


def endpoint(host: str, port: int | str) -> str:
    """Return host and port as one address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


_PORT_ALONE = re.compile(r":\d+")
"""An address of the loopback interface, to gRPC."""


def is_local(address: str) -> bool:
    """Tell whether only this machine reaches what listens at the address: host:port, [host]:port or unix:path."""
    if address.startswith(("unix:", "unix-abstract:")) or _PORT_ALONE.fullmatch(address):
        return True
    host = address.rpartition(":")[0].strip("[]")
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part for part in (part.strip() for part in text.split(",")) if part)
