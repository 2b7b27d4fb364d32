"""`stigmer files`: what goes into agents' workspaces, and what comes out of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stigmer_cli import console
from stigmer_cli.completion import complete_execution
from stigmer_cli.options import Debug, Output, Server, session

if TYPE_CHECKING:
    from stigmer_cli.options import Session
    from stigmer_cli.resources import Message

app = typer.Typer(no_args_is_help=True, help="Put files into agents' workspaces, and get them out.")

_COMMAND = "stigmer files"
_STDOUT = "-"
Owner = Annotated[
    str,
    typer.Argument(
        metavar="SESSION|RUN",
        help="A session, ses-…, for what is there; or a run, aex-…, for what it made.",
        autocompletion=complete_execution,
    ),
]
Conversation = Annotated[
    str,
    typer.Argument(
        metavar="SESSION|RUN",
        help="A session, ses-…, or a run of it, aex-….",
        autocompletion=complete_execution,
    ),
]


@app.command(name="list")
def list_(
    context: typer.Context, owner: Owner, output: Output = None, debug: Debug = False, server: Server = ""
) -> None:
    """List the files of a session, or those that a run has made or changed."""
    made = session(context, output=output, debug=debug, server=server)
    from stigmer_cli import runtime

    found = runtime.run(_list(made, owner))
    console.entries(
        made.output,
        items=map(_plain, found),
        names=(file.path for file in found),
        headings=("PATH", "SIZE", "SHA256", "BY"),
        rows=(
            (
                console.printable(file.path),
                console.size(file.bytes),
                file.sha256[:12],
                file.execution_id or "a person",
            )
            for file in found
        ),
    )
    if not found:
        console.note("no files; put some there with `stigmer files put SES FILE` or `stigmer run … --file FILE`")


@app.command()
def get(
    context: typer.Context,
    owner: Owner,
    paths: Annotated[
        list[str] | None, typer.Argument(metavar="[PATH...]", help="Files or folders of it [default: all].")
    ] = None,
    to: Annotated[
        str, typer.Option("--to", metavar="DIR|-", help="Where to write them; - writes one to standard output.")
    ] = ".",
    force: Annotated[bool, typer.Option("--force", help="Write over files that are there.")] = False,
    output: Output = None,
    debug: Debug = False,
    server: Server = "",
) -> None:
    """Get files of a session or a run, after comparing each with its hash."""
    made = session(context, output=output, debug=debug, server=server)
    from stigmer_cli import runtime

    folder = None if to == _STDOUT else Path(to).expanduser()
    found, places = runtime.run(_get(made, owner, paths or [], folder, force=force))
    if folder is not None:
        console.entries(
            made.output,
            items=({**_plain(file), "file": str(place)} for file, place in zip(found, places, strict=True)),
            names=map(str, places),
            headings=("FILE", "SIZE"),
            rows=((str(place), console.size(file.bytes)) for file, place in zip(found, places, strict=True)),
        )


@app.command()
def put(
    context: typer.Context,
    owner: Conversation,
    files: Annotated[
        list[str], typer.Argument(metavar="FILE[=AS]...", help="Files or folders, and where they go in the workspace.")
    ],
    output: Output = None,
    debug: Debug = False,
    server: Server = "",
) -> None:
    """Put files into a session; its agent finds them when it is told something next."""
    made = session(context, output=output, debug=debug, server=server)
    from stigmer_cli import runtime
    from stigmer_cli.files.given import read_files

    stored = runtime.run(_put(made, owner, files=read_files(files)))
    console.entries(
        made.output,
        items=map(_plain, stored),
        names=(file.path for file in stored),
        headings=("PATH", "SIZE", "SHA256"),
        rows=((console.printable(file.path), console.size(file.bytes), file.sha256[:12]) for file in stored),
    )


@app.command()
def delete(
    context: typer.Context,
    owner: Conversation,
    paths: Annotated[list[str], typer.Argument(metavar="PATH...", help="Files or folders of it.")],
    output: Output = None,
    debug: Debug = False,
    server: Server = "",
) -> None:
    """Take files out of a session, and so out of its workspace; runs keep what they made."""
    made = session(context, output=output, debug=debug, server=server)
    from stigmer_cli import runtime

    gone = runtime.run(_delete(made, owner, paths))
    console.entries(
        made.output,
        items=map(_plain, gone),
        names=(file.path for file in gone),
        headings=("DELETED",),
        rows=((console.printable(file.path),) for file in gone),
    )


async def _list(made: Session, owner: str) -> list[Message]:
    from stigmer_cli.connection import connect
    from stigmer_cli.files import transfer

    async with connect(made.environment, server=made.server, command=_COMMAND) as channel:
        return await transfer.listed(channel, owner)


async def _get(
    made: Session, owner: str, paths: list[str], folder: Path | None, *, force: bool
) -> tuple[list[Message], list[Path]]:
    import sys

    from stigmer_cli.connection import connect
    from stigmer_cli.errors import InvalidInputError
    from stigmer_cli.files import transfer

    async with connect(made.environment, server=made.server, command=_COMMAND) as channel:
        found = transfer.chosen(await transfer.listed(channel, owner), paths, owner)
        if folder is not None:
            return found, await transfer.save(channel, owner, found, folder, overwrite=force)
        if len(found) != 1:
            msg = f"{len(found)} files are meant, and standard output takes one"
            raise InvalidInputError(msg, hint="name the file, or a folder with --to DIR")
        await transfer.copy(channel, owner, found[0], sys.stdout.buffer.write)
        return found, []


async def _put(made: Session, owner: str, *, files: Any) -> list[Message]:
    from stigmer_cli.connection import connect
    from stigmer_cli.files import transfer

    async with connect(made.environment, server=made.server, command=_COMMAND) as channel:
        return await transfer.put(channel, await _session_of(channel, owner), files)


async def _delete(made: Session, owner: str, paths: list[str]) -> list[Message]:
    from stigmer_cli.connection import connect
    from stigmer_cli.files import transfer

    async with connect(made.environment, server=made.server, command=_COMMAND) as channel:
        conversation = await _session_of(channel, owner)
        gone = transfer.chosen(await transfer.listed(channel, conversation), paths, conversation)
        await transfer.delete(channel, conversation, [file.path for file in gone])
        return gone


async def _session_of(channel: Any, owner: str) -> str:
    """Return the id of the session that is meant by its own id or by that of one of its runs."""
    from stigmer_cli import references
    from stigmer_cli.resources import Resources

    kind = references.kind_of_id(owner)
    if kind is None or kind.enum_name != "agent_execution":
        return owner
    return (await Resources(channel).get(references.parse(owner, kind=kind))).spec.session_id


def _plain(file: Message) -> dict[str, Any]:
    return {
        "path": file.path,
        "bytes": file.bytes,
        "sha256": file.sha256,
        "executable": file.executable,
        "execution_id": file.execution_id or None,
        "put_at": file.put_at.ToJsonString(),
    }
