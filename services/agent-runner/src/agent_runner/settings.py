"""What the agent runner can be told; see `stigmer_runner.settings` for how it is told."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import PrivateAttr
from stigmer_runner.errors import SettingsError
from stigmer_runner.settings import RunnerSettings, folders, setting
from stigmer_sandbox import IMAGE, Limits, OutboundPolicy

from agent_runner.errors import ModelNotConfiguredError
from agent_runner.files.limits import FileLimits
from agent_runner.models.access import read_authority, read_headers, secrets_in, trusting
from agent_runner.models.catalog import ModelSettings
from agent_runner.tools.settings import ToolSettings, WebLimits
from agent_runner.workspace.daytona.settings import API_URL, DaytonaSettings
from agent_runner.workspace.limits import WorkspaceLimits

_PROVIDER = r"^[a-z0-9_]*$"
_OF_PROVIDERS = re.compile(r"[A-Z][A-Z0-9_]*_(API_KEY|BASE_URL|CUSTOM_HEADERS|CA)")
"""Variables of providers, of which there may be any: `stigmer_runner.settings` knows names that are declared."""


class Settings(RunnerSettings):
    """The agent runner: a Temporal worker that runs durable LLM agents."""

    program: ClassVar[str] = "agent-runner"

    task_queue: str = setting(
        "agent_execution_runner",
        "TEMPORAL_AGENT_EXECUTION_RUNNER_TASK_QUEUE",
        description="Temporal task queue to take work from",
        min_length=1,
    )
    max_concurrency: int = setting(
        100, "TEMPORAL_MAX_CONCURRENCY", description="turns in progress at once", ge=2, le=1_000
    )
    data_folder: Path = setting(
        Path("~/.stigmer/agent-runner"),
        "STIGMER_AGENT_RUNNER_DATA",
        description="folder of checkpoints; workers of one machine share it",
    )
    llm_provider: str = setting(
        "",
        "STIGMER_LLM_PROVIDER",
        description="anthropic, openai, google, ollama, scripted, or any name with the address of a server of OpenAI's "
        "API in NAME_BASE_URL; empty takes the first one with a key, else scripted",
        pattern=_PROVIDER,
    )
    llm_model: str = setting(
        "",
        "STIGMER_LLM_MODEL",
        description="model of the provider, or provider:model; an execution's model_name weighs more",
    )
    llm_api_key: str = setting("", "STIGMER_LLM_API_KEY", description="key for the provider, whichever it is")
    llm_base_url: str = setting("", "STIGMER_LLM_BASE_URL", description="address of the provider, whichever it is")
    llm_custom_headers: str = setting(
        "",
        "STIGMER_LLM_CUSTOM_HEADERS",
        description="headers of every request to the provider, whichever it is: a JSON object, or `Name: value` lines",
    )
    llm_ca: str = setting(
        "", "STIGMER_LLM_CA", description="PEM file of the authority of its certificate, or the PEM text itself"
    )
    llm_max_tokens: int | None = setting(
        None, "STIGMER_LLM_MAX_TOKENS", description="longest answer; empty leaves it to the provider", ge=1
    )
    llm_temperature: float | None = setting(
        None, "STIGMER_LLM_TEMPERATURE", description="0 to 2; empty leaves it to the provider", ge=0, le=2
    )
    llm_timeout_seconds: float = setting(
        600.0, "STIGMER_LLM_TIMEOUT_SECONDS", description="how long one call of a model may take", gt=0
    )
    anthropic_api_key: str = setting("", "ANTHROPIC_API_KEY", description="key for Anthropic")
    anthropic_base_url: str = setting("", "ANTHROPIC_BASE_URL", description="address in place of Anthropic's")
    openai_api_key: str = setting("", "OPENAI_API_KEY", description="key for OpenAI or what speaks its API")
    openai_base_url: str = setting(
        "", "OPENAI_BASE_URL", "OPENAI_API_BASE", description="address in place of OpenAI's, as http://host/v1"
    )
    google_api_key: str = setting("", "GOOGLE_API_KEY", "GEMINI_API_KEY", description="key for Google's models")
    google_base_url: str = setting(
        "", "GOOGLE_BASE_URL", "GOOGLE_GEMINI_BASE_URL", description="address in place of Google's"
    )
    ollama_base_url: str = setting(
        "", "OLLAMA_BASE_URL", description="address of Ollama; its own default is http://localhost:11434"
    )
    scripts_folder: Path | None = setting(
        None, "STIGMER_SCRIPTS_FOLDER", description="folder of NAME.yaml for the model scripted:NAME"
    )
    record_folder: Path | None = setting(
        None,
        "STIGMER_LLM_RECORD",
        description="folder where models' answers are written down as scripts, without secrets",
    )
    prices_file: Path | None = setting(
        None,
        "STIGMER_PRICES_FILE",
        description="YAML list of {model, input, cached, output}, US dollars for a million tokens; goes before ours",
    )
    max_steps: int = setting(
        1000,
        "STIGMER_AGENT_MAX_STEPS",
        description="steps of one turn before it fails; an answer and its tools are two or more",
        ge=2,
    )
    turn_seconds: float = setting(
        86_400.0, "STIGMER_AGENT_TURN_SECONDS", description="how long a turn may take, restarts included", ge=1
    )
    sandbox: Literal["auto", "local", "docker", "podman", "daytona", "host", "off"] = setting(
        "auto",
        "STIGMER_AGENT_SANDBOX",
        description="where agents' files and commands are: local (in namespaces of this machine), docker or podman (in "
        "containers), daytona (in sandboxes there), host (on the machine itself), off (files live in the conversation, "
        "and there is no shell); auto takes the first of local, docker and podman that works here",
    )
    sandbox_image: str = setting(
        IMAGE,
        "STIGMER_SANDBOX_IMAGE",
        description="image of agents' containers; it must have python3",
        min_length=1,
    )
    sandbox_pull: bool = setting(
        True, "STIGMER_SANDBOX_AUTO_PULL", description="whether that image is fetched when it is not on this machine"
    )
    sandbox_idle_seconds: float = setting(
        3600.0,
        "STIGMER_SANDBOX_TTL",
        description="how long a session's container or remote sandbox runs on unused",
        gt=0,
    )
    daytona_api_key: str = setting("", "DAYTONA_API_KEY", description="key for Daytona")
    daytona_api_url: str = setting(API_URL, "DAYTONA_API_URL", description="address of Daytona's API")
    daytona_target: str = setting(
        "", "DAYTONA_TARGET", description="region of sandboxes at Daytona; empty leaves it to the organization"
    )
    daytona_snapshot: str = setting(
        "",
        "DAYTONA_DEV_TOOLS_SNAPSHOT_ID",
        description="what sandboxes at Daytona are made of, which must have python3; empty takes Daytona's own",
    )
    daytona_folder: str = setting(
        "/home/daytona/workspace",
        "STIGMER_DAYTONA_FOLDER",
        description="folder of the workspace in a sandbox at Daytona, which its user can make",
        pattern="^/",
    )
    sandbox_network: bool = setting(
        True, "STIGMER_AGENT_NETWORK", description="whether an agent's commands get the network when the agent asks"
    )
    sandbox_memory_mb: int = setting(
        1024, "STIGMER_AGENT_MEMORY_MB", description="mebibytes that one command of an agent may take", ge=64
    )
    sandbox_seconds: float = setting(
        120.0, "STIGMER_AGENT_COMMAND_SECONDS", description="how long one command may take, unless it says", gt=0
    )
    workspace_mb: int = setting(
        1024, "STIGMER_AGENT_WORKSPACE_MB", description="mebibytes that a session's workspace may hold", ge=1
    )
    workspace_days: float = setting(
        30.0, "STIGMER_AGENT_WORKSPACE_DAYS", description="days that an unused workspace is kept", gt=0
    )
    file_mb: int = setting(
        64, "STIGMER_AGENT_FILE_MB", description="mebibytes of the largest file that is kept of a workspace", ge=1
    )
    files_mb: int = setting(
        256, "STIGMER_AGENT_FILES_MB", description="mebibytes of files that are kept of one turn", ge=1
    )
    files: int = setting(500, "STIGMER_AGENT_FILES", description="files that are kept of one turn", ge=1)
    mcp_network: bool = setting(
        True,
        "STIGMER_AGENT_MCP_NETWORK",
        description="whether MCP servers that are programs or containers get the network; most are of no use without",
    )
    mcp_readable: str = setting(
        "",
        "STIGMER_AGENT_MCP_READABLE",
        description="folders that MCP servers may read besides the machine's programs, separated by colons",
    )
    mcp_seconds: float = setting(
        300.0, "STIGMER_AGENT_MCP_SECONDS", description="how long a call of an MCP server's tool may take", gt=0
    )
    mcp_start_seconds: float = setting(
        60.0, "STIGMER_AGENT_MCP_START_SECONDS", description="how long an MCP server has to begin", gt=0
    )
    mcp_idle_seconds: float = setting(
        900.0,
        "STIGMER_AGENT_MCP_IDLE_SECONDS",
        description="how long a session's connection to an MCP server is kept unused",
        gt=0,
    )
    mcp_max_mb: int = setting(
        128, "STIGMER_AGENT_MCP_MAX_MB", description="mebibytes that one answer of an MCP server may have", ge=1
    )
    outbound_ca: Path | None = setting(
        None,
        "STIGMER_OUTBOUND_CA",
        description="PEM file of further certificate authorities that requests to models, MCP servers and pages trust",
    )
    container_program: Path | None = setting(
        None,
        "STIGMER_AGENT_CONTAINER_PROGRAM",
        description="program that runs containers, of MCP servers and of agents; docker or podman, whichever is found",
    )
    container_volumes: Path | None = setting(
        None,
        "STIGMER_AGENT_CONTAINER_VOLUMES",
        description="folder below which containers may be given folders of this machine; none unless given",
    )
    web_seconds: float = setting(
        30.0, "STIGMER_AGENT_WEB_SECONDS", description="how long web_fetch may take for a page", gt=0
    )
    web_max_mb: int = setting(
        5, "STIGMER_AGENT_WEB_MAX_MB", description="mebibytes that a page may have for web_fetch", ge=1
    )
    status_seconds: float = setting(
        0.5,
        "STIGMER_AGENT_STATUS_SECONDS",
        description="pause between reports of an answer that is being given",
        ge=0.05,
    )

    _of_providers: dict[str, str] = PrivateAttr(default_factory=dict[str, str])

    @classmethod
    def load(cls, arguments: Sequence[str], environment: Mapping[str, str]) -> Self:
        """See `RunnerSettings`; takes the variables of providers along that are no settings of their own."""
        made = super().load(arguments, environment)
        found = {name: value for name, value in environment.items() if value and _OF_PROVIDERS.fullmatch(name)}
        made._of_providers.update(found)  # noqa: SLF001 - its own
        try:
            # Of a provider that nobody asks they may be wrong: variables of its own may be meant for other programs.
            read_headers("STIGMER_LLM_CUSTOM_HEADERS", made.llm_custom_headers)
            trusting("STIGMER_LLM_CA", read_authority("STIGMER_LLM_CA", made.llm_ca))
            trusting("STIGMER_OUTBOUND_CA", made.models.authorities)
        except ModelNotConfiguredError as error:
            raise SettingsError([str(error)]) from None
        return made

    @property
    def workspaces(self) -> Path:
        """Where sessions work."""
        return self.data_folder.expanduser() / "workspaces"

    @property
    def workspace_limits(self) -> WorkspaceLimits:
        """What bounds a session's workspace."""
        command = Limits(memory_bytes=self.sandbox_memory_mb * 2**20, seconds=self.sandbox_seconds, processes=128)
        return WorkspaceLimits(
            most_bytes=self.workspace_mb * 2**20,
            days=self.workspace_days,
            command=command,
            network=self.sandbox_network,
        )

    @property
    def daytona(self) -> DaytonaSettings:
        """How Daytona is reached, and what sandboxes there are made of."""
        return DaytonaSettings(
            api_key=self.daytona_api_key,
            api_url=self.daytona_api_url,
            target=self.daytona_target,
            snapshot=self.daytona_snapshot,
            folder=self.daytona_folder.rstrip("/") or "/workspace",
            idle_seconds=self.sandbox_idle_seconds,
        )

    @property
    def file_limits(self) -> FileLimits:
        """What is taken out of workspaces."""
        return FileLimits(file_bytes=self.file_mb * 2**20, turn_bytes=self.files_mb * 2**20, turn_files=self.files)

    @property
    def outbound(self) -> OutboundPolicy:
        """Where tools' requests may go."""
        return OutboundPolicy(
            allow_loopback=self.outbound_allow_loopback,
            allow_private=self.outbound_allow_private,
            max_response_bytes=self.mcp_max_mb * 2**20,
        )

    @property
    def tools(self) -> ToolSettings:
        """What bounds tools of MCP servers and of the web."""
        return ToolSettings(
            network=self.mcp_network,
            readable=folders(self.mcp_readable),
            limits=self.workspace_limits.command,
            container_program=self.container_program,
            volumes=self.container_volumes,
            most_bytes=self.mcp_max_mb * 2**20,
            seconds=self.mcp_seconds,
            start_seconds=self.mcp_start_seconds,
            idle_seconds=self.mcp_idle_seconds,
            web=WebLimits(seconds=self.web_seconds, most_bytes=self.web_max_mb * 2**20),
        )

    @property
    def skills(self) -> Path:
        """Where skills are unpacked."""
        return self.data_folder.expanduser() / "skills"

    @property
    def journal(self) -> Path:
        """Where checkpoints and effects are kept."""
        return self.data_folder.expanduser() / "journal.db"

    @property
    def keys(self) -> tuple[str, ...]:
        """Every secret of this process, to be taken out of what it reports."""
        return tuple(
            key
            for key in (
                self.api_key,
                self.llm_api_key,
                self.anthropic_api_key,
                self.openai_api_key,
                self.google_api_key,
                self.daytona_api_key,
                *(value for name, value in self._of_providers.items() if name.endswith("_API_KEY")),
                *secrets_in({**self._of_providers, "STIGMER_LLM_CUSTOM_HEADERS": self.llm_custom_headers}),
            )
            if key
        )

    @property
    def models(self) -> ModelSettings:
        """What the catalog of models needs to know."""
        environment = {
            **self._of_providers,
            "ANTHROPIC_API_KEY": self.anthropic_api_key,
            "ANTHROPIC_BASE_URL": self.anthropic_base_url,
            "OPENAI_API_KEY": self.openai_api_key,
            "OPENAI_BASE_URL": self.openai_base_url,
            "GOOGLE_API_KEY": self.google_api_key,
            "GOOGLE_BASE_URL": self.google_base_url,
            "OLLAMA_BASE_URL": self.ollama_base_url,
        }
        return ModelSettings(
            provider=self.llm_provider,
            model=self.llm_model,
            api_key=self.llm_api_key,
            base_url=self.llm_base_url,
            headers=self.llm_custom_headers,
            ca=self.llm_ca,
            authorities=read_authority("STIGMER_OUTBOUND_CA", str(self.outbound_ca or "")),
            outbound=self.outbound,
            max_tokens=self.llm_max_tokens,
            temperature=self.llm_temperature,
            timeout=self.llm_timeout_seconds,
            scripts=self.scripts_folder.expanduser() if self.scripts_folder else None,
            record=self.record_folder.expanduser() if self.record_folder else None,
            environment={name: value for name, value in environment.items() if value},
        )
