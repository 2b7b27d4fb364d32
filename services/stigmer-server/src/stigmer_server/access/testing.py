"""For tests: a server that tells callers apart, and callers of every role."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from stigmer_server.testing import Api, serve

ACME, OTHER = "acme", "other"
ROLES = {
    "viewer": "API_KEY_ROLE_VIEWER",
    "editor": "API_KEY_ROLE_EDITOR",
    "owner": "API_KEY_ROLE_OWNER",
    "runner": "API_KEY_ROLE_RUNNER",
}


def key_manifest(name: str, role: str, org: str = ACME, **spec: Any) -> dict[str, Any]:
    """Return an API key as proto-JSON; it never expires unless it is told when."""
    return {
        "apiVersion": "iam.stigmer.ai/v1",
        "kind": "ApiKey",
        "metadata": {"name": name, "org": "" if role == "runner" else org},
        "spec": {"role": ROLES[role], **({"neverExpires": True} if "expiresAt" not in spec else {}), **spec},
    }


def org_manifest(slug: str, **metadata: Any) -> dict[str, Any]:
    """Return an organization as proto-JSON."""
    return {
        "apiVersion": "tenancy.stigmer.ai/v1",
        "kind": "Organization",
        "metadata": {"name": slug, "slug": slug, **metadata},
        "spec": {},
    }


class House:
    """A server with the organizations `acme` and `other`; `house.api` is the system, others come with tokens."""

    def __init__(self, api: Api, folder: Path) -> None:
        self.api = api
        self.folder = folder
        self._keys: dict[tuple[str, str], str] = {}

    def with_token(self, token: str) -> Api:
        """Return a client that signs in with a token."""
        channel = self.api.app.channel(trusted=False, metadata={"authorization": f"Bearer {token}"})
        return Api(channel, self.api.app)

    async def as_(self, role: str, org: str = ACME) -> Api:
        """Return a client with a key of the role; `operator` has the server's own token."""
        if role == "operator":
            return self.with_token((self.folder / "token").read_text().strip())
        if (role, org) not in self._keys:
            made = await self.api("api_key", "create", key_manifest(f"{role} of {org}", role, org))
            self._keys[role, org] = made.spec.key_hash
        return self.with_token(self._keys[role, org])


@asynccontextmanager
async def opened(folder: Path, **settings: Any) -> AsyncGenerator[House]:
    """Open a server on the files of a folder for the length of a block."""
    async with serve(folder, auth="token", **settings) as api:
        house = House(api, folder)
        for slug in (ACME, OTHER):
            await api("organization", "apply", org_manifest(slug))
        yield house
