"""From stored tasks to the language: one rule for each kind, nested to any depth."""

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, cast

from stigmer_dsl.errors import PREFIX, STANDARD
from stigmer_dsl.expressions import is_expression
from stigmer_dsl.model import (
    Element,
    EvalArguments,
    HumanInputArguments,
    LlmCallArguments,
    NotificationArguments,
    TransformArguments,
    ValidateArguments,
)
from stigmer_dsl.model.element import wire_name
from stigmer_dsl.problems import did_you_mean, pointer_to
from stigmer_dsl.secrets import PLACEHOLDER
from stigmer_dsl.stored.config import Config, Notes, whole_numbers
from stigmer_dsl.stored.kinds import NAMES, NUMBERS, kind_name

_MAX_DEPTH = 50
_OF_AGENTS: Mapping[str, type] = {
    "config": dict,
    "session": str,
    "files": object,  # a list, or an expression
    "response": dict,
    "collect": list,
    "output": str,
}
"""Fields of an agent's call that are the same in a document."""
_SCOPES: Mapping[object, str] = {
    1: "platform",
    2: "organization",
    "platform": "platform",
    "organization": "organization",
    "": "organization",
    0: "organization",
    "api_resource_owner_scope_unspecified": "organization",
}
_SERVICE = re.compile(r"(?:(?P<host>[^/:\s]+)(?::(?P<port>\d{1,5}))?/)?(?P<name>[^/\s]+)")
_URI = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*:\S+")
_GRPC_HOST, _GRPC_PORT = "localhost", 50051

Body = dict[str, Any]

FUNCTIONS: Mapping[str, type[Element]] = {
    "human_input": HumanInputArguments,
    "llm_call": LlmCallArguments,
    "transform": TransformArguments,
    "validate": ValidateArguments,
    "notification": NotificationArguments,
    "eval": EvalArguments,
}
"""The arguments of each kind that is a function of the language."""


