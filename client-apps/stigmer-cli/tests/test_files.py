"""`stigmer files`, over a server inside this process, and what `--file` means."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from stigmer_cli.connection import connect
from stigmer_cli.environment import Environment
from stigmer_cli.errors import InvalidInputError
from stigmer_cli.files.given import check_path, read_files
from stigmer_cli.resources import Resources
from stigmer_cli.runs import start
from stigmer_cli.runs.inputs import NO_INPUT
from stigmer_grpc.errors import InvalidArgumentError

Write = Callable[[str, str], Path]

AGENT = "kind: Agent\nmetadata: {name: analyst}\nspec: {instructions: Look into data.}\n"
SESSION = "kind: Session\nmetadata: {name: talk}\nspec: {agentInstanceId: INSTANCE, subject: data}\n"


@pytest.fixture
def conversation(stigmer: Any, write: Write) -> str:
    """Id of a session with an agent."""
    assert stigmer("apply", "-f", write("agent.yaml", AGENT)).code == 0
    agent = json.loads(stigmer("get", "agent", "analyst", "-o", "json").out)
    instance = agent["status"]["default_instance_id"]
    made = stigmer("apply", "-f", write("session.yaml", SESSION.replace("INSTANCE", instance)), "-o", "json")
    assert made.code == 0, made.err
    (resource,) = json.loads(made.out)["resources"]
    return str(resource["id"])


def places(*texts: str) -> dict[str, str]:
    return {given.path: given.source.name for given in read_files(texts)}


def test_files_and_folders_go_where_they_are_told(write: Write, tmp_path: Path) -> None:
    for name in ("data/a.csv", "data/more/b.csv", "data/.git/config", "odd=name.txt"):
        write(name, "x")
    (tmp_path / "data" / "out").symlink_to("/etc/passwd")
    folder, file = str(tmp_path / "data"), str(tmp_path / "data" / "a.csv")
    assert places(file) == {"a.csv": "a.csv"}
    assert places(f"{file}=in/first.csv") == {"in/first.csv": "a.csv"}
    assert places(f"{file}=in/") == {"in/a.csv": "a.csv"}
    assert places(folder) == {"data/a.csv": "a.csv", "data/more/b.csv": "b.csv"}
    assert places(f"{folder}=in") == {"in/a.csv": "a.csv", "in/more/b.csv": "b.csv"}
    assert places(f"{folder}=.") == {"a.csv": "a.csv", "more/b.csv": "b.csv"}
    assert places(str(tmp_path / "odd=name.txt")) == {"odd=name.txt": "odd=name.txt"}


@pytest.mark.parametrize("place", ["../x", "/etc/x", "a/../../x", "a\nb", "a\\b", "a\x9b31m", "a\udcff"])
def test_a_place_outside_of_the_workspace_is_refused(write: Write, place: str) -> None:
    with pytest.raises(InvalidInputError, match="no path of a file in a workspace"):
        read_files([f"{write('a.csv', 'x')}={place}"])
    with pytest.raises(InvalidInputError):
        check_path(place)


def test_files_that_are_not_there_or_meet_are_refused(write: Write, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="no such file or folder"):
        read_files([str(tmp_path / "none.csv")])
    with pytest.raises(InvalidInputError, match=r"would both be a\.csv"):
        read_files([str(write("one/a.csv", "x")), str(write("two/a.csv", "x"))])


def test_files_go_to_a_session_and_come_back(stigmer: Any, conversation: str, write: Write, tmp_path: Path) -> None:
    script = write("data/run.sh", "#!/bin/sh\n")
    script.chmod(0o755)
    write("data/june/a.csv", "a,b\n")
    put = stigmer("files", "put", conversation, tmp_path / "data", "-o", "json")
    assert (put.code, sorted(each["path"] for each in json.loads(put.out)["items"])) == (
        0,
        ["data/june/a.csv", "data/run.sh"],
    )
    listed = stigmer("files", "list", conversation)
    assert [line.split()[0] for line in listed.out.splitlines()] == ["PATH", "data/june/a.csv", "data/run.sh"]
    target = tmp_path / "copy"
    assert stigmer("files", "get", conversation, "--to", target).code == 0
    assert (target / "data/june/a.csv").read_text() == "a,b\n"
    assert os.access(target / "data/run.sh", os.X_OK)
    assert stigmer("files", "get", conversation, "data/june/a.csv", "--to", "-").out == "a,b\n"


def test_nothing_is_written_over_unless_told(stigmer: Any, conversation: str, write: Write, tmp_path: Path) -> None:
    stigmer("files", "put", conversation, write("a.csv", "new"), write("b.csv", "new"))
    outside = write("outside.csv", "mine")
    (tmp_path / "to").mkdir()
    (tmp_path / "to" / "b.csv").symlink_to(outside)
    refused = stigmer("files", "get", conversation, "--to", tmp_path / "to")
    assert (refused.code, "b.csv is there already" in refused.err) == (4, True)
    assert not (tmp_path / "to" / "a.csv").exists()
    assert stigmer("files", "get", conversation, "b.csv", "--to", tmp_path / "to", "--force").code == 0
    assert ((tmp_path / "to" / "b.csv").read_text(), outside.read_text()) == ("new", "mine")


def test_nothing_is_written_outside_of_the_folder_or_in_place_of_one(
    stigmer: Any, conversation: str, write: Write, tmp_path: Path
) -> None:
    stigmer("files", "put", conversation, f"{write('a.csv', 'new')}=in/a.csv")
    elsewhere, to = tmp_path / "elsewhere", tmp_path / "to"
    elsewhere.mkdir()
    to.mkdir()
    (to / "in").symlink_to(elsewhere)
    refused = stigmer("files", "get", conversation, "--to", to, "--force")
    assert (refused.code, "leads out of" in refused.err, list(elsewhere.iterdir())) == (4, True, [])
    (to / "in").unlink()
    (to / "in").write_text("a file")
    refused = stigmer("files", "get", conversation, "--to", to, "--force")
    assert (refused.code, "cannot be written" in refused.err) == (4, True)
    (to / "in").unlink()
    (to / "in" / "a.csv").mkdir(parents=True)
    refused = stigmer("files", "get", conversation, "--to", to, "--force")
    assert (refused.code, "cannot be written" in refused.err, list((to / "in").iterdir())) == (
        4,
        True,
        [to / "in" / "a.csv"],
    )


def test_no_file_gets_into_a_repository_that_is_there(
    stigmer: Any, conversation: str, write: Write, tmp_path: Path
) -> None:
    stigmer("files", "put", conversation, f"{write('hook', '#!/bin/sh')}=.Git/hooks/pre-commit")
    (tmp_path / "mine" / ".Git").mkdir(parents=True)
    refused = stigmer("files", "get", conversation, "--to", tmp_path / "mine", "--force")
    assert (refused.code, "is a repository's own" in refused.err) == (4, True)
    assert not list((tmp_path / "mine" / ".Git").iterdir())
    assert stigmer("files", "get", conversation, "--to", tmp_path / "new").code == 0


def test_a_file_is_deleted_and_what_is_not_there_is_told(stigmer: Any, conversation: str, write: Write) -> None:
    stigmer("files", "put", conversation, f"{write('a.csv', 'x')}=in/a.csv")
    assert stigmer("files", "delete", conversation, "in", "-o", "name").out == "in/a.csv\n"
    gone = stigmer("files", "get", conversation, "in/a.csv")
    assert "there is no file 'in/a.csv'" in gone.err
    assert gone.code != 0
    assert "no files" in stigmer("files", "list", conversation).err
    assert stigmer("files", "list", conversation, "-o", "name").out == ""


def test_files_are_for_agents(stigmer: Any, write: Write) -> None:
    flow = write(
        "flow.yaml", "document: {dsl: 1.0.0, namespace: a, name: b, version: 1.0.0}\ndo: [{a: {set: {n: 1}}}]\n"
    )
    refused = stigmer("run", flow, "--file", write("a.csv", "x"))
    assert (refused.code, "--file is for agents" in refused.err) == (2, True)


def test_a_file_goes_along_with_what_is_said(stigmer: Any, conversation: str, write: Write) -> None:
    run = f"kind: AgentExecution\nmetadata: {{name: look}}\nspec: {{sessionId: {conversation}, message: go}}\n"
    made = stigmer("apply", "-f", write("run.yaml", run), "-o", "json")
    (resource,) = json.loads(made.out)["resources"]
    said = stigmer("send", resource["id"], "look at this", "--file", f"{write('a.csv', 'x')}=in/")
    assert said.code == 0, said.err
    assert stigmer("files", "list", conversation, "-o", "name").out == "in/a.csv\n"
    assert stigmer("files", "put", resource["id"], write("b.csv", "y")).code == 0
    assert sorted(stigmer("files", "list", conversation, "-o", "name").out.split()) == ["b.csv", "in/a.csv"]


def test_of_a_run_whose_files_are_refused_no_session_stays(stigmer: Any, conversation: str, write: Write) -> None:
    file = write("a.csv", "x")
    request = start.Request(
        input=NO_INPUT, message="go", environment={}, files=read_files([str(file), f"{file}=.stigmer/a.csv"])
    )

    async def run() -> None:
        async with connect(Environment.read()) as channel:
            resources = Resources(channel)
            agent = await start.find(resources, "agent/analyst", org="local")
            await start.create(resources, agent, request)

    with pytest.raises(InvalidArgumentError, match=r"\.stigmer"):
        asyncio.run(run())
    (kept,) = json.loads(stigmer("get", "sessions", "-o", "json").out)["items"]
    assert kept["metadata"]["id"] == conversation
