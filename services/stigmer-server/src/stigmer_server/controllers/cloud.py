"""The services of kinds that only the cloud has: each call is answered, with the reason why it cannot be."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from stigmer_grpc import Service, bind
from stigmer_protos import descriptors

_INSTEAD = {
    "iam_policy": "; here the role of an API key says what it may do (spec.role of ApiKey)",
    "identity_account": "; here callers sign in with API keys, and whoAmI tells who a caller is",
}


def cloud_services(served: Collection[str]) -> Iterator[Service]:
    """Yield the services of every kind of the cloud, except for those that are served, by full name."""
    for kind in descriptors.KINDS:
        if kind.tier == "cloud":
            for name in kind.services:
                if name not in served:
                    why = f"only Stigmer Cloud has resources of kind {kind.name}{_INSTEAD.get(kind.enum_name, '')}"
                    yield bind(descriptors.pool(), name, {}, unimplemented=why)
