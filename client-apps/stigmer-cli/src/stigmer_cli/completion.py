"""What the shell offers to complete: kinds, and the names and ids of what a server holds.

Light to import. A completion starts nothing, waits not long, and says nothing where there is nothing to say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from stigmer_protos.descriptors import Kind

    from stigmer_cli.environment import Environment

_PATIENCE_SECONDS = 2.0
_MOST = 200


def complete_kind(incomplete: str) -> list[str]:
    """Return the kinds that begin so, and `kind/` where one is complete already."""
    from stigmer_cli import kinds

    return [name for name in kinds.names() if name.startswith(incomplete)]


def complete_reference(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return names of the kind that was typed before; without one, kinds, and names after `kind/`."""
    from stigmer_cli import kinds

    before, slash, name = incomplete.rpartition("/")
    if slash:
        kind = kinds.find(before)
        return [f"{before}/{found}" for found in _names(ctx, kind, name)] if kind else []
    typed = _typed_kind(ctx)
    kind = kinds.find(typed) if typed else None
    return _names(ctx, kind, incomplete) if kind else complete_kind(incomplete)


def complete_phase(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the phases that resources of the kind typed before can be in."""
    from stigmer_cli import kinds
    from stigmer_cli.listing import phases

    typed = _typed_kind(ctx) or "run"
    known = kinds.several(typed) if kinds.find(typed) else ()
    names = dict.fromkeys(name for kind in known for name in phases(kind))
    return [name for name in names if name.startswith(incomplete)]


def complete_sort(incomplete: str) -> list[str]:
    """Return the orders of a list."""
    from stigmer_cli.listing import SORTS

    return [name for name in SORTS if name.startswith(incomplete)]


def complete_environment(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return names of environments."""
    from stigmer_cli import kinds

    return _names(ctx, kinds.find("environment"), incomplete)


def complete_skill(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return names of skills."""
    from stigmer_cli import kinds

    return _names(ctx, kinds.find("skill"), incomplete)


def complete_session(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return names of sessions."""
    from stigmer_cli import kinds

    return _names(ctx, kinds.find("session"), incomplete)


def complete_organization(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return names of organizations."""
    from stigmer_protos import descriptors

    return _names(ctx, descriptors.kind_by_enum_name("organization"), incomplete)


def complete_key(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return names of API keys."""
    from stigmer_protos import descriptors

    return _names(ctx, descriptors.kind_by_enum_name("api_key"), incomplete)


def complete_execution(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return ids of executions of workflows and agents."""
    from stigmer_protos import descriptors

    kinds = (descriptors.kind_by_enum_name(name) for name in ("workflow_execution", "agent_execution"))
    return [name for kind in kinds for name in _names(ctx, kind, incomplete)]


def _typed_kind(ctx: typer.Context) -> str:
    """Return the kind that stands before the word: an argument of its own, or the first word of several."""
    words: list[str] = list(ctx.params.get("words") or ())
    return str(ctx.params.get("kind") or next(iter(words), ""))


def _names(ctx: typer.Context, kind: Kind | None, incomplete: str) -> list[str]:
    """Return what a server that answers at once holds of the kind."""
    import asyncio

    from stigmer_grpc.errors import RpcError

    from stigmer_cli.connection import running_stack
    from stigmer_cli.environment import Environment
    from stigmer_cli.errors import CliError

    if kind is None:
        return []
    environment = Environment.read()
    given = ctx.params.get("server") or ctx.find_root().params.get("server") or environment.server_address
    stack = None if given else running_stack(environment)
    address = str(given or (stack.server if stack else ""))
    if not address:
        return []
    try:
        return asyncio.run(asyncio.wait_for(_list(environment, address, kind, incomplete), _PATIENCE_SECONDS))
    except (CliError, RpcError, TimeoutError):
        # Whoever presses the tab key wants words or nothing, and the command itself will tell what is wrong.
        return []


async def _list(environment: Environment, address: str, kind: Kind, incomplete: str) -> list[str]:
    from stigmer_cli.connection import dial
    from stigmer_cli.listing import name_of
    from stigmer_cli.resources import Listing, Resources

    found: list[str] = []
    async with dial(address, environment) as channel:
        async for entry in Resources(channel).list(Listing(kind=kind, text=incomplete)):
            name = name_of(entry, kind)
            if name.startswith(incomplete):
                found.append(name)
            if len(found) == _MOST:
                break
    return found
