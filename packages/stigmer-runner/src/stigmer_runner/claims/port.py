"""What keeps large values: below it a folder or a bucket, above it Temporal's payloads and the collection.

A blob belongs to the run in whose history the reference to it stands, and is kept for as long as that run's history
may be read. Blobs are bytes under a name made from their content; a name never stands for other bytes.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Protocol


class BlobStoreError(Exception):
    """A store cannot be used now; the same may work later."""


class BlobMissingError(BlobStoreError):
    """A store can be read, and does not have the blob: it was removed, or never was there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """A run of a Temporal workflow, by all that names it."""

    namespace: str
    workflow_id: str
    run_id: str = ""
    """Empty for a workflow that was not started yet when its first payload was stored."""

    @property
    def name(self) -> str:
        """A short name of letters and digits, the same for the same run everywhere."""
        return hashlib.sha256("\n".join((self.namespace, self.workflow_id, self.run_id)).encode()).hexdigest()[:40]

    def encoded(self) -> bytes:
        """Return it as it is kept beside its blobs."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def decoded(cls, kept: bytes) -> "Owner":
        """Return what `encoded` gave."""
        return cls(**json.loads(kept))


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A run that has blobs."""

    owner: Owner
    began: float
    """When its first blob came, in seconds since the epoch."""
    touched: float
    """When a blob was last put."""


class BlobStore(Protocol):
    """Keeps blobs of runs. Its methods block; they may be called from several threads and processes at once."""

    @property
    def name(self) -> str:
        """The driver's name, which stands in histories and never changes."""
        ...

    @property
    def place(self) -> str:
        """Where the blobs are, for people."""
        ...

    def put(self, owner: Owner, key: str, data: bytes) -> None:
        """Keep `data` under `key` for `owner`. When it returns, no crash of this machine loses it.

        Repeating it changes nothing but the time of the last touch.

        Raises:
            BlobStoreError: It cannot be kept.
        """
        ...

    def get(self, owner: Owner, key: str) -> bytes:
        """Return what was put.

        Raises:
            BlobMissingError: It is not there.
            BlobStoreError: It cannot be read now.
        """
        ...

    def stored(self) -> Iterator[Stored]:
        """Yield every run that has blobs, in any order.

        Raises:
            BlobStoreError: They cannot be listed.
        """
        ...

    def drop(self, owner: Owner, *, before: float) -> bool:
        """Let go what `owner` has, unless it was touched at `before` or later; tell whether it was.

        A kill in the middle leaves blobs that nobody refers to, which a later call removes, and never takes a blob
        of another run.
        """
        ...

    def sweep(self, *, before: float) -> None:
        """Remove what is older and belongs to no run: what interrupted calls left."""
        ...
