"""From the language to stored tasks, where the stored form can say it.

What is written compiles back to the same workflow, but for spelling (an endpoint that was a text, a duration that was
one, the case of a method). What it cannot say is told, every bit of it, and nothing is written then.
"""

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, cast

from stigmer_dsl import durations
from stigmer_dsl.errors import PREFIX, STANDARD, DurationError
from stigmer_dsl.model import Workflow
from stigmer_dsl.model.element import wire_name
from stigmer_dsl.problems import Problem, pointer_to
from stigmer_dsl.stored.compiler import FUNCTIONS, Body
from stigmer_dsl.stored.kinds import PREFIX as KIND_PREFIX

_AGENT_FIELDS = ("agent", "message", "scope", "env", "config", "session", "files", "response", "collect", "output")
_METHODS = frozenset({"GET", "POST", "PUT", "DELETE", "PATCH"})


class Part:
    """An object of a document that is taken apart; what nobody took cannot be said."""

    def __init__(self, value: Mapping[str, Any], pointer: str, problems: list[Problem]) -> None:
        self._left = dict(value)
        self.pointer = pointer
        self.problems = problems

    def take(self, key: str, default: Any = None) -> Any:
        """A field of whatever form."""
        return self._left.pop(key, default)

    def text(self, key: str) -> str | None:
        """A field that must be a text to be said."""
        return self._typed(key, str)

    def mapping(self, key: str) -> dict[str, Any] | None:
        """A field that must be an object to be said."""
        return self._typed(key, dict)

    def part(self, key: str) -> "Part":
        """A field that is taken apart in turn."""
        value = self.take(key, {})
        if not isinstance(value, Mapping):
            self.cannot(key)
        plain: Mapping[str, Any] = cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}
        return Part(plain, f"{self.pointer}/{key}", self.problems)

    def default(self, key: str, value: Any) -> None:
        """A field that can only be what it is anyway."""
        if self.take(key, value) != value:
            self.cannot(key)

    def cannot(self, key: str = "", why: str = "") -> None:
        """Note that a field, or the object itself, cannot be said."""
        pointer = self.pointer + (pointer_to([key]) if key else "")
        message = why or "the stored form has no place for it"
        self.problems.append(Problem(code="stored.form", pointer=pointer, message=message, hint="store the definition"))

    def close(self) -> None:
        """Note everything that nobody took."""
        for key in self._left:
            self.cannot(key)

    def _typed(self, key: str, kind: type) -> Any:
        value = self.take(key)
        if value is not None and not isinstance(value, kind):
            self.cannot(key)
            return None
        return value


