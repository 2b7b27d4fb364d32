# ruff: noqa: E501, PT017 - tables of texts, one to a line; a workflow and problems are both right for any input
"""A campaign of generated documents: parsing never crashes, never hangs, never accepts what the specification refuses.

Documents are drawn from the specification's own JSON Schema and from ours, and mutated. STIGMER_CAMPAIGN=full makes ten
thousand of them, and STIGMER_CAMPAIGN_SEED others.
"""

import copy
import json
import os
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard

import jsonschema_rs
import pytest
from ruamel.yaml import YAML
from stigmer_dsl import DocumentError, WorkflowError, dataflow, parse, validate
from stigmer_dsl.model.tasks import CALLS
from stigmer_dsl.problems import Problem, pointer_parts
from stigmer_dsl.schema import json_schema
from stigmer_dsl.validation.structure import examine_structure

FULL = os.environ.get("STIGMER_CAMPAIGN") == "full"
SEED = int(os.environ.get("STIGMER_CAMPAIGN_SEED", "1"))
SPECIFICATION = Path(__file__).parent / "specification" / "workflow.yaml"

EXPRESSIONS = ["${ .x }", "${ $context.n + 1 }", '${ "a" + "b" }', "${ . }"]
TEXTS = ["a", "b", "1.0.0", "1.0.3", "http", "item", "PT5S", "P1D", "https://x.y/z", "jq", "/do/0/a", "0 0 * * *",
         "2026-01-01T00:00:00Z", ".x > 1", "json", "continue", "end", "exit", *EXPRESSIONS]  # fmt: skip
HINTS: Mapping[str, Sequence[str]] = {
    **dict.fromkeys(("if", "when", "exceptWhen", "while", "from", "as", "until", "filter", "in", "for"), EXPRESSIONS),
    **dict.fromkeys(("timeout", "retry", "error", "use", "secrets"), ("a",)),
    "then": ("continue", "exit", "end"),
    "dsl": ("1.0.3",),
    "cron": ("0 0 * * *", "@daily"),
    "language": ("jq",),
    "format": ("json",),
    "method": ("get", "POST"),
    "each": ("item",),
    "item": ("item",),
    "at": ("index",),
    "call": ("f", "g:1.0.0@default"),
}
"""What a text of a field must be like for the document to mean something."""
FORMATS: Mapping[str, Sequence[str]] = {
    "date-time": ("2026-01-01T00:00:00Z",),
    "json-pointer": ("", "/do/0/a"),
    "uri-template": ("https://x.y/{id}", "a/b"),
    "uri-reference": ("https://x.y/z", "/a?b=c#d"),
}
COMPONENTS: Mapping[str, Any] = {
    "errors": {"a": {"type": "https://x.y/z", "status": 400}},
    "retries": {"a": {"delay": "PT1S"}},
    "timeouts": {"a": {"after": "PT1S"}},
    "authentications": {"a": {"bearer": {"token": "t"}}},
    "functions": {"f": {"wait": "PT1S"}},
}
SCALARS: list[Any] = [None, True, 0, -1, 2.5, "", "x", "${ .x }", [], {}, ["a"], {"a": 1}, 10**20]


