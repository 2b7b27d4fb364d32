"""What callers are, and what that lets them do: the one table of permissions.

The contract's methods name permissions; this says which roles have them. A role has a permission within its own
organization only, the runner's and the operator's in every one.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum


class Role(Enum):
    """What a caller is."""

    VIEWER = "viewer"
    """Reads what belongs to its organization."""
    EDITOR = "editor"
    """Also writes and runs it."""
    OWNER = "owner"
    """Also manages the organization and its keys."""
    RUNNER = "runner"
    """Serves every organization: gets what an execution needs, and reports on it."""
    OPERATOR = "operator"
    """May do everything: whoever holds the server's own token, and the server itself."""


CAN_VIEW = "can_view"
ANY = "*"
"""In place of a kind: every kind that has no line of its own for the permission."""

_V, _E, _O, _R = Role.VIEWER, Role.EDITOR, Role.OWNER, Role.RUNNER
_READERS, _WRITERS, _OWNERS = {_V, _E, _O}, {_E, _O}, {_O}

PERMISSIONS: Mapping[tuple[str, str], frozenset[Role]] = {
    (permission, kind): frozenset({*roles, Role.OPERATOR})
    for permission, kind, roles in (
        # permission          on resources of          is for, beside the operator
        ("can_view", ANY, {*_READERS, _R}),
        ("can_view", "api_key", _OWNERS),
        ("can_view", "execution_context", set[Role]()),
        ("can_edit", ANY, _WRITERS),
        ("can_edit", "event", {*_WRITERS, _R}),
        ("can_edit", "api_key", _OWNERS),
        ("can_edit", "organization", _OWNERS),
        ("can_edit", "execution_context", set[Role]()),
        ("can_delete", ANY, _WRITERS),
        ("can_delete", "api_key", _OWNERS),
        ("can_delete", "organization", _OWNERS),
        ("can_delete", "execution_context", set[Role]()),
        ("can_create_agent", ANY, _WRITERS),
        ("can_create_workflow", ANY, _WRITERS),
        ("can_create_session", ANY, {*_WRITERS, _R}),
        ("can_create_skill", ANY, _WRITERS),
        ("can_create_instance", ANY, _WRITERS),
        ("can_create_execution_in", ANY, {*_WRITERS, _R}),
        ("can_execute", ANY, {*_WRITERS, _R}),
        ("can_report", ANY, {*_WRITERS, _R}),
        ("can_view_access", ANY, _OWNERS),
        ("can_grant_access", ANY, _OWNERS),
        ("member", ANY, {*_READERS, _R}),
        ("owner", ANY, _OWNERS),
        ("runner", ANY, {_R}),
        ("operator", ANY, set[Role]()),
    )
}
"""Who has a permission on resources of a kind. A permission that is not here is the operator's alone."""

_OPERATOR_ALONE = frozenset({Role.OPERATOR})


def holders(permission: str, kind: str) -> frozenset[Role]:
    """Return the roles that have the permission on resources of the kind."""
    found = PERMISSIONS.get((permission, kind))
    return PERMISSIONS.get((permission, ANY), _OPERATOR_ALONE) if found is None else found


def may(role: Role, permission: str, kind: str) -> bool:
    """Tell whether a role has the permission on resources of the kind."""
    return role in holders(permission, kind)