class TaskWriter:
    """Writes the tasks of one document in the stored form."""

    def __init__(self, problems: list[Problem], *, namespace: str) -> None:
        self._problems = problems
        self._namespace = namespace
        self._rules: Mapping[str, tuple[str, Callable[[Part], Body]]] = {
            "call": ("", self._call),
            "for": ("FOR", self._for),
            "do": ("DO", lambda task: {"do": self.tasks(task.take("do"), task.pointer + "/do")}),
            "emit": ("EMIT", self._emit),
            "fork": ("FORK", self._fork),
            "listen": ("LISTEN", self._listen),
            "raise": ("RAISE", self._raise),
            "run": ("RUN", self._run),
            "set": ("SET", lambda task: {"variables": task.mapping("set")}),
            "switch": ("SWITCH", self._switch),
            "try": ("TRY", self._try),
            "wait": ("WAIT", self._wait),
        }
        self._calls: Mapping[str, tuple[str, Callable[[Part, Part], Body]]] = {
            "http": ("HTTP_CALL", self._http),
            "grpc": ("GRPC_CALL", self._grpc),
            "activity": ("CALL_ACTIVITY", self._activity),
            "agent": ("AGENT_CALL", self._agent),
        }

    def tasks(self, items: list[Body], pointer: str) -> list[Body]:
        """A list of tasks."""
        return [self._item(item, pointer, index) for index, item in enumerate(items)]

    def _item(self, item: Body, pointer: str, index: int) -> Body:
        ((name, body),) = item.items()
        task = Part(body, pointer + pointer_to([index, name]), self._problems)
        key = next(key for key in self._rules if key in body)
        kind, rule = self._rules[key]
        if key == "call":
            name_of_call = body["call"]
            kind = self._calls[name_of_call][0] if name_of_call in self._calls else name_of_call.upper()
        written: Body = {"name": name, "kind": KIND_PREFIX + kind, "task_config": rule(task)}
        if "export" in body:
            export = task.part("export")
            written["export"] = {"as": export.text("as") or ""}
            export.close()
        if "then" in body:
            written["flow"] = {"then": task.take("then")}
        task.close()
        return written

    def _call(self, task: Part) -> Body:
        name = task.take("call")
        if name in self._calls:
            with_ = task.part("with")
            config = self._calls[name][1](with_, task)
            with_.close()
            return config
        if name in FUNCTIONS:
            given: dict[str, Any] = task.take("with", {})
            fields = {wire_name(field): field.rstrip("_") for field in FUNCTIONS[name].model_fields}
            return {fields[key]: value for key, value in given.items()}
        task.take("with")
        task.cannot("call", f"the stored form has no call of {name!r}")
        return {}

    def _http(self, with_: Part, task: Part) -> Body:
        method = str(with_.take("method")).upper()
        if method not in _METHODS:
            with_.cannot("method")
        endpoint: Any = with_.take("endpoint")
        plain = {"uri": endpoint} if isinstance(endpoint, str) else endpoint
        place = Part(plain, with_.pointer + "/endpoint", self._problems)
        config: Body = {"method": method, "endpoint": {"uri": place.take("uri")}}
        place.close()
        config |= {key: value for key in ("headers", "body") if (value := with_.mapping(key)) is not None}
        timeout = task.part("timeout")
        after = timeout.take("after")
        if after is not None:
            config["timeout_seconds"] = self._seconds(timeout, "after", after)
        timeout.close()
        return config

    def _grpc(self, with_: Part, _task: Part) -> Body:
        service = with_.part("service")
        name, host, port = service.take("name"), service.take("host"), service.take("port")
        service.close()
        local = (host, port) == ("localhost", 50051)
        if port is None:
            service.cannot("", "without a port the stored form takes 443")
        where = "" if local else f"{host}:{port}/"
        config: Body = {"service": where + name, "method": with_.take("method")}
        return config | _given("request", with_.mapping("arguments"))

    def _activity(self, with_: Part, _task: Part) -> Body:
        config: Body = {"activity": with_.take("name")}
        arguments: Any = with_.take("arguments")
        if arguments is None:
            return config
        if isinstance(arguments, list) and len(cast("list[Any]", arguments)) == 1 and isinstance(arguments[0], dict):
            return {**config, "input": arguments[0]}
        with_.cannot("arguments", "the stored form has exactly one argument, an object")
        return config

    def _agent(self, with_: Part, _task: Part) -> Body:
        given = {key: with_.take(key) for key in _AGENT_FIELDS}
        return {key: value for key, value in given.items() if value is not None}

    def _switch(self, task: Part) -> Body:
        cases: list[Body] = []
        for item in task.take("switch"):
            ((name, case),) = item.items()
            cases.append({"name": name, **case})
        return {"cases": cases}

    def _for(self, task: Part) -> Body:
        loop = task.part("for")
        config: Body = {"each": loop.take("each", "item"), "in": loop.text("in")}
        loop.default("at", "index")
        loop.close()
        return {**config, "do": self.tasks(task.take("do"), task.pointer + "/do")}

    def _fork(self, task: Part) -> Body:
        fork = task.part("fork")
        branches: list[Body] = []
        for index, item in enumerate(fork.take("branches")):
            ((name, body),) = item.items()
            branch = Part(body, f"{fork.pointer}/branches{pointer_to([index, name])}", self._problems)
            if "do" not in body or "for" in body:
                branch.cannot("", "a branch of the stored form is a list of tasks: put it into `do`")
                continue
            branches.append({"name": name, "do": self.tasks(branch.take("do"), branch.pointer + "/do")})
            branch.close()
        config: Body = {"branches": branches}
        config |= _given("compete", fork.take("compete"))
        fork.close()
        return config

    def _try(self, task: Part) -> Body:
        catch = task.part("catch")
        handler: Body = _given("as", catch.take("as"))
        todo: Any = catch.take("do")
        if todo is None:
            catch.cannot("", "the stored form needs tasks to do after an error")
        handler["do"] = self.tasks(todo or [], catch.pointer + "/do")
        catch.close()
        return {"try": self.tasks(task.take("try"), task.pointer + "/try"), "catch": handler}

    def _listen(self, task: Part) -> Body:
        listen = task.part("listen")
        to = listen.part("to")
        listen.default("read", "data")
        listen.close()
        given = {key: found for key in ("one", "all", "any") if (found := to.take(key)) is not None}
        ((strategy, found),) = given.items()
        filters: list[Body] = [found] if strategy == "one" else found
        to.close()
        if strategy == "any" and len(filters) < 2:
            to.cannot("any", "the stored form takes one of several signals: two at least")
        signals = [
            self._signal(item, f"{to.pointer}/{strategy}" + ("" if strategy == "one" else f"/{index}"))
            for index, item in enumerate(filters)
        ]
        return {"to": {"mode": "all" if strategy == "all" else "one", "signals": signals}}

    def _signal(self, item: Body, pointer: str) -> Body:
        filter_ = Part(item, pointer, self._problems)
        with_ = filter_.part("with")
        id_, type_ = with_.text("id"), with_.text("type")
        if id_ is None or type_ not in ("signal", "query", "update"):
            with_.cannot("", "the stored form knows signals, by `id` and `type` (signal, query or update)")
        with_.close()
        filter_.close()
        return {"id": id_, "type": type_}

    def _raise(self, task: Part) -> Body:
        holder = task.part("raise")
        error = holder.take("error")
        if not isinstance(error, dict):
            holder.cannot("error", "the stored form knows no names of errors")
            return {}
        said = cast("dict[str, Any]", error)
        message = said.get("detail")
        name = _error_name({key: value for key, value in said.items() if key != "detail"})
        if name is None or message is None:
            holder.cannot("error", "the stored form has a name and a message, and status 500 for what is not standard")
            return {}
        return {"error": name, "message": message}

    def _run(self, task: Part) -> Body:
        run = task.part("run")
        workflow = run.part("workflow")
        run.default("await", True)
        run.default("return", "stdout")
        run.close()
        workflow.default("namespace", self._namespace)
        workflow.default("version", "latest")
        config: Body = {"workflow": workflow.take("name")}
        config |= _given("input", workflow.mapping("input"))
        workflow.close()
        return config

    def _emit(self, task: Part) -> Body:
        event: Any = task.take("emit")["event"]["with"]
        # An event whose only attribute is called `with` would be read as one that has attributes.
        return {"event": {"with": event} if set(event) == {"with"} else event}

    def _wait(self, task: Part) -> Body:
        return {"seconds": self._seconds(task, "wait", task.take("wait"))}

    def _seconds(self, part: Part, key: str, value: Any) -> int:
        try:
            length = durations.parse(value)
        except DurationError:
            length = timedelta()
        seconds = int(length.total_seconds())
        if seconds < 1 or length != timedelta(seconds=seconds):
            part.cannot(key, "the stored form has whole seconds, one at least")
        return seconds