class Drawer:
    """Draws values of a JSON Schema. Values are of its shape; rules like `oneOf` over fields are followed too."""

    def __init__(self, schema: Mapping[str, Any], seed: random.Random) -> None:
        self._root = schema
        self._random = seed

    def document(self) -> dict[str, Any]:
        """A document whose references lead somewhere."""
        drawn = self.draw(self._root)
        use = drawn.setdefault("use", {})
        for name, components in COMPONENTS.items():
            use[name] = {**use.get(name, {}), **components}
        use["secrets"] = ["a"]
        return drawn

    def draw(self, schema: Any, depth: int = 0, field: str = "") -> Any:
        merged = self._merged(schema)
        if "const" in merged:
            return merged["const"]
        if "enum" in merged:
            return self._random.choice(merged["enum"])
        kind = merged.get("type")
        if kind == "object" or "properties" in merged or "additionalProperties" in merged:
            return self._object(merged, depth)
        if kind == "array":
            count = self._random.choice([0, 1, 1, 2]) if depth < 14 else 0
            if field == "do" and depth < 3:
                count = count or 1
            items = [self.draw(merged.get("items", {}), depth + 1, field) for _ in range(count)]
            return [_renamed(item, index) for index, item in enumerate(items)]
        if kind == "integer":
            return self._random.choice([1, 2, 5, 400])
        if kind == "boolean":
            return self._random.random() < 0.5
        if kind == "string":
            return self._text(merged, field)
        return self._random.choice(["x", 1, {"a": "${ .x }"}, [1], True])

    def _merged(self, schema: Any) -> dict[str, Any]:
        """A schema with its references, `allOf` and one of its alternatives taken into it."""
        merged: dict[str, Any] = {}
        todo = [schema]
        while todo:
            found = todo.pop()
            if isinstance(found, bool):
                continue
            at = dict(found)
            if "$ref" in at:
                todo.append(self._resolve(at.pop("$ref")))
            todo += at.pop("allOf", [])
            for key in ("oneOf", "anyOf"):
                if key in at:
                    todo.append(self._random.choice(at.pop(key)))
            for key, value in at.items():
                if key == "properties":
                    for name, inner in value.items():
                        known = merged.setdefault("properties", {}).get(name)
                        merged["properties"][name] = {"allOf": [known, inner]} if known else inner or {}
                elif key == "required":
                    merged["required"] = [*merged.get("required", []), *value]
                else:
                    merged.setdefault(key, value)
        return merged

    def _resolve(self, reference: str) -> Any:
        at: Any = self._root
        for part in reference.removeprefix("#/").split("/"):
            at = at[part]
        return at

    def _object(self, schema: dict[str, Any], depth: int) -> dict[str, Any]:
        properties: dict[str, Any] = schema.get("properties", {})
        required = set(schema.get("required", []))
        often = 0.35 if depth < 8 else 0.08
        names = [name for name in properties if name in required or self._random.random() < often]
        drawn = {name: self.draw(properties[name], depth + 1, name) for name in names if properties[name] is not False}
        extra = schema.get("additionalProperties")
        wanted = schema.get("minProperties", 0)
        while (isinstance(extra, dict) or extra is True or not properties) and len(drawn) < wanted:
            drawn[f"k{len(drawn)}"] = self.draw(extra if isinstance(extra, dict) else {}, depth + 1)
        for name in properties:
            if len(drawn) >= wanted:
                break
            if properties[name] is not False:
                drawn.setdefault(name, self.draw(properties[name], depth + 1, name))
        if isinstance(extra, dict) and wanted == 0 and self._random.random() < often:
            drawn["a"] = self.draw(extra, depth + 1)
        return drawn

    def _text(self, schema: dict[str, Any], field: str) -> str:
        pattern = schema.get("pattern")
        of_format = FORMATS.get(schema.get("format", ""), TEXTS)
        hinted = [text for text in HINTS.get(field, ()) if pattern is None or re.search(pattern, text)]
        fitting = hinted or [text for text in of_format if pattern is None or re.search(pattern, text)]
        refused = schema.get("not", {}).get("enum", [])
        return self._random.choice([text for text in fitting if text not in refused])


def _renamed(item: Any, index: int) -> Any:
    """An entry of a list of tasks with a name of its own."""
    return {f"t{index}": item["k0"]} if _is_object(item) and list(item) == ["k0"] else item


def _is_object(value: Any) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict)


def _is_list(value: Any) -> TypeGuard[list[Any]]:
    return isinstance(value, list)


class Mutator:
    """Makes one to three changes to a document, each of which may break it."""

    def __init__(self, seed: random.Random) -> None:
        self._random = seed

    def mutate(self, document: Any) -> Any:
        changed = copy.deepcopy(document)
        for _ in range(self._random.choice([1, 1, 1, 2, 3])):
            places = list(_containers(changed))
            container = self._random.choice(places)
            donor = self._random.choice(places)
            self._change(container, donor)
        return changed

    def _change(self, container: Any, donor: Any) -> None:
        keys: list[Any] = list(container) if _is_object(container) else list(range(len(container)))
        value = copy.deepcopy(self._random.choice([*SCALARS, donor, donor]))
        if not keys or self._random.random() < 0.2:
            name = self._random.choice(["x", "do", "set", "with", "until", "foreach", "then", "as", "from", "use"])
            if _is_object(container):
                container[name] = value
            elif _is_list(container):
                container.append(value)
            return
        key = self._random.choice(keys)
        if self._random.random() < 0.35:
            del container[key]
        elif _is_object(container) and self._random.random() < 0.2:
            container[str(key) + "x"] = container.pop(key)
        else:
            container[key] = value


