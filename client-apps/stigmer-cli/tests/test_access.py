"""Organizations and keys: the command itself, and a server that tells callers apart."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import select
import sys
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from stigmer_cli.environment import Home
from stigmer_cli.testing import PATIENCE, Cli
from stigmer_server.app import App
from stigmer_server.settings import Settings

Command = Callable[..., Coroutine[Any, Any, Any]]


@pytest.fixture
async def command(home: Home, tmp_path: Path) -> AsyncGenerator[Command]:
    """The command as the operator of a server, or as whoever has the token that is given."""
    folder = tmp_path / "server"
    settings = {"db_path": folder / "stigmer.db", "storage_path": folder / "storage", "auth": "token"}
    async with App(Settings.model_validate(settings), engine=False) as app:
        address = (await app.serve("localhost:0"))[0]

        async def run(*arguments: str, token: str = "", stdin: str | None = None) -> Any:
            entry = ("--token", token) if token else ("--token-file", str(folder / "token"))
            everything = ("--server", address, *entry, *arguments)
            return await asyncio.to_thread(Cli(home=home.root).run, *everything, stdin=stdin)

        yield run


def agent(name: str) -> str:
    return f"kind: Agent\nmetadata: {{name: {name}, org: acme}}\nspec: {{instructions: Answer in one sentence.}}\n"


async def test_a_key_lets_in_until_it_is_revoked(command: Command) -> None:
    assert (await command("org", "create", "acme")).code == 0
    made = await command("key", "create", "ci", "--org", "acme")
    assert made.code == 0, made.err
    key = made.out.strip()
    assert made.out == f"{key}\n"
    assert key not in made.err
    assert "it is not shown again" in made.err
    applied = await command("apply", "-f", "-", token=key, stdin=agent("mine"))
    assert applied.code == 0, applied.err
    listed = await command("key", "list", "-o", "json")
    assert key not in listed.out
    (item,) = listed.json["items"]
    assert (item["name"], item["org"], item["role"]) == ("ci", "acme", "editor")
    assert key.endswith(item["fingerprint"])
    table = (await command("key", "list")).out
    assert table.split("\n")[0].split() == ["NAME", "ID", "ORG", "ROLE", "FINGERPRINT", "LAST", "USED", "EXPIRES"]
    revoked = await command("key", "revoke", "ci")
    assert (revoked.code, revoked.out) == (0, f"{item['id']} (ci) revoked\n")
    denied = await command("get", "agents", token=key)
    assert (denied.code, denied.out) == (5, "")
    assert "--token-file" in denied.err
    assert (await command("get", "agents", token=f"{key}x")).code == denied.code
    assert (await command("key", "list", "-o", "json")).json == {"items": []}


async def test_a_key_may_what_its_role_says(command: Command) -> None:
    await command("org", "create", "acme")
    keys: dict[str, str] = {}
    for role in ("viewer", "owner"):
        made = await command("key", "create", role, "--org", "acme", "--role", role, "-o", "json")
        assert made.code == 0, made.err
        keys[role] = made.json["key"]
    refused = await command("apply", "-f", "-", token=keys["viewer"], stdin=agent("mine"))
    assert (refused.code, "is a viewer" in refused.err) == (4, True)
    assert (await command("key", "create", "x", token=keys["viewer"])).code == 4
    # An owner's organization is what a key is for when none is named, and the only one.
    assert (await command("key", "create", "mine", "-o", "name", token=keys["owner"])).code == 0
    assert (await command("key", "create", "mine", "--org", "local", token=keys["owner"])).code in (3, 4)
    assert (await command("org", "create", "another", token=keys["owner"])).code == 4
    seen = (await command("key", "list", "-o", "json", token=keys["viewer"])).json["items"]
    assert [item["name"] for item in seen] == ["viewer"]
    assert [
        item["org"] for item in (await command("org", "list", "-o", "json", token=keys["viewer"])).json["items"]
    ] == ["acme"]
    assert (await command("org", "delete", "acme", token=keys["viewer"])).code == 4
    assert (await command("org", "delete", "acme", token=keys["owner"])).code == 0
    assert (await command("org", "list", token=keys["owner"])).code == 5


async def test_a_runners_key_is_for_no_organization(command: Command) -> None:
    made = await command("key", "create", "machine", "--role", "runner", "-o", "json")
    assert (made.code, sorted(made.json)) == (0, ["expires_at", "id", "key", "name"])
    assert (await command("get", "agents", token=made.json["key"])).code == 0
    refused = await command("key", "create", "other", "--role", "runner", "--org", "local")
    assert (refused.code, "metadata.org" in refused.err) == (2, True)
    missing = await command("key", "create", "other")
    assert (missing.code, missing.out, "metadata.org" in missing.err) == (2, "", True)


async def test_keys_of_one_name_are_told_apart(command: Command) -> None:
    await command("org", "create", "acme")
    ids = [(await command("key", "create", "ci", "--org", org, "-o", "json")).json["id"] for org in ("acme", "local")]
    assert (await command("key", "create", "ci", "--org", "acme")).code == 4
    both = await command("key", "revoke", "ci")
    assert (both.code, both.out) == (4, "")
    assert all(identifier in both.err for identifier in ids)
    assert (await command("key", "revoke", "ci", "--org", "acme", "-o", "name")).out == f"{ids[0]}\n"
    assert (await command("key", "revoke", ids[1], "-o", "json")).json["revoked"]["id"] == ids[1]
    absent = await command("key", "revoke", "ci")
    assert (absent.code, "stigmer key list" in absent.err) == (3, True)


@pytest.mark.parametrize(
    ("options", "life"),
    [((), timedelta(days=90)), (("--expires", "12h"), timedelta(hours=12)), (("--expires", "2w"), timedelta(weeks=2))],
)
def test_a_key_ends_when_it_is_told_to(stigmer: Any, options: tuple[str, ...], life: timedelta) -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    assert stigmer("key", "create", "ci", "--org", "local", *options).code == 0
    after = datetime.now(UTC)
    (item,) = json.loads(stigmer("key", "list", "-o", "json").out)["items"]
    assert before + life <= datetime.fromisoformat(item["expires_at"]) <= after + life
    assert item["last_used_at"] is None


@pytest.mark.parametrize("given", ["soon", "99999999w", "-1d", "2020-01-01T00:00:00Z"])
def test_an_end_that_cannot_be_is_refused(stigmer: Any, given: str) -> None:
    refused = stigmer("key", "create", "ci", "--org", "local", f"--expires={given}")
    assert (refused.code, refused.out) == (2, "")
    assert "expires" in refused.err
    assert stigmer("key", "create", "ci", "--org", "local", "--expires", "1d", "--never-expires").code == 2
    assert stigmer("key", "list", "-o", "name").out.strip() == ""
    never = stigmer("key", "create", "ci", "--org", "local", "--never-expires", "-o", "json")
    assert '"expires_at": null' in never.out


def test_organizations_come_and_go(stigmer: Any, write: Callable[[str, str], Path]) -> None:
    made = stigmer("org", "create", "Acme", "--description", "Anvils")
    assert (made.code, made.out) == (0, "organization/acme created\n")
    assert stigmer("org", "create", "acme").code == 4
    assert stigmer("org", "create", "!!!").code == 2
    assert stigmer("org", "list", "-o", "name").out == "organization/acme\norganization/local\n"
    assert "Anvils" in stigmer("org", "list").out
    stigmer("key", "create", "ci", "--org", "acme")
    stigmer("apply", "-f", write("agent.yaml", agent("mine")))
    kept = stigmer("org", "delete", "acme")
    assert (kept.code, kept.out) == (4, "")
    gone = stigmer("org", "delete", "acme", "--force", "-o", "name")
    assert gone.code == 0, gone.err
    assert gone.out.split("\n")[-2] == "organization/acme"
    assert {"agent/mine", "api_key/ci"} <= set(gone.out.split("\n"))
    absent = stigmer("org", "delete", "acme")
    assert (absent.code, "stigmer org list" in absent.err) == (3, True)


@pytest.mark.parametrize(("answer", "code", "left"), [(b"n\n", 1, ["acme", "local"]), (b"y\n", 0, ["local"])])
def test_a_person_is_asked_before_an_organization_goes(
    tmp_path: Path, answer: bytes, code: int, left: list[str]
) -> None:
    cli = Cli(home=tmp_path / "home")
    assert cli.run("org", "create", "acme").code == 0
    assert cli.run("key", "create", "ci", "--org", "acme").code == 0
    child, terminal = pty.fork()
    if child == 0:
        arguments = [sys.executable, "-m", "stigmer_cli", "org", "delete", "acme"]
        os.execve(sys.executable, arguments, cli.environment)  # noqa: S606
    # What is typed ahead waits in the terminal until it is asked for.
    os.write(terminal, answer)
    said = b""
    # The error is how Linux says that nothing has the other end of the terminal open any more.
    with suppress(OSError):
        while select.select([terminal], [], [], PATIENCE)[0] and (shown := os.read(terminal, 1024)):
            said += shown
    os.close(terminal)
    _, status = os.waitpid(child, 0)
    assert (os.waitstatus_to_exitcode(status), b"api_key/ci" in said, b"[y/N]" in said) == (code, True, True)
    assert cli.run("org", "list", "-o", "name").out.split() == [f"organization/{org}" for org in left]