def _given(key: str, value: Any) -> Body:
    return {} if value is None else {key: value}


def _error_name(error: Mapping[str, Any]) -> str | None:
    """The name that compiles to an error's type, status and title; None if none does."""
    for name, kind in STANDARD.items():
        if error == {"type": kind.type, "status": kind.status, "title": kind.title}:
            return name
    type_, title = str(error.get("type")), error.get("title")
    if error == {"type": type_, "status": 500} and not type_.startswith(f"{PREFIX}runtime#"):
        return type_
    return str(title) if error == {"type": type_, "status": 500, "title": title} and "#" in type_ else None


def write_document(workflow: Workflow, problems: list[Problem]) -> Body:
    """The stored spec of a workflow."""
    plain = Part(workflow.to_dict(), "", problems)
    header = plain.part("document")
    document = {key: header.take(key) for key in ("dsl", "namespace", "name", "version")}
    document |= _given("description", header.take("summary"))
    header.close()
    use = plain.part("use")
    secrets: list[str] = use.take("secrets", [])
    use.close()
    writer = TaskWriter(problems, namespace=workflow.document.namespace)
    spec: Body = {"document": document, "tasks": writer.tasks(plain.take("do"), "/do")}
    plain.close()
    if secrets:
        spec["env_spec"] = {"data": {name: {"is_secret": True} for name in secrets}}
    return spec