def _containers(value: Any) -> Iterator[Any]:
    inner = list(value.values()) if _is_object(value) else value if _is_list(value) else None
    if inner is not None:
        yield value
        for item in inner:
            yield from _containers(item)


def specification() -> dict[str, Any]:
    reader: Any = YAML(typ="safe", pure=True)
    return reader.load(SPECIFICATION.read_text())


EXPRESSION = {"type": "string", "pattern": r"^\s*\$\{[\s\S]+\}\s*$"}


def extended(schema: dict[str, Any]) -> dict[str, Any]:
    """The specification's schema with what this library accepts beyond it, as docs/language/differences.md lists."""
    schema = copy.deepcopy(schema)
    definitions: Any = schema["$defs"]
    # An expression may have several lines.
    definitions["runtimeExpression"] = EXPRESSION
    calls = {call["title"]: call["allOf"][1]["properties"]["with"] for call in definitions["callTask"]["oneOf"]}
    # Arguments may come from one expression; query values may be of any type.
    definitions["callTask"]["oneOf"][-1]["allOf"][1]["properties"]["with"] = {"anyOf": [{"type": "object"}, EXPRESSION]}
    for call, argument in (("CallGRPC", "arguments"), ("CallOpenAPI", "parameters"), ("CallHTTP", "query")):
        calls[call]["properties"][argument] = {"anyOf": [{"type": "object"}, EXPRESSION]}
    calls["CallA2A"]["properties"]["parameters"]["oneOf"][0].pop("minProperties")
    texts = {"type": "object", "additionalProperties": {"type": "string"}}
    calls["CallMCP"]["properties"]["transport"]["properties"]["http"]["properties"]["headers"] = {
        "anyOf": [texts, EXPRESSION]
    }
    workflow = _alternative(definitions["runTask"], "RunWorkflow")["properties"]["workflow"]
    workflow["properties"]["input"] = {"anyOf": [{"type": ["object", "array"]}, EXPRESSION]}
    workflow["required"].remove("version")
    # A host may be an address or an expression.
    calls["CallGRPC"]["properties"]["service"]["properties"]["host"] = {"type": "string", "minLength": 1}
    # Items of an inline collection, and payloads, are of any type.
    definitions["forTask"]["allOf"][1]["properties"]["for"]["properties"]["in"]["oneOf"][1].pop("items")
    definitions["asyncApiOutboundMessage"]["properties"]["payload"] = {}
    # Fields that are expressions by their nature need no ${ }.
    definitions["asyncApiSubscription"]["properties"]["filter"] = {"type": "string"}
    for policy in definitions["asyncApiMessageConsumptionPolicy"]["oneOf"][1:]:
        for name in policy["properties"]:
            policy["properties"][name] = {"type": "string"}
    # The name of a policy may stand for it.
    referable = definitions["referenceableAuthenticationPolicy"]
    definitions["referenceableAuthenticationPolicy"] = {"anyOf": [referable, {"type": "string", "minLength": 1}]}
    # A policy's endpoints and authority may be expressions.
    oauth2 = definitions["oauth2AuthenticationProperties"]["properties"]
    oauth2["authority"] = {"anyOf": [oauth2["authority"], EXPRESSION]}
    endpoints = _alternative(definitions["authenticationPolicy"], "OAuth2AuthenticationPolicy")
    for path in endpoints["properties"]["oauth2"]["oneOf"][0]["properties"]["endpoints"]["properties"].values():
        path.pop("format")
    return schema


def _alternative(definition: Any, title: str) -> Any:
    """An alternative of a definition, or of the one field that its task has, by its title."""
    if "oneOf" in definition:
        return next(found for found in definition["oneOf"] if found["title"] == title)
    (field,) = definition["allOf"][1]["properties"].values()
    return _alternative(field, title)


