"""What must be right about an agent: by itself when it is stored, and with all that it names when it is run.

Skills and MCP servers are looked up when an execution is created, so that manifests may be applied in any order; what
an agent says of itself is refused when it is said.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping

from stigmer_sqlite.errors import NotFoundError

from stigmer_server import environments
from stigmer_server.errors import InvalidError, Violation
from stigmer_server.messages import Message, to_plain, walk
from stigmer_server.unit import Unit

_OPTIONAL = "stigmer.ai/mcp-optional"
"""Annotation: names of MCP servers that a run goes on without, or `*`."""
_PLACEHOLDER = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_MODEL = re.compile(r"[^\s:]+(:[^\s]+)?")
_CURRENT = ("", "latest")
_GLOB = re.compile(r"[*?\[]")
_FILES = ("delete", "edit_file", "glob", "grep", "ls", "read_file", "write_file")
BUILT_IN = frozenset((*_FILES, "ask_person", "execute", "task", "web_fetch", "write_todos"))
"""Tools that agents have besides those of MCP servers."""
PROVIDERS = ("anthropic", "google", "google_genai", "ollama", "openai", "scripted")
"""Providers of models by which what looks like one of them is found. Others are a matter of the runner."""
_ALIKE = 0.75
_HASH = re.compile(r"[0-9a-f]{64}")


def inspect(agent: Message) -> None:
    """Check what an agent says by itself. Raises: InvalidError, naming all that is wrong."""
    spec = agent.spec
    _refuse(
        [
            *_twice("spec.mcp_servers", "mcp_servers", [each.name for each in spec.mcp_servers]),
            *_twice("spec.sub_agents", "sub_agents", [each.name for each in spec.sub_agents]),
            *_unknown_servers(spec),
            *_unknown_in_policies(spec),
            *_models({"spec.model": spec.model} if spec.model else {}, "spec.fallback_models", spec.fallback_models),
            *_schema("spec.output_schema", spec),
        ]
    )


def inspect_execution(execution: Message) -> None:
    """Check what an execution says of models and answers. Raises: InvalidError, naming all that is wrong."""
    config, place = execution.spec.execution_config, "spec.execution_config"
    named = {f"{place}.model_name": config.model_name} if config.model_name else {}
    _refuse(
        [
            *_models(named, f"{place}.fallback_models", config.fallback_models),
            *_schema(f"{place}.output_schema", config),
        ]
    )


def require_all(unit: Unit, execution: Message, agent: Message) -> None:
    """Check that what an agent names is there, and that its MCP servers' placeholders have values.

    Raises:
        InvalidError: A skill, a version of one, or an McpServer does not exist, or a variable has no value.
        RefusedError: The instance names an environment that does not exist.
    """
    servers = list(_servers(unit, agent))
    missing = [
        *_missing_skills(unit, agent),
        *(
            _violation(
                "spec.agent_id",
                "agent.mcp_server.missing",
                f"{place} of the agent says not how it is reached, and there is no McpServer {name!r} in "
                f"{agent.metadata.org or 'the platform'}",
            )
            for place, name, found, _ in servers
            if found is None
        ),
    ]
    _refuse(missing)
    needed = {
        variable: place
        for place, _, found, by_reference in servers
        if found is not None
        for variable in _variables(found, by_reference=by_reference)
    }
    if not needed:
        return
    given = environments.of_execution(unit, "agent_execution", execution)
    _refuse(
        [
            _violation(
                f"spec.runtime_env[{variable}]",
                "agent_execution.env.required",
                f"{place} of the agent needs {variable}, and neither its environments nor this run give it a value",
            )
            for variable, place in sorted(needed.items())
            if variable not in given
        ]
    )


def _servers(unit: Unit, agent: Message) -> Iterator[tuple[str, str, Message | None, bool]]:
    """Yield the servers that runs cannot miss: place, name, what says how to reach it, whether that is a resource."""
    optional = {name.strip() for name in agent.metadata.annotations.get(_OPTIONAL, "").split(",")}
    for place, server in walk(agent, "spec.mcp_servers"):
        if server.name in optional or "*" in optional:
            continue
        if server.WhichOneof("server_type"):
            yield place, server.name, server, False
        else:
            found = unit.find("mcp_server", org=agent.metadata.org or None, slug=server.name)
            yield place, server.name, found.spec if found is not None else None, True


def _variables(server: Message, *, by_reference: bool) -> set[str]:
    """The variables that a server cannot do without."""
    kind = server.WhichOneof("server_type")
    texts = list(_texts(getattr(server, kind))) if kind else []
    names = {name for text in texts for name in _PLACEHOLDER.findall(text)}
    if by_reference and server.HasField("env_spec"):
        declared = server.env_spec.data
        names |= set(declared) if kind != "http" else set()
        names -= {name for name in declared if declared[name].value and not declared[name].is_secret}
    return names


def _texts(transport: Message) -> Iterator[str]:
    """Yield every text of a transport in which placeholders are filled."""
    yield getattr(transport, "url", "")
    yield from getattr(transport, "args", ())
    for name in ("env_placeholders", "headers", "query_params"):
        values: Mapping[str, str] = getattr(transport, name, {})
        yield from values.values()


def _missing_skills(unit: Unit, agent: Message) -> Iterator[Violation]:
    for path in ("spec.skill_refs", "spec.sub_agents.skill_refs"):
        for place, reference in walk(agent, path):
            org = reference.org or agent.metadata.org
            scope = reference.scope or agent.metadata.owner_scope
            found = unit.find("skill", org=org or None, slug=reference.slug)
            named = f"{org}/{reference.slug}".removeprefix("/")
            if found is None or found.metadata.owner_scope not in (0, scope):
                yield _violation(
                    "spec.agent_id", "agent.skill.missing", f"{place} of the agent names skill {named}, which is none"
                )
            elif not _has_version(unit, found, reference.version):
                said = f"{place} of the agent names version {reference.version!r} of skill {named}, which is none"
                yield _violation("spec.agent_id", "agent.skill.version_missing", said)


def _has_version(unit: Unit, skill: Message, version: str) -> bool:
    if version in (*_CURRENT, *unit.kinds["skill"].version_names(skill)):
        return True
    try:
        if _HASH.fullmatch(version):
            unit.reader.archived("skill", skill.metadata.id, hash=version)
        else:
            unit.reader.archived("skill", skill.metadata.id, tag=version)
    except NotFoundError:
        return False
    return True


def _unknown_servers(spec: Message) -> Iterator[Violation]:
    known = {server.name for server in spec.mcp_servers}
    for index, each in enumerate(spec.sub_agents):
        place = f"spec.sub_agents[{index}]"
        said = "no MCP server of the agent has this name"
        for at, name in enumerate(each.mcp_servers):
            if name not in known:
                yield _violation(f"{place}.mcp_servers[{at}]", "agent.mcp_servers.unknown", f"{said}: {name!r}")
        for name in each.mcp_tool_selections:
            if name not in known:
                yield _violation(f"{place}.mcp_tool_selections[{name}]", "agent.mcp_servers.unknown", said)


def _unknown_in_policies(spec: Message) -> Iterator[Violation]:
    """Yield the policies that fit nothing, which whoever wrote them relies on."""
    servers = {server.name for server in spec.mcp_servers}
    for index, policy in enumerate(spec.approval_policies):
        place = f"spec.approval_policies[{index}]"
        if policy.server and not _GLOB.search(policy.server) and policy.server not in servers:
            said = f"no MCP server of the agent has this name: {policy.server!r}"
            yield _violation(f"{place}.server", "agent.mcp_servers.unknown", said)
        # Which tools servers have is known when they are asked.
        if not servers and not _GLOB.search(policy.tool) and policy.tool not in BUILT_IN:
            said = f"the agent has no tool {policy.tool!r}; it has {', '.join(sorted(BUILT_IN))}"
            yield _violation(f"{place}.tool", "agent.approval_policies.tool.unknown", said)


def _twice(place: str, what: str, names: list[str]) -> Iterator[Violation]:
    for index, name in enumerate(names):
        if name in names[:index]:
            said = f"{name!r} is the name of another one already"
            yield _violation(f"{place}[{index}].name", f"agent.{what}.name.unique", said)


def _models(named: Mapping[str, str], place: str, fallbacks: Iterable[str]) -> Iterator[Violation]:
    for field, model in {**named, **{f"{place}[{index}]": name for index, name in enumerate(fallbacks)}}.items():
        if not _MODEL.fullmatch(model):
            said = f"{model!r} is no model: say provider:model, such as openai:gpt-5"
            yield _violation(field, "model.shape", said)
        elif meant := _meant(model):
            said = f"{model!r} names no provider that is known: {meant} is meant, it seems"
            yield _violation(field, "model.provider.unknown", said)


def _meant(model: str) -> str:
    """What a model's name means whose provider is misspelt; names of Ollama's (`qwen2.5-coder:7b`) have a colon too."""
    provider, colon, name = model.partition(":")
    if not colon or provider in PROVIDERS:
        return ""
    alike = difflib.get_close_matches(provider.lower(), PROVIDERS, n=1, cutoff=_ALIKE)
    return f"{alike[0]}:{name}" if alike and alike[0][0] == provider[0].lower() else ""


def _schema(field: str, owner: Message) -> Iterator[Violation]:
    if not owner.HasField("output_schema"):
        return
    # Imported at first use: it takes long to load.
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError

    try:
        Draft202012Validator.check_schema(to_plain(owner.output_schema))
    except SchemaError as error:
        said = f"is no JSON Schema: {error.json_path}: {error.message}"
        yield _violation(field, "output_schema.invalid", said)


def _violation(field: str, rule: str, message: str) -> Violation:
    return Violation(field=field, rule=rule, message=message)


def _refuse(violations: list[Violation]) -> None:
    if violations:
        raise InvalidError("; ".join(f"{found.field}: {found.message}" for found in violations[:5]), violations)
