"""Running agents: executions of their own, which the server keeps, lists and starts.

Secrets are filled in here, and stay secrets: what of an agent's environment is made from one is marked, so that the
server seals it and nobody is shown it. Nothing else may hold one, for everything else can be read.
"""

import asyncio
import base64
from collections.abc import Awaitable, Callable
from typing import Any, cast

from google.protobuf import json_format
from stigmer_dsl.errors import MissingSecretError, WorkflowError
from stigmer_dsl.secrets import fill_secrets, find_secrets
from stigmer_protos import descriptors
from stigmer_runner import Environments, ExecutionEnvironment, Redactor, StigmerServer
from temporalio import activity

from workflow_runner import names
from workflow_runner.activities.agent_files import AgentFiles
from workflow_runner.activities.executions import CALLED_BY, IDEMPOTENCY_KEY, REFUSALS
from workflow_runner.activities.heartbeat import SERVER_SECONDS, heartbeats
from workflow_runner.call_messages import AgentArguments, AgentRequest, Started

_AGENTS = "ai.stigmer.agentic"
_EXECUTION = f"{_AGENTS}.agentexecution.v1"
_MODEL = "STIGMER_LLM_MODEL"
"""Variable of the run that names the model of agents for which neither the task nor the agent names one."""
_MODEL_NOTE = "stigmer.ai/model"
"""Annotation of an agent: its model, for who cannot set `spec.model`."""
_SCOPES = {"platform": 1, "organization": 2}
_ORGANIZATION = 2
_AUTO_CREATED = "stigmer.ai/auto-created"
"""Label of a session that goes with the last of its executions."""
_DRY_RUN = "x-stigmer-dry-run"
_EMPTY = ExecutionEnvironment(variables={}, secrets={}, redactor=Redactor(()))

Message = Any