class TaskCompiler:
    """Compiles the tasks of one spec into a document's `do`, keeping notes."""

    def __init__(self, notes: Notes, *, namespace: str) -> None:
        self._notes = notes
        self._namespace = namespace
        self._depth = 0
        self._rules: Mapping[str, Callable[[Config, str], Body]] = {
            "set": self._set,
            "http_call": self._http,
            "grpc_call": self._grpc,
            "call_activity": self._activity,
            "switch": self._switch,
            "for": self._for,
            "fork": self._fork,
            "try": self._try,
            "listen": self._listen,
            "wait": self._wait,
            "raise": self._raise,
            "run": self._run,
            "agent_call": self._agent,
            "do": self._do,
            "emit": self._emit,
            **{name: partial(self._function, name) for name in FUNCTIONS},
        }

    def tasks(self, stored: Any, origin: str, target: str) -> list[Body]:
        """A list of tasks; `origin` and `target` are its pointers in the stored form and in the document."""
        self._notes.came_from(target, origin)
        if not isinstance(stored, list):
            self._notes.find("dsl.type", origin, "must be a list of tasks")
            return []
        items = cast("list[Any]", stored)
        if not items:
            self._notes.find("dsl.value", origin, "needs at least one task")
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            self._notes.find("yaml.limit", origin, f"tasks are nested deeper than {_MAX_DEPTH} levels")
            compiled = []
        else:
            compiled = [self._item(item, f"{origin}/{n}", target, n) for n, item in enumerate(items)]
        self._depth -= 1
        return compiled

    def _item(self, stored: Any, origin: str, target: str, index: int) -> Body:
        if not isinstance(stored, Mapping):
            self._notes.find("dsl.type", origin, "must be a task: an object with name, kind and task_config")
            return {f"broken {index}": {"set": {"broken": True}}}
        task = Config(cast("Mapping[str, Any]", stored), origin, self._notes)
        name = task.read("name", str, required=True) or f"broken {index}"
        at = target + pointer_to([index, name])
        self._notes.came_from(at, origin)
        kind = self._kind(task, cast("Mapping[str, Any]", stored), origin)
        config: Any = task.read("task_config", dict, required=True)
        body: Body = {"set": {"broken": True}}
        if kind is not None and config is not None:
            fields = Config(config, task.at("task_config"), self._notes)
            body = self._rules[kind](fields, at)
            fields.close()
        self._common(task, body, at)
        task.close()
        return {name: body}

    def _kind(self, task: Config, stored: Mapping[str, Any], origin: str) -> str | None:
        said = stored.get(task.key("kind"))
        name = kind_name(said)
        if name is not None:
            return name
        if said in (None, 0, "WORKFLOW_TASK_KIND_UNSPECIFIED"):
            self._notes.find("dsl.missing-field", origin, "needs `kind`")
        else:
            hint = did_you_mean(str(said), NAMES, otherwise="such as " + ", ".join(list(NUMBERS.values())[:4]))
            self._notes.find("stored.kind", task.at("kind"), f"{said!r} is no kind of task", hint)
        return None

    def _common(self, task: Config, body: Body, target: str) -> None:
        """What every task has beside its configuration."""
        for name, key, field in (("export", "as_", "export"), ("flow", "then", "then")):
            holder: Any = task.read(name, dict)
            if holder is None:
                continue
            inner = Config(holder, task.at(name), self._notes)
            text = inner.read(key.rstrip("_"), str)
            inner.close()
            if text is None:
                continue
            origin = inner.at(key.rstrip("_"))
            if field == "export":
                body["export"] = {"as": text}
                self._notes.came_from(target + "/export/as", origin)
            else:
                body["then"] = text
                self._notes.came_from(target + "/then", origin)

    def _move(self, config: Config, name: str, kind: type, holder: Body, place: str, *, required: bool = False) -> None:
        """Copy a field to `place` (a pointer in the document) of `holder`, if it is there."""
        value = config.read(name, kind, required=required)
        if value is not None:
            holder[place.rpartition("/")[2]] = value
            self._notes.came_from(place, config.at(name))

    def _set(self, config: Config, at: str) -> Body:
        body: Body = {"set": {}}
        self._move(config, "variables", dict, body, at + "/set", required=True)
        return body

    def _http(self, config: Config, at: str) -> Body:
        with_: Body = {}
        body: Body = {"call": "http", "with": with_}
        self._move(config, "method", str, with_, at + "/with/method", required=True)
        self._move(config, "endpoint", dict, with_, at + "/with/endpoint", required=True)
        self._move(config, "headers", dict, with_, at + "/with/headers")
        self._move(config, "body", dict, with_, at + "/with/body")
        with_.setdefault("method", "GET")
        with_.setdefault("endpoint", {"uri": "unknown"})
        self._seconds(config, "timeout_seconds", body, at)
        return body

    def _seconds(self, config: Config, name: str, body: Body, at: str) -> None:
        """A task's own timeout; 0 is what an old client writes for none."""
        seconds = config.read(name, int)
        if seconds:
            body["timeout"] = {"after": {"seconds": seconds}}
            self._notes.came_from(at + "/timeout", config.at(name))
            self._notes.came_from(at + "/timeout/after/seconds", config.at(name))

    def _grpc(self, config: Config, at: str) -> Body:
        with_: Body = {}
        service = config.read("service", str, required=True) or "unknown"
        found = _SERVICE.fullmatch(service)
        if found is None:
            message = f"{service!r} is no gRPC service"
            self._notes.find(
                "dsl.value", config.at("service"), message, "write package.Service or host:port/package.Service"
            )
        host = found["host"] if found else None
        port = int(found["port"]) if found and found["port"] else (_GRPC_PORT if host is None else 443)
        with_["service"] = {"name": found["name"] if found else service, "host": host or _GRPC_HOST, "port": port}
        self._notes.came_from(at + "/with/service", config.at("service"))
        self._move(config, "method", str, with_, at + "/with/method", required=True)
        with_.setdefault("method", "unknown")
        self._move(config, "request", dict, with_, at + "/with/arguments")
        return {"call": "grpc", "with": with_}

    def _activity(self, config: Config, at: str) -> Body:
        with_: Body = {}
        self._move(config, "activity", str, with_, at + "/with/name", required=True)
        with_.setdefault("name", "unknown")
        argument = config.read("input", dict)
        if argument is not None:
            with_["arguments"] = [argument]
            self._notes.came_from(at + "/with/arguments/0", config.at("input"))
        return {"call": "activity", "with": with_}

    def _switch(self, config: Config, at: str) -> Body:
        cases: list[Body] = []
        given = config.read("cases", list, required=True)
        if given == []:
            self._notes.find("dsl.value", config.at("cases"), "needs at least one case")
        for n, item in enumerate(given or []):
            origin = f"{config.at('cases')}/{n}"
            case = Config(cast("Mapping[str, Any]", item) if isinstance(item, Mapping) else {}, origin, self._notes)
            name = case.read("name", str, required=True) or f"broken {n}"
            target = at + pointer_to(["switch", n, name])
            self._notes.came_from(target, origin)
            content: Body = {}
            self._move(case, "when", str, content, target + "/when")
            self._move(case, "then", str, content, target + "/then", required=True)
            content.setdefault("then", "continue")
            case.close()
            cases.append({name: content})
        return {"switch": cases or [{"broken": {"then": "continue"}}]}

    def _for(self, config: Config, at: str) -> Body:
        loop: Body = {}
        self._move(config, "each", str, loop, at + "/for/each")
        self._move(config, "in", str, loop, at + "/for/in", required=True)
        loop.setdefault("in", "[]")
        return {"for": loop, "do": self._inner(config, "do", at + "/do")}

    def _inner(self, config: Config, name: str, target: str) -> list[Body]:
        stored = config.read(name, list, required=True)
        return [] if stored is None else self.tasks(stored, config.at(name), target)

    def _fork(self, config: Config, at: str) -> Body:
        branches: list[Body] = []
        for n, item in enumerate(config.read("branches", list, required=True) or []):
            origin = f"{config.at('branches')}/{n}"
            branch = Config(cast("Mapping[str, Any]", item) if isinstance(item, Mapping) else {}, origin, self._notes)
            name = branch.read("name", str, required=True) or f"broken {n}"
            target = at + pointer_to(["fork", "branches", n, name])
            self._notes.came_from(target, origin)
            branches.append({name: {"do": self._inner(branch, "do", target + "/do")}})
            branch.close()
        fork: Body = {"branches": branches}
        self._move(config, "compete", bool, fork, at + "/fork/compete")
        return {"fork": fork}

    def _try(self, config: Config, at: str) -> Body:
        catch: Any = config.read("catch", dict)
        if catch is None:
            # Nothing is caught, so nothing is tried: the tasks as they are.
            return {"do": self._inner(config, "try", at + "/do")}
        handler = Config(catch, config.at("catch"), self._notes)
        body: Body = {"try": self._inner(config, "try", at + "/try"), "catch": {}}
        self._notes.came_from(at + "/catch", config.at("catch"))
        self._move(handler, "as", str, body["catch"], at + "/catch/as")
        body["catch"]["do"] = self._inner(handler, "do", at + "/catch/do")
        handler.close()
        return body

    def _listen(self, config: Config, at: str) -> Body:
        to = Config(config.read("to", dict, required=True) or {}, config.at("to"), self._notes)
        mode = to.read("mode", str, required=True)
        if mode not in (None, "one", "all"):
            self._notes.find("dsl.value", to.at("mode"), f"must be one of one, all, not {mode!r}")
        filters: list[Body] = []
        for n, item in enumerate(to.read("signals", list, required=True) or []):
            origin = f"{to.at('signals')}/{n}"
            signal = Config(cast("Mapping[str, Any]", item) if isinstance(item, Mapping) else {}, origin, self._notes)
            kind = signal.read("type", str, required=True)
            if kind not in (None, "signal", "query", "update"):
                self._notes.find("dsl.value", signal.at("type"), f"must be one of signal, query, update, not {kind!r}")
            filters.append(
                {"with": {"id": signal.read("id", str, required=True) or "unknown", "type": kind or "signal"}}
            )
            signal.close()
        to.close()
        self._notes.came_from(at + "/listen/to", config.at("to"))
        if mode == "all":
            return {"listen": {"to": {"all": filters}}}
        return {"listen": {"to": {"one": filters[0]} if len(filters) == 1 else {"any": filters}}}

    def _wait(self, config: Config, at: str) -> Body:
        seconds = config.read("seconds", int, required=True)
        self._notes.came_from(at + "/wait", config.at("seconds"))
        if seconds is not None and seconds < 1:
            self._notes.find("dsl.value", config.at("seconds"), "must be 1 or more")
        return {"wait": {"seconds": max(seconds or 0, 0)}}

    def _raise(self, config: Config, at: str) -> Body:
        name = config.read("error", str, required=True) or "runtime"
        known = STANDARD.get(name.lower().removesuffix("error").removesuffix("_").removesuffix("-"))
        error: Body = {"type": name, "status": 500}
        if known is not None:
            error = {"type": known.type, "status": known.status, "title": known.title}
        elif not is_expression(name) and not _URI.fullmatch(name):
            slug = re.sub(r"[^A-Za-z0-9._~-]+", "-", name).strip("-")
            error = {"type": f"{PREFIX}runtime#{slug}", "status": 500, "title": name}
        self._notes.came_from(at + "/raise/error", config.at("error"))
        self._move(config, "message", str, error, at + "/raise/error/detail", required=True)
        return {"raise": {"error": error}}

    def _run(self, config: Config, at: str) -> Body:
        workflow: Body = {"namespace": self._namespace, "version": "latest"}
        self._move(config, "workflow", str, workflow, at + "/run/workflow/name", required=True)
        workflow.setdefault("name", "unknown")
        self._move(config, "input", dict, workflow, at + "/run/workflow/input")
        return {"run": {"workflow": workflow}}

    def _agent(self, config: Config, at: str) -> Body:
        with_: Body = {}
        self._move(config, "agent", str, with_, at + "/with/agent", required=True)
        self._move(config, "message", str, with_, at + "/with/message", required=True)
        self._move(config, "env", dict, with_, at + "/with/env")
        with_.setdefault("agent", "unknown")
        with_.setdefault("message", "unknown")
        scope = config.any("scope")
        if scope is not None:
            if scope in _SCOPES:
                with_["scope"] = _SCOPES[scope]
            else:
                self._notes.find(
                    "dsl.value", config.at("scope"), f"must be one of platform, organization, not {scope!r}"
                )
        for name, kind in _OF_AGENTS.items():
            self._move(config, name, kind, with_, f"{at}/with/{name}")
        return {"call": "agent", "with": with_}

    def _do(self, config: Config, at: str) -> Body:
        return {"do": self._inner(config, "do", at + "/do")}

    def _emit(self, config: Config, at: str) -> Body:
        event: Any = config.read("event", dict, required=True) or {"type": "unknown"}
        if set(event) == {"with"}:
            self._notes.came_from(at + "/emit/event", config.at("event"))
            return {"emit": {"event": event}}
        self._notes.came_from(at + "/emit/event/with", config.at("event"))
        return {"emit": {"event": {"with": event}}}

    def _function(self, name: str, config: Config, at: str) -> Body:
        """A function of the language; its arguments are the configuration, and checked as such."""
        with_: Body = {}
        self._notes.came_from(at + "/with", config.at(""))
        for field in FUNCTIONS[name].model_fields:
            plain = field.rstrip("_")
            value = config.any(plain)
            if value is not None:
                with_[wire_name(field)] = value
                self._notes.came_from(f"{at}/with/{wire_name(field)}", config.at(plain))
        return {"call": name, "with": with_}


