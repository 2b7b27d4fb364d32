"""Instances: a workflow or an agent with the environments that it runs with."""

from __future__ import annotations

from collections.abc import Sequence

from stigmer_protos import descriptors

from stigmer_cli import references
from stigmer_cli.resources import Message, Resources

_ENVIRONMENT = 53
"""ApiResourceKind.environment."""
_ORGANIZATION_SCOPE = 2


async def instance_of(resources: Resources, runnable: Message, environments: Sequence[str]) -> str:
    """Return the id of the instance that runs with these environments, the later before the earlier.

    It is named after them, and made where there is none.

    Raises:
        NotFoundError: There is no such environment.
    """
    kind = descriptors.kind_by_name(f"{runnable.kind}Instance")
    message: Message = descriptors.message_type(kind.message)()
    message.api_version, message.kind = kind.api_version, kind.name
    is_agent = runnable.kind == "Agent"
    owner, listed = ("agent_id", "environment_refs") if is_agent else ("workflow_id", "env_refs")
    setattr(message.spec, owner, runnable.metadata.id)
    slugs: list[str] = []
    for text in environments:
        wanted = references.parse(text, kind=descriptors.kind_by_name("Environment"), org=runnable.metadata.org)
        found = await resources.get(wanted)
        slugs.append(found.metadata.slug)
        getattr(message.spec, listed).add(kind=_ENVIRONMENT, org=found.metadata.org, slug=found.metadata.slug)
    message.metadata.name = f"{runnable.metadata.slug}-with-{'-'.join(slugs)}"
    message.metadata.org = runnable.metadata.org or references.DEFAULT_ORG
    message.metadata.owner_scope = _ORGANIZATION_SCOPE
    return (await resources.apply(kind, message)).metadata.id