class Agents:
    """Starts executions for `call: agent` tasks."""

    def __init__(self, server: StigmerServer, environments: Environments, files: AgentFiles) -> None:
        self._server = server
        self._environments = environments
        self._files = files

    @activity.defn(name=names.START_AGENT)
    async def start(self, request: Any) -> Any:
        """Create the execution of an `AgentRequest`, once however often this is repeated; return `Started`.

        Raises:
            RpcError: The server is away.
        """
        return await self._answered(request, self._start)

    @activity.defn(name=names.READY_SESSION)
    async def ready_session(self, request: Any) -> Any:
        """Put the files of an `AgentRequest` into its session, opened where there is none; return it as `Started`.

        Whatever the server would refuse the execution for, it refuses before anything is put. Repeated, this goes on
        with the session that was opened.

        Raises:
            RpcError: The server is away.
        """
        return await self._answered(request, self._ready_session)

    async def _answered(
        self, request: Any, do: Callable[[AgentRequest, ExecutionEnvironment], Awaitable[Started]]
    ) -> Any:
        given = cast("AgentRequest", request)
        environment = _EMPTY
        async with heartbeats(SERVER_SECONDS):
            try:
                if given["has_secrets"]:
                    environment = await self._environments.get(given["execution_id"], run=given["run"])
                return await do(given, environment)
            except WorkflowError as error:
                return {"error": error.to_dict()}
            except MissingSecretError as missing:
                detail = f"the execution's environment lacks what the agent is to get: {missing}"
                return {"error": WorkflowError.standard("authorization", detail).to_dict()}
            except tuple(REFUSALS) as refusal:
                detail = f"the agent {given['arguments']['agent']} cannot be run: {refusal.message}"
                told = environment.redactor.text(detail)
                return {"error": WorkflowError.standard(REFUSALS[type(refusal)], told).to_dict()}

    async def _start(self, request: AgentRequest, environment: ExecutionEnvironment) -> Started:
        arguments = _public(request, environment)
        agent = await self._agent(arguments, request["org"])
        made = await self._create(request, arguments, agent, environment, {IDEMPOTENCY_KEY: request["key"]})
        return {"id": made.metadata.id}

    async def _ready_session(self, request: AgentRequest, environment: ExecutionEnvironment) -> Started:
        arguments = await asyncio.to_thread(_public, request, environment)
        agent = await self._agent(arguments, request["org"])
        await self._create(request, arguments, agent, environment, {_DRY_RUN: "true"})
        session = arguments["session"] or await self._open_session(request, agent)
        await self._files.put(session, arguments.get("files", []))
        return {"id": session}

    async def _open_session(self, request: AgentRequest, agent: Message) -> str:
        session: Message = descriptors.message_type(f"{_AGENTS}.session.v1.Session")()
        session.api_version, session.kind = "agentic.stigmer.ai/v1", "Session"
        session.metadata.name = f"{agent.metadata.slug}-{request['key'][:12]}"
        session.metadata.org = request["org"]
        session.metadata.owner_scope = _ORGANIZATION
        session.metadata.labels[_AUTO_CREATED] = "true"
        session.spec.agent_instance_id = agent.status.default_instance_id
        session.spec.subject = "A call with files"
        metadata = {IDEMPOTENCY_KEY: f"{request['key']} session"}
        made = await self._server.call(
            f"{_AGENTS}.session.v1.SessionCommandController", "create", session, metadata=metadata
        )
        return made.metadata.id

    async def _create(
        self,
        request: AgentRequest,
        arguments: AgentArguments,
        agent: Message,
        environment: ExecutionEnvironment,
        metadata: dict[str, str],
    ) -> Message:
        execution: Message = descriptors.message_type(f"{_EXECUTION}.AgentExecution")()
        execution.api_version, execution.kind = "agentic.stigmer.ai/v1", "AgentExecution"
        execution.metadata.name = f"{arguments['agent']}-{request['key'][:12]}"
        execution.metadata.org = request["org"]
        spec = execution.spec
        spec.message = arguments["message"]
        if token := request.get("token", ""):
            spec.callback_token = base64.b64decode(token)
            execution.metadata.labels[CALLED_BY] = request["execution_id"]
        if arguments["session"]:
            await self._check_session(arguments["session"], agent)
            spec.session_id = arguments["session"]
        else:
            spec.agent_id = agent.metadata.id
        _fill_environment(spec.runtime_env, request, environment)
        if arguments["config"]:
            json_format.ParseDict(arguments["config"], spec.execution_config, descriptor_pool=descriptors.pool())
        own = agent.spec.model or agent.metadata.annotations.get(_MODEL_NOTE, "")
        if not (spec.execution_config.model_name or own):
            spec.execution_config.model_name = environment.values.get(_MODEL, "")
        controller = f"{_EXECUTION}.AgentExecutionCommandController"
        return await self._server.call(controller, "create", execution, metadata=metadata)

    async def _agent(self, arguments: AgentArguments, org: str) -> Message:
        scope = arguments["scope"]
        reference = {
            "scope": _SCOPES[scope],
            "slug": arguments["agent"],
            **({"org": org} if scope == "organization" else {}),
        }
        return await self._server.call(f"{_AGENTS}.agent.v1.AgentQueryController", "getByReference", reference)

    async def _check_session(self, session_id: str, agent: Message) -> None:
        session = await self._server.call(f"{_AGENTS}.session.v1.SessionQueryController", "get", {"value": session_id})
        instance = await self._server.call(
            f"{_AGENTS}.agentinstance.v1.AgentInstanceQueryController",
            "get",
            {"value": session.spec.agent_instance_id},
        )
        if instance.spec.agent_id != agent.metadata.id:
            detail = f"the session {session_id} is one of another agent than {agent.metadata.slug}"
            raise WorkflowError.standard("configuration", detail)


def _public(request: AgentRequest, environment: ExecutionEnvironment) -> AgentArguments:
    """Return the arguments with variables filled in, save the agent's environment.

    Raises:
        WorkflowError: There is a secret in them.
        MissingSecretError: There is something that the environment lacks.
    """
    arguments: Any = {key: value for key, value in request["arguments"].items() if key != "env"}
    used = find_secrets(arguments, nonce=request["nonce"])
    if secret := sorted(used & environment.secrets.keys()):
        detail = f"the agent would be told the secret {', '.join(secret)}: give it to the agent in `env`"
        raise WorkflowError.standard("authorization", detail)
    return fill_secrets(arguments, environment.variables, nonce=request["nonce"])


def _fill_environment(values: Message, request: AgentRequest, environment: ExecutionEnvironment) -> None:
    known = environment.values
    for name, text in request["arguments"]["env"].items():
        used = find_secrets(text, nonce=request["nonce"])
        values[name].value = fill_secrets(text, known, nonce=request["nonce"])
        values[name].is_secret = bool(used & environment.secrets.keys())
