"""`stigmer skill`: pushing folders as skills, and getting them back."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from stigmer_cli import console
from stigmer_cli.completion import complete_skill
from stigmer_cli.console import OutputFormat
from stigmer_cli.errors import InvalidInputError
from stigmer_cli.options import Debug, Org, Output, Server, session

if TYPE_CHECKING:
    from stigmer_cli.options import Session
    from stigmer_cli.resources import Message
    from stigmer_cli.skills.folder import Contents
    from stigmer_cli.skills.transfer import Upload

app = typer.Typer(no_args_is_help=True, help="Push folders as skills, and get them back.")


@app.command()
def push(
    context: typer.Context,
    place: Annotated[
        Path, typer.Argument(metavar="DIR|ZIP", help="A folder with a SKILL.md, or an archive of one.")
    ] = Path(),
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="Its name [default: the folder's].")] = "",
    tag: Annotated[
        str, typer.Option("--tag", metavar="TAG", help="Names this version; it moves with a later push.")
    ] = "",
    exclude: Annotated[
        list[str] | None,
        typer.Option("--exclude", metavar="PATTERN", help="Leave out what has this whole name or path, such as *.log."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be pushed, without a server.")] = False,
    org: Org = "",
    output: Output = None,
    debug: Debug = False,
    server: Server = "",
) -> None:
    """Push a folder as the newest version of a skill.

    The same files make the same version, whose id is the hash of its archive. What is never part of a skill, such as
    .git, .env and node_modules, is left out, and that is told.
    """
    made = session(context, output=output, debug=debug, server=server)
    from stigmer_cli import runtime
    from stigmer_cli.changes import change_of

    with TemporaryFile() as file:
        contents = _pack(place, exclude or [], file)
        upload = _upload(place, name, tag, org, file)
        if dry_run:
            _tell_dry(made.output, upload, contents)
            return
        skill = runtime.run(_push(made, upload))
    _tell_left_out(contents)
    change = change_of(skill).value
    if made.output.is_structured:
        value = {**_plain(skill), "size": upload.size, "status": change}
        console.result(console.structured(value, made.output))
    elif made.output is OutputFormat.NAME:
        console.result(f"skill/{skill.metadata.slug}")
    else:
        row = (
            skill.metadata.name,
            skill.status.version_hash[:12],
            skill.spec.tag or "-",
            console.size(upload.size),
            change,
        )
        console.result(console.table(("SKILL", "VERSION", "TAG", "SIZE", "STATUS"), [row]))


@app.command()
def pull(
    context: typer.Context,
    reference: Annotated[
        str, typer.Argument(metavar="SKILL", help="A name, org/name or id.", autocompletion=complete_skill)
    ],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where to write it; made when it is not there.")],
    version: Annotated[
        str, typer.Option("--version", metavar="VERSION", help="A tag or hash [default: the newest].")
    ] = "",
    force: Annotated[bool, typer.Option("--force", help="Write over files that are there.")] = False,
    org: Org = "",
    output: Output = None,
    debug: Debug = False,
    server: Server = "",
) -> None:
    """Write a skill's files into a folder, after comparing the archive with its hash."""
    made = session(context, output=output, debug=debug, server=server)
    from stigmer_cli import runtime
    from stigmer_cli.skills.archive import unpack

    with TemporaryFile() as file:
        skill = runtime.run(_pull(made, reference, version, org, file))
        count = unpack(file, folder, overwrite=force)
    if made.output.is_structured:
        console.result(console.structured({**_plain(skill), "folder": str(folder), "files": count}, made.output))
    elif made.output is OutputFormat.NAME:
        console.result(f"skill/{skill.metadata.slug}")
    else:
        console.result(f"{skill.metadata.name} {skill.status.version_hash[:12]}: {count} files in {folder}")


def _pack(place: Path, exclude: list[str], file: IO[bytes]) -> Contents | None:
    """Write the archive of a folder, or copy one that is an archive already; it is then at its beginning."""
    import shutil

    from stigmer_cli.skills.archive import pack
    from stigmer_cli.skills.folder import read_folder

    if place.is_dir():
        contents = read_folder(place, exclude=exclude)
        pack(contents, file)
        return contents
    if exclude:
        msg = f"--exclude does not go with {place}, which is packed already"
        raise InvalidInputError(msg, hint="push the folder")
    try:
        with place.open("rb") as source:
            shutil.copyfileobj(source, file)
    except OSError as error:
        msg = f"{place}: {error.strerror}"
        raise InvalidInputError(msg, hint="give a folder with a SKILL.md in it, or a zip file of one") from None
    file.seek(0)
    return None


def _upload(place: Path, name: str, tag: str, org: str, file: IO[bytes]) -> Upload:
    from stigmer_cli.references import DEFAULT_ORG
    from stigmer_cli.skills.archive import digest
    from stigmer_cli.skills.transfer import Upload

    size = file.seek(0, 2)
    resolved = place.resolve()
    called = name or (resolved.name if place.is_dir() else resolved.stem)
    return Upload(name=called, org=org or DEFAULT_ORG, tag=tag, file=file, size=size, sha256=digest(file))


async def _push(made: Session, upload: Upload) -> Message:
    from stigmer_cli.connection import connect
    from stigmer_cli.skills import transfer

    async with connect(made.environment, server=made.server, command="stigmer skill") as channel:
        with transfer.progress(f"pushing {upload.name}", upload.size) as moved:
            return await transfer.push(channel, upload, moved)


async def _pull(made: Session, reference: str, version: str, org: str, file: IO[bytes]) -> Message:
    from stigmer_cli import kinds, references
    from stigmer_cli.connection import connect
    from stigmer_cli.resources import Resources
    from stigmer_cli.revisions import Revisions
    from stigmer_cli.skills import transfer

    named = references.parse(reference, kind=kinds.require("skill"), org=org)
    async with connect(made.environment, server=made.server, command="stigmer skill") as channel:
        skill = await Resources(channel).get(named)
        if version:
            skill = await Revisions(channel).get(named.kind, skill.metadata.id, version)
        await transfer.pull(channel, skill, file, lambda _: None)
        return skill


def _tell_dry(output: OutputFormat, upload: Upload, contents: Contents | None) -> None:
    members = contents.members if contents else ()
    if output.is_structured:
        value: dict[str, Any] = {
            "name": upload.name,
            "org": upload.org,
            "tag": upload.tag or None,
            "version_hash": upload.sha256,
            "size": upload.size,
            "files": [
                {"name": member.name, "size": member.size, "executable": member.is_executable} for member in members
            ],
            "left_out": list(contents.left_out) if contents else [],
            "dry_run": True,
        }
        console.result(console.structured(value, output))
    elif output is OutputFormat.NAME:
        console.result("\n".join(member.name for member in members))
    else:
        rows = [
            (member.name, console.size(member.size), "executable" if member.is_executable else "") for member in members
        ]
        if rows:
            console.result(console.table(("FILE", "SIZE", ""), rows))
        console.note(f"{upload.name} {upload.sha256[:12]}, {console.size(upload.size)}")
        _tell_left_out(contents)
    console.note("dry run: nothing was pushed")


def _tell_left_out(contents: Contents | None) -> None:
    if contents and contents.left_out:
        console.note(f"left out: {', '.join(contents.left_out)}")


def _plain(skill: Message) -> dict[str, Any]:
    return {
        "name": skill.metadata.name,
        "org": skill.metadata.org,
        "id": skill.metadata.id,
        "version": skill.metadata.version.id,
        "version_hash": skill.status.version_hash,
        "tag": skill.spec.tag or None,
    }
