"""Scripts and shell commands, really run, in the sandbox of this machine."""

from __future__ import annotations

import shutil
from typing import Any

import pytest
from workflow_runner.testing import Response, Runs, Site, StartRunner

needs_node = pytest.mark.skipif(
    shutil.which("node", path="/usr/local/bin:/usr/bin:/bin") is None, reason="no node here"
)


def run(process: str, rest: str = "") -> str:
    return f"do:\n- it: {{run: {{{process}{rest}}}}}"


def shell(command: str, more: str = "", rest: str = "") -> str:
    return run(f"shell: {{command: '{command}'{more}}}", rest)


@pytest.mark.requirement("run.shell")
async def test_a_shell_command_outputs_what_it_prints(runs: Runs) -> None:
    assert await runs.output(shell("echo hello; echo aside >&2")) == "hello"


@pytest.mark.requirement("run.shell")
async def test_everything_of_a_process_is_evaluated(runs: Runs) -> None:
    more = ", stdin: '${ .word }', arguments: ['${ .word }', 'a b'], environment: {WORD: '${ .word }', N: 3}"
    output = await runs.output(shell('cat; echo "[$1][$2][$WORD][$N]"', more), {"word": "wörd $x"})
    assert output == "wörd $x[wörd $x][a b][wörd $x][3]"


async def test_a_command_may_be_an_expression(runs: Runs) -> None:
    assert await runs.output(shell('${ "echo " + .what }'), {"what": "made"}) == "made"


@pytest.mark.requirement("run.script")
async def test_a_python_script_reads_input_and_arguments(runs: Runs) -> None:
    code = "import sys, json; print(json.dumps([sys.argv[1:], sys.stdin.read()]))"
    script = f"script: {{language: python, code: '{code}', stdin: given, arguments: [one, '${{ .two }}']}}"
    assert await runs.output(run(script), {"two": "zwei"}) == '[["one", "zwei"], "given"]'


@pytest.mark.requirement("run.script")
@needs_node
async def test_a_javascript_script_is_run(runs: Runs) -> None:
    code = "console.log(process.argv[2] + process.env.B)"
    script = f"script: {{language: js, code: '{code}', arguments: [a], environment: {{B: b}}}}"
    assert await runs.output(run(script)) == "ab"


@pytest.mark.requirement("run.script")
async def test_a_script_may_stand_somewhere_else(runs: Runs, site: Site) -> None:
    site.page("/script.py", Response(b"print(6 * 7)", headers={"content-type": "text/x-python"}))
    script = f"script: {{language: python, source: {{endpoint: '{site.url}/script.py'}}}}"
    assert await runs.output(run(script)) == "42"
    error = await runs.error(run(f"script: {{language: python, source: {{endpoint: '{site.url}/none'}}}}"))
    assert "answered 404 Not Found" in error["detail"]


@pytest.mark.requirement("run.return")
@pytest.mark.parametrize(
    ("kept", "output"),
    [
        ("stdout", "out"),
        ("stderr", "err"),
        ("none", None),
        ("code", 0),
        ("all", {"code": 0, "stdout": "out", "stderr": "err"}),
    ],
)
async def test_a_process_gives_what_is_asked_of_it(runs: Runs, kept: str, output: Any) -> None:
    assert await runs.output(shell("echo out; echo err >&2", rest=f", return: {kept}")) == output


async def test_a_failed_process_is_an_error_unless_its_code_is_asked_for(runs: Runs) -> None:
    error = await runs.error(shell("echo broken >&2; exit 3"))
    assert (error["status"], error["instance"]) == (500, "/do/0/it")
    assert "exit code 3: broken" in error["detail"]
    assert await runs.output(shell("exit 3", rest=", return: code")) == 3
    assert (await runs.output(shell("exit 3", rest=", return: all")))["code"] == 3


@pytest.mark.requirement("timeout.error")
async def test_a_process_that_takes_too_long_times_out(runs: Runs) -> None:
    text = "do:\n- it: {run: {shell: {command: sleep 30}}, timeout: {after: {milliseconds: 300}}}"
    error = await runs.error(text)
    assert error["status"] == 408


@pytest.mark.requirement("processes.sandboxed")
async def test_a_process_has_no_network_unless_its_task_asks(runs: Runs, start_runner: StartRunner, site: Site) -> None:
    site.page("/reached", "yes")
    script = f'import urllib.request; print(urllib.request.urlopen(\\"{site.url}/reached\\").status)'
    process = f'script: {{language: python, code: "{script}"}}'
    assert "exit code 1" in (await runs.error(run(process)))["detail"]
    asking = f"do:\n- it: {{run: {{{process}}}, metadata: {{network: true}}}}"
    assert await runs.output(asking) == "200"
    strict = await start_runner(sandbox_network=False)
    assert (await strict.error(asking))["status"] == 403


async def test_secrets_reach_a_process_and_are_taken_out_of_what_it_says(runs: Runs) -> None:
    text = "use: {secrets: [TOKEN]}\n" + shell("echo $T; echo $T | rev", ", environment: {T: '${ $secrets.TOKEN }'}")
    execution = await runs.run(text, secrets={"TOKEN": "s3cret-value"})
    assert execution.phase == "COMPLETED"
    first, second = execution.output.splitlines()
    assert "s3cret" not in first
    assert second == "eulav-terc3s"


@pytest.mark.requirement("problems.unsupported")
async def test_what_is_not_run_is_refused_before_anything_is(runs: Runs) -> None:
    error = await runs.error(run("script: {language: ruby, code: x}"))
    assert "/do/0/it/run/script/language" in error["detail"]


@pytest.mark.requirement("processes.sandboxed", "problems.unsupported")
async def test_without_a_sandbox_a_workflow_with_processes_is_refused_when_it_is_loaded(
    start_runner: StartRunner,
) -> None:
    off = await start_runner(sandbox="off")
    execution = await off.run("do:\n- first: {set: {a: 1}}\n- it: {run: {shell: {command: echo}}}")
    assert "STIGMER_RUN_SANDBOX=off" in execution.error["detail"]
    assert "/do/1/it" in execution.error["detail"]
    assert list(execution.tasks) == []
