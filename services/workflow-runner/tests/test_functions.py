"""Functions: of the workflow, of catalogs, and at addresses of their own."""

from pathlib import Path
from typing import Any

import pytest
from stigmer_dsl import parse
from workflow_runner import unsupported
from workflow_runner.activities.catalogs import raw_address
from workflow_runner.testing import HEADER, Request, Response, Runs, Site, StartRunner

DOUBLE = "set: {n: '${ .n * 2 }'}"


def yaml(text: str) -> Response:
    return Response(text.encode(), headers={"content-type": "application/yaml"})


@pytest.mark.requirement("call.function")
async def test_a_function_gets_with_as_its_input_or_else_that_of_its_task(runs: Runs) -> None:
    text = f"""
use: {{functions: {{double: {{{DOUBLE}, output: {{as: '{{m: .n}}'}}}}}}}}
do:
- given: {{call: double, with: {{n: '${{ .n + 1 }}'}}}}
- rename: {{set: {{n: '${{ .m }}'}}}}
- passed: {{call: double}}
"""
    assert await runs.output(text, {"n": 2}) == {"m": 12}


@pytest.mark.requirement("call.function")
async def test_a_function_may_be_a_call_with_its_arguments_in_a_template(runs: Runs, site: Site) -> None:
    site.page("/pet/7", {"name": "Rex"})
    text = f"""
use: {{functions: {{pet: {{call: http, with: {{method: get, endpoint: '{site.url}/pet/{{id}}'}}}}}}}}
do:
- get: {{call: pet, with: {{id: 7}}}}
"""
    assert await runs.output(text) == {"name": "Rex"}


async def test_the_task_of_a_function_is_reported_inside_the_one_that_calls_it(runs: Runs) -> None:
    text = f"""
use: {{functions: {{both: {{do: [{{first: {{{DOUBLE}}}}}, {{second: {{call: double}}}}]}}, double: {{{DOUBLE}}}}}}}
do:
- loop: {{for: {{in: '[1, 2]'}}, do: [{{it: {{call: both}}}}]}}
"""
    execution = await runs.run(text, {"n": 1})
    assert execution.output == {"n": 16}
    ids = [each for each in execution.reported if each.startswith("/do/0/loop[1]/do/0/it")]
    assert ids == [
        "/do/0/loop[1]/do/0/it",
        "/do/0/loop[1]/do/0/it/call/both",
        "/do/0/loop[1]/do/0/it/call/both/do/0/first",
        "/do/0/loop[1]/do/0/it/call/both/do/1/second",
        "/do/0/loop[1]/do/0/it/call/both/do/1/second/call/double",
    ]
    inner = execution.reported[ids[4]]
    assert (inner.task_name, inner.kind, inner.parent_id) == ("double", "set", ids[3])
    assert inner.reference == "/use/functions/double"
    assert inner.iteration == 1


async def test_a_function_sees_its_own_task_and_no_loop_around_its_call(runs: Runs) -> None:
    text = "use: {functions: {who: {set: {at: '${ $task.reference }'}}}}\ndo:\n- it: {call: who}"
    assert await runs.output(text) == {"at": "/use/functions/who"}
    seeing = "use: {functions: {f: {set: {n: '${ $item }'}}}}\ndo:\n- l: {for: {in: '[1]'}, do: [{it: {call: f}}]}"
    assert "$item is not defined" in (await runs.error(seeing))["detail"]


async def test_an_error_in_a_function_says_where_and_can_be_caught_around_its_call(runs: Runs) -> None:
    boom = "raise: {error: {type: 'https://example.com/boom', status: 418}}"
    error = await runs.error(f"use: {{functions: {{f: {{do: [{{a: {{{boom}}}}}]}}}}}}\ndo:\n- it: {{call: f}}")
    assert error["instance"] == "/use/functions/f/do/0/a"
    text = f"use: {{functions: {{f: {{{boom}}}}}}}\ndo:\n- t: {{try: [{{it: {{call: f}}}}], catch: {{}}}}"
    assert await runs.output(text, 5) == 5


async def test_a_function_that_goes_on_in_a_new_history_goes_on_where_it_was(start_runner: StartRunner) -> None:
    runs = await start_runner(max_history_events=20)
    waits = ", ".join(f"{{w{index}: {{wait: {{milliseconds: 5}}}}}}" for index in range(8))
    text = f"""
use: {{functions: {{slow: {{do: [{waits}, {{double: {{{DOUBLE}}}}}]}}}}}}
do:
- one: {{call: slow, with: {{n: 3}}}}
- two: {{call: slow}}
"""
    assert await runs.output(text) == {"n": 12}