OWN_CALLS = set(CALLS) - {"http", "grpc", "openapi", "asyncapi", "a2a", "mcp"}
STRUCTURE = frozenset({"dsl.type", "dsl.value", "dsl.missing-field", "dsl.unknown-field", "dsl.one-of", "dsl.task-kind", "dsl.entry"})  # fmt: skip
STRICTER = (
    r"needs `with`$",  # an event to emit has attributes
    r"needs one of every, cron, after, on$",  # a schedule schedules something
    r"needs exactly one of agentCard, server; it has none$",  # somebody must be called
    r"a workflow needs at least one task$",
    r"is unknown (here|in `)",  # closed where the specification leaves objects open
    r"is no HTTP method$",
    r"must be one of .*, not \"",  # the same, for calls whose arguments it leaves open
    r"^must be a text, not (nothing|an object|a list|[\d-]|true|false)",  # extension attributes of objects left open
    r"^a task is one thing",
    r"is empty: give it a value",
    r"^needs exactly one of use, basic, .* it has use, ",  # a policy that is also the name of one
    r"needs exactly one of document, resource; it has none$",  # a schema that is null
    r"must not be empty$",  # a task or a directive without a name
)
"""What is refused although the specification's schema allows it, by what is said about it."""


class Campaign:
    """Generated documents, what became of them, and what should not have."""

    def __init__(self, count: int, seed: int) -> None:
        self._count = count
        self._random = random.Random(seed)
        specified = specification()
        self._drawers = [Drawer(specified, self._random), Drawer(json_schema(), self._random)]
        self._mutator = Mutator(self._random)
        self._specification: Any = jsonschema_rs.Draft202012Validator(extended(specified), validate_formats=True)
        self._ours: Any = jsonschema_rs.Draft202012Validator(json_schema())
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.slowest = 0.0

    def run(self) -> None:
        for number in range(self._count):
            document = self._random.choice(self._drawers).document()
            if number % 3:
                document = self._mutator.mutate(document)
            self._check(document)

    def _check(self, document: Any) -> None:
        began = time.process_time()
        problems = self._problems(document)
        self.slowest = max(self.slowest, time.process_time() - began)
        allowed = self._specification.is_valid(document)
        self.counts["accepted" if not problems else "refused"] += 1
        self.counts["by the specification's schema"] += allowed
        if not problems and not allowed:
            errors = sorted(self._specification.iter_errors(document), key=lambda error: -len(error.instance_path))
            self.wrong.append(f"accepted, against the specification: {errors[0].message[:300]}")
        for problem in problems if allowed else ():
            known = _is_own(document, problem.pointer) or any(re.search(known, problem.message) for known in STRICTER)
            if problem.code in STRUCTURE and not known:
                self.wrong.append(f"refused, against the specification: {problem}")
        structure = examine_structure(document).findings
        if self._ours.is_valid(document) != (not structure):
            self.wrong.append(f"schema and model differ: {structure[:1] or next(self._ours.iter_errors(document))}")

    def _problems(self, document: Any) -> Sequence[Problem]:
        try:
            validate(document)
        except DocumentError as error:
            assert error.problems
            return error.problems
        return ()


def _is_own(document: Any, pointer: str) -> bool:
    """Whether a place is in the arguments of a function of ours, of which the specification knows nothing."""
    at = document
    for part in pointer_parts(pointer):
        if _is_object(at):
            if at.get("call") in OWN_CALLS:
                return True
            at = at.get(part)
        elif _is_list(at):
            at = at[int(part)]
        else:
            break
    return False


@pytest.mark.requirement("campaign", "schema.export", "document.closed")
@pytest.mark.timeout(3600 if FULL else 120)
def test_generated_documents_never_crash_never_hang_and_are_judged_as_the_specification_does(
    capsys: pytest.CaptureFixture[str],
) -> None:
    campaign = Campaign(10_000 if FULL else 1_000, seed=SEED)
    campaign.run()
    told = ", ".join(f"{count} {name}" for name, count in sorted(campaign.counts.items()))
    with capsys.disabled():
        sys.stdout.write(f"\ncampaign, seed {SEED}: {told}; the slowest took {campaign.slowest:.2f} s of processor\n")
    assert campaign.wrong == []
    assert campaign.counts["accepted"] > 20
    assert campaign.slowest < 10