def placeholders(value: Any) -> set[str]:
    """The names in the placeholders of a value's texts."""
    if isinstance(value, str):
        return set(PLACEHOLDER.findall(value))
    if isinstance(value, dict):
        parts = [*cast("dict[str, Any]", value).values()]
    else:
        parts = cast("list[Any]", value) if isinstance(value, list) else []
    return set[str]().union(*(placeholders(part) for part in parts))


def compile_document(spec: Mapping[str, Any], notes: Notes) -> Body:
    """The document that a stored spec stands for."""
    stored = whole_numbers(spec)
    said = stored.get("document")
    header = Config(cast("Mapping[str, Any]", said) if isinstance(said, Mapping) else {}, "/document", notes)
    document: Body = {}
    for name, key in (("dsl", "dsl"), ("namespace", "namespace"), ("name", "name"), ("version", "version")):
        value = header.read(name, str, required=True)
        document[key] = value if value is not None else {"dsl": "1.0.0", "version": "0.0.0"}.get(key, "unknown")
    summary = header.read("description", str)
    if summary is not None:
        document["summary"] = summary
        notes.came_from("/document/summary", "/document/description")
    header.close()
    compiler = TaskCompiler(notes, namespace=document["namespace"])
    tasks = compiler.tasks(stored.get("tasks", []), "/tasks", "/do")
    names = sorted({*environment_names(spec), *placeholders(tasks)})
    return {"document": document, **({"use": {"secrets": names}} if names else {}), "do": tasks}


def environment_names(spec: Mapping[str, Any]) -> frozenset[str]:
    """The names of the variables and secrets that a spec's `env_spec` declares."""
    declared: Any = spec.get("env_spec", spec.get("envSpec"))
    data: Any = cast("Mapping[str, Any]", declared).get("data") if isinstance(declared, Mapping) else None
    return (
        frozenset(str(name) for name in cast("Mapping[str, Any]", data)) if isinstance(data, Mapping) else frozenset()
    )