@pytest.mark.parametrize(
    "functions",
    ["f: {call: f}", "f: {call: g}, g: {do: [{a: {for: {in: '[1]'}, do: [{b: {call: f}}]}}]}"],
    ids=["itself", "through-another"],
)
async def test_a_function_that_calls_itself_is_refused(runs: Runs, functions: str) -> None:
    error = await runs.error(f"use: {{functions: {{{functions}}}}}\ndo:\n- it: {{call: f}}")
    assert "/use/functions/f" in error["detail"]
    assert "calls itself" in error["detail"]


def test_what_a_function_cannot_do_is_told_with_its_place() -> None:
    ruby = "run: {script: {language: ruby, code: x}}"
    text = HEADER + f"use: {{functions: {{f: {{do: [{{it: {{{ruby}}}}}]}}}}}}\ndo:\n- it: {{call: f}}"
    assert [problem.pointer for problem in unsupported(parse(text))] == ["/use/functions/f/do/0/it/run/script/language"]


CATALOG = "use: {catalogs: {ours: {endpoint: '{url}'}}}\n"


def catalog(site: Site) -> str:
    return CATALOG.replace("{url}", site.url)


@pytest.mark.requirement("catalog.function", "catalog.reference")
async def test_a_function_of_a_catalog_is_fetched_and_run(runs: Runs, site: Site) -> None:
    schema = "input: {schema: {document: {type: object, required: [n]}}}"
    site.page("/functions/double/1.0.0/function.yaml", lambda _: yaml(f"{schema}\n{DOUBLE}"))
    text = catalog(site) + "do:\n- it: {call: 'double:1.0.0@ours', with: {n: 4}}"
    execution = await runs.run(text)
    assert execution.output == {"n": 8}
    inner = execution.reported["/do/0/it/call/double:1.0.0@ours"]
    assert (inner.kind, inner.reference) == ("set", "/use/functions/double:1.0.0@ours")
    wrong = catalog(site) + "do:\n- it: {call: 'double:1.0.0@ours', with: {m: 4}}"
    assert "does not match its schema" in (await runs.error(wrong))["detail"]


async def test_functions_of_catalogs_may_call_others_of_them(runs: Runs, site: Site) -> None:
    site.page("/functions/double/1.0.0/function.yaml", lambda _: yaml(DOUBLE))
    site.page(
        "/functions/fourfold/2.1.0/function.yaml",
        lambda _: yaml("do:\n- a: {call: 'double:1.0.0@ours'}\n- b: {call: 'double:1.0.0@ours'}"),
    )
    assert await runs.output(catalog(site) + "do:\n- it: {call: 'fourfold:2.1.0@ours'}", {"n": 1}) == {"n": 4}


@pytest.mark.requirement("durable.definition")
async def test_a_run_keeps_the_function_that_it_began_with(start_runner: StartRunner, site: Site) -> None:
    runs = await start_runner(max_history_events=20)
    path = "/functions/f/1.0.0/function.yaml"
    served = iter([yaml("set: {v: old}"), yaml("set: {v: new}")])

    def serve(_: Request) -> Response:
        answer = next(served)
        answer.headers["cache-control"] = "no-store"
        return answer

    site.page(path, serve)
    waits = "\n".join(f"- w{index}: {{wait: {{milliseconds: 5}}}}" for index in range(12))
    assert await runs.output(catalog(site) + f"do:\n{waits}\n- it: {{call: 'f:1.0.0@ours'}}") == {"v": "old"}
    assert len(site.seen(path)) == 1
    assert await runs.output(catalog(site) + "do:\n- it: {call: 'f:1.0.0@ours'}") == {"v": "new"}


@pytest.mark.requirement("catalog.default")
async def test_the_default_catalog_is_the_operators(start_runner: StartRunner, site: Site, tmp_path: Path) -> None:
    folder = tmp_path / "functions" / "double" / "1.0.0"
    folder.mkdir(parents=True)
    (folder / "function.yaml").write_text(DOUBLE)
    text = "do:\n- it: {call: 'double:1.0.0@default', with: {n: 5}}"
    runs = await start_runner(default_catalog=tmp_path.as_uri(), resources_folder=str(tmp_path))
    assert await runs.output(text) == {"n": 10}
    without = await start_runner()
    assert "STIGMER_DEFAULT_CATALOG" in (await without.error(text))["detail"]


@pytest.mark.requirement("function.address")
async def test_a_function_may_stand_at_an_address_of_its_own(runs: Runs, site: Site) -> None:
    site.page("/mine.yaml", lambda _: yaml(DOUBLE))
    assert await runs.output(f"do:\n- it: {{call: '{site.url}/mine.yaml', with: {{n: 6}}}}") == {"n": 12}