@pytest.mark.requirement("campaign")
def test_texts_of_generated_documents_are_read_as_they_are() -> None:
    """What YAML and JSON make of a document is judged like the document, with a place for every problem."""
    seed = random.Random(SEED)
    drawer, mutator = Drawer(specification(), seed), Mutator(seed)
    for number in range(1000 if FULL else 60):
        document = drawer.document() if number % 2 else mutator.mutate(drawer.document())
        expected = _codes(lambda document=document: validate(document))
        text = json.dumps(document, indent=seed.choice([None, 2]))
        assert _codes(lambda text=text: parse(text, name="t")) == expected


def _codes(read: Callable[[], object]) -> list[tuple[str, str]]:
    try:
        read()
    except DocumentError as error:
        return sorted((problem.code, problem.pointer) for problem in error.problems)
    return []


DEEP = "{a: " * 2000 + "1" + "}" * 2000
BOMB = "\n".join(["a0: &a0 [x, x, x, x, x, x, x, x, x]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)])  # fmt: skip
HEAD = "document: { dsl: '1.0.3', namespace: a, name: b, version: 1.0.0 }\n"


@pytest.mark.requirement("source.limits", "campaign")
@pytest.mark.parametrize(
    ("text", "code"),
    [
        pytest.param(BOMB, "yaml.limit", id="aliases"),
        pytest.param(DEEP, "yaml.limit", id="nesting"),
        pytest.param("[" * 100_000, "yaml.limit", id="brackets"),
        pytest.param("- " * 50_000 + "x", "yaml.limit", id="dashes"),
        pytest.param("a: " + "x" * 3_000_000, "yaml.limit", id="length"),
        pytest.param("a: &a [*a]", "yaml.alias", id="cycle"),
        pytest.param(HEAD + "do: [ { a: { wait: PT" + "9" * 100_000 + "S } } ]", "dsl.duration", id="digits"),
        pytest.param(HEAD + "do: " + "[ { d: { do: " * 80 + "[]" + " } } ]" * 80, "yaml.limit", id="tasks"),
        pytest.param(HEAD + "do: [ { a: { if: '" + "(" * 5000 + "', wait: PT1S } } ]", "expression.syntax", id="parentheses"),
        pytest.param(HEAD + "do: [ { a: { wait: PT1S, then: " + "a" * 100_000 + " } } ]", "dsl.then-target", id="name"),
        pytest.param(HEAD + "schedule: { cron: '" + "*," * 50_000 + "* * * * *' }\ndo: [ { a: { wait: PT1S } } ]", None, id="cron"),
        pytest.param(HEAD + "do: [ { a: { call: http, with: { method: get, endpoint: 'https://x.y/" + "{a}" * 30_000 + "' } } } ]", None, id="template"),
        pytest.param(HEAD + "input: { schema: { document: { type: string, pattern: '(a+)+$' } } }\ndo: [ { a: { wait: PT1S } } ]", None, id="pattern"),
        pytest.param(HEAD + "do: [ { a: { listen: { to: { one: { with: { type: '(a|aa)+$' } } } } } } ]", None, id="filter"),
    ],
)  # fmt: skip
def test_hostile_texts_end_in_a_problem_or_are_harmless(text: str, code: str | None) -> None:
    began = time.process_time()
    found = {found for found, _ in _codes(lambda: parse(text, name="t"))}
    assert found == (set() if code is None else {code})
    assert time.process_time() - began < 20


@pytest.mark.requirement("campaign")
@pytest.mark.parametrize("pattern", ["^(a|aa|a?)*$", "^(a+)+$", "^(a|a){30,60}$", "^" + "a?" * 40 + "a" * 40 + "$"])
def test_a_pattern_that_explodes_fails_within_a_bound(pattern: str) -> None:
    body = f"input: {{ schema: {{ document: {{ type: string, pattern: '{pattern}' }} }} }}\ndo: [ {{ a: {{ wait: PT1S }} }} ]"
    schema = parse(HEAD + body).input
    assert schema is not None
    with pytest.raises(WorkflowError, match=r"matching a text|does not match"):
        dataflow.transform_input(schema, "a" * 39 + "b", {})
