"""`stigmer logs`."""

from __future__ import annotations

import re
import sys
from collections import deque
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from stigmer_cli import console
from stigmer_cli.console import Style
from stigmer_cli.errors import InvalidInputError, NotFoundError
from stigmer_cli.options import Debug, session

if TYPE_CHECKING:
    from pathlib import Path

    from stigmer_cli.stack.logs import Follower

_SPAN = re.compile(r"(\d+)(s|m|h|d)")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_POLL_SECONDS = 0.2


def logs(
    context: typer.Context,
    component: Annotated[
        str, typer.Argument(metavar="[COMPONENT]", help="As `stigmer status` names it [default: all].")
    ] = "",
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on with what is written from now on.")] = False,
    since: Annotated[str, typer.Option("--since", metavar="TIME", help="10m, 2h, 1d or 2026-01-31T12:00:00Z.")] = "",
    lines: Annotated[int, typer.Option("-n", "--lines", min=0, help="The last so many lines; 0: all.")] = 50,
    debug: Debug = False,
) -> None:
    """Show what the components have logged, in order of time."""
    made = session(context, output=None, debug=debug)
    from stigmer_cli.stack.logs import Follower, components, merge

    folder = made.environment.home.logs
    known = components(folder)
    if component and component not in known:
        msg = f"there is no log of {component!r}"
        raise NotFoundError(msg, hint=f"logs: {', '.join(known)}" if known else "nothing has been started here yet")
    names = [component] if component else known
    followers = {name: Follower(folder / f"{name}.log") for name in names} if follow else {}
    wanted = merge(folder, names, since=_moment(since) if since else "")
    for name, line in deque(wanted, maxlen=lines or None):
        _show(name, line, labelled=not component)
    if follow:
        from stigmer_cli import runtime

        runtime.run(_follow(followers, folder, labelled=not component))


async def _follow(followed: dict[str, Follower], folder: Path, *, labelled: bool) -> None:
    import asyncio

    from stigmer_cli.stack.logs import Follower, components

    while True:
        for name in components(folder) if labelled else []:
            followed.setdefault(name, Follower(folder / f"{name}.log"))
        for name, follower in followed.items():
            for line in follower.read():
                _show(name, line, labelled=labelled)
        await asyncio.sleep(_POLL_SECONDS)


def _show(name: str, line: str, *, labelled: bool) -> None:
    label = console.styled(f"{name:<16}", Style.CYAN, sys.stdout) if labelled else ""
    console.result(f"{label}{line}")


def _moment(text: str) -> str:
    """Return a span before now, or a time, as log lines carry it."""
    if match := _SPAN.fullmatch(text):
        moment = datetime.now(UTC) - timedelta(**{_UNITS[match.group(2)]: int(match.group(1))})
    else:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            msg = f"--since {text}: that is no time"
            raise InvalidInputError(msg, hint="write 10m, 2h, 1d or 2026-01-31T12:00:00Z") from None
        moment = moment.astimezone(UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