@pytest.mark.requirement("catalog.authentication")
async def test_a_catalog_may_ask_who_we_are(runs: Runs, site: Site) -> None:
    def serve(request: Request) -> Response:
        allowed = request.headers.get("authorization") == "Bearer tok-5678"
        return yaml(DOUBLE) if allowed else Response({"error": "who are you"}, 401)

    site.page("/functions/double/1.0.0/function.yaml", serve)
    policy = "{bearer: {token: '${ $secrets.TOKEN }'}}"
    use = f"{{secrets: [TOKEN], catalogs: {{ours: {{endpoint: {{uri: '{site.url}', authentication: {policy}}}}}}}}}"
    text = f"use: {use}\ndo:\n- it: {{call: 'double:1.0.0@ours', with: {{n: 1}}}}"
    assert await runs.output(text, secrets={"TOKEN": "tok-5678"}) == {"n": 2}
    error = await runs.error(text, secrets={"TOKEN": "wrong-one"})
    assert error["status"] == 401


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("input: {}\nsett: {n: 1}", "function.yaml:1:1"),
        ("set: {n: 1}\nthen: elsewhere", "function.yaml:2:7: /then"),
        ("set:\n  a: '${ $secrets.TOKEN }'", "function.yaml:2:6: /set/a"),
        ("call: helper", "function.yaml:1:7: /call"),
        ("call: 'f:1.0.0@theirs'", "use.catalogs has no 'theirs'"),
        ("set: {n: '${ .a | }'}", "/set/n"),
        ("[1, 2", "function.yaml:1"),
        ("- a", "function.yaml"),
        ("call: 'f:1.0.0@ours'", "calls itself"),
    ],
)
async def test_a_function_that_is_not_valid_is_refused_with_its_place(
    runs: Runs, site: Site, function: str, said: str
) -> None:
    site.page("/functions/f/1.0.0/function.yaml", lambda _: yaml(function))
    use = f"use: {{secrets: [TOKEN], catalogs: {{ours: {{endpoint: '{site.url}'}}}}}}\n"
    text = f"{use}do:\n- it: {{call: 'f:1.0.0@ours'}}"
    error = await runs.error(text, secrets={"TOKEN": "tok-5678"})
    assert error["type"].endswith("/errors/configuration")
    assert said in error["detail"]


async def test_a_function_that_is_not_there_and_too_many_are_clear_errors(runs: Runs, site: Site) -> None:
    error = await runs.error(catalog(site) + "do:\n- it: {call: 'gone:1.0.0@ours'}")
    assert (error["status"], "the function gone:1.0.0@ours cannot be fetched" in error["detail"]) == (404, True)
    calls = "\n".join(f"- t{index}: {{call: 'f:1.0.{index}@ours'}}" for index in range(101))
    assert "more than 100 functions" in (await runs.error(f"{catalog(site)}do:\n{calls}"))["detail"]
    error = await runs.error(catalog(site) + "do:\n- it: {call: '../x:1@ours'}")
    assert "is no function of a catalog" in error["detail"]


async def test_a_catalog_that_is_away_for_a_moment_is_asked_again(runs: Runs, site: Site) -> None:
    answers = iter([Response({}, 503), yaml(DOUBLE)])
    site.page("/functions/double/1.0.0/function.yaml", lambda _: next(answers))
    assert await runs.output(catalog(site) + "do:\n- it: {call: 'double:1.0.0@ours'}", {"n": 1}) == {"n": 2}


@pytest.mark.requirement("catalog.raw")
@pytest.mark.parametrize(
    ("url", "raw"),
    [
        (
            "https://github.com/acme/catalog/tree/main/functions/log/1.0.0/function.yaml",
            "https://raw.githubusercontent.com/acme/catalog/main/functions/log/1.0.0/function.yaml",
        ),
        (
            "https://github.com/acme/catalog/functions/log/1.0.0/function.yaml",
            "https://raw.githubusercontent.com/acme/catalog/HEAD/functions/log/1.0.0/function.yaml",
        ),
        (
            "https://github.com/acme/functions/validateEmail@v1.0.0",
            "https://raw.githubusercontent.com/acme/functions/v1.0.0/validateEmail/function.yaml",
        ),
        (
            "https://gitlab.com/acme/sub/catalog/-/tree/main/functions/log/1.0.0/function.yaml",
            "https://gitlab.com/acme/sub/catalog/-/raw/main/functions/log/1.0.0/function.yaml",
        ),
        ("https://example.com/f.yaml", "https://example.com/f.yaml"),
    ],
)
def test_the_file_itself_is_fetched_from_where_people_look_at_it(url: Any, raw: str) -> None:
    assert raw_address(url) == raw
