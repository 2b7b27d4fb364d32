"""The labels under which the store finds a resource: its own, its tags, and the resources that it names.

Labels of the last two sorts begin with a prefix of ours. Everybody who names a resource is found by them when it is to
be deleted, however much is stored.
"""

from __future__ import annotations

from stigmer_server import messages, naming
from stigmer_server.kinds.port import Kind
from stigmer_server.messages import Message

TAG = "stigmer.tag/"
"""Prefix of the label that a tag is found by."""
NAMES = "stigmer.names/"
"""Prefix of the label that whoever names a resource is found by."""


def labels_of(kind: Kind, message: Message) -> dict[str, str]:
    """Return the labels that a resource is stored with."""
    labels = dict(message.metadata.labels)
    for tag in message.metadata.tags:
        labels[TAG + tag] = "1"
    for references in kind.references:
        for _, reference in messages.walk(message, references.path):
            # Nothing has a slug that is none.
            if naming.is_slug(reference.slug):
                labels[naming_label(references.kind, reference.slug)] = "1"
    return labels


def naming_label(kind: str, slug: str) -> str:
    """Return the label of those that name a resource of the kind with this slug, of whatever organization."""
    return f"{NAMES}{kind}/{slug}"


def without_names(labels: dict[str, str]) -> dict[str, str]:
    """Return the labels without those that tell what is named."""
    return {key: value for key, value in labels.items() if not key.startswith(NAMES)}
