"""The storage driver of Temporal's SDK over a `BlobStore`: names by content, compresses, checks what comes back."""

import asyncio
import hashlib
import time
from collections.abc import Callable, Sequence

from loguru import logger
from temporalio.api.common.v1 import Payload
from temporalio.converter import (
    StorageDriver,
    StorageDriverClaim,
    StorageDriverRetrieveContext,
    StorageDriverSelectContext,
    StorageDriverStoreContext,
    StorageDriverWorkflowInfo,
)
from temporalio.exceptions import ApplicationError

from stigmer_runner.claims.port import BlobMissingError, BlobStore, Owner

MISSING = "ValueMissing"
TOO_LARGE = "ValueTooLarge"
"""Types of the errors that Temporal keeps."""
_COMPRESSED = ".zst"
_LEVEL = 3

OnMissing = Callable[[Owner, str], None]
"""Is told of a run that needs a blob which is gone, with what is to be said of it."""


class ClaimDriver(StorageDriver):
    """Keeps payloads in a store. Its name, and what claims hold, stand in histories and never change."""

    def __init__(
        self,
        store: BlobStore,
        *,
        most_bytes: int,
        compress: bool = True,
        on_missing: OnMissing | None = None,
        patience: float = 20.0,
    ) -> None:
        """Keep payloads of up to `most_bytes` in `store`, compressed where that makes them smaller.

        `on_missing` is told when a blob is still not there after `patience` seconds: network file systems may show
        a file late, and another runner may have it.
        """
        self._store = store
        self._patience = patience
        self._missed: dict[tuple[Owner, str], float] = {}
        self._most = most_bytes
        self._compress = compress
        self._on_missing = on_missing

    def name(self) -> str:
        """See `StorageDriver`."""
        return self._store.name

    def type(self) -> str:
        """See `StorageDriver`."""
        return self._store.name

    async def store(self, context: StorageDriverStoreContext, payloads: Sequence[Payload]) -> list[StorageDriverClaim]:
        """Keep payloads for the run that they go to."""
        owner = owner_of(context)
        if owner is None:
            raise ApplicationError("a payload without a workflow cannot be kept outside of the history")
        return [await asyncio.to_thread(self._put, owner, payload) for payload in payloads]

    async def retrieve(
        self,
        context: StorageDriverRetrieveContext,
        claims: Sequence[StorageDriverClaim],
    ) -> list[Payload]:
        """Return the payloads of claims.

        Raises:
            ApplicationError: A blob is gone, or is not what was put; the message names it.
            BlobStoreError: The store cannot be read now.
        """
        del context
        return [await asyncio.to_thread(self._get, claim) for claim in claims]

    def _put(self, owner: Owner, payload: Payload) -> StorageDriverClaim:
        content = payload.SerializeToString()
        if len(content) > self._most:
            detail = f"a value takes {len(content)} bytes, more than the {self._most} that may be kept"
            raise ApplicationError(detail, type=TOO_LARGE, non_retryable=True)
        key = hashlib.sha256(content).hexdigest()
        data = _compressed(content) if self._compress else content
        if len(data) < len(content):
            key += _COMPRESSED
        else:
            data = content
        self._store.put(owner, key, data)
        return StorageDriverClaim(
            claim_data={
                "key": key,
                "size": str(len(content)),
                "namespace": owner.namespace,
                "workflow_id": owner.workflow_id,
                "run_id": owner.run_id,
            }
        )

    def _get(self, claim: StorageDriverClaim) -> Payload:
        of = claim.claim_data
        key, size = of["key"], int(of["size"])
        owner = Owner(namespace=of["namespace"], workflow_id=of["workflow_id"], run_id=of["run_id"])
        try:
            data = self._store.get(owner, key)
        except BlobMissingError as error:
            raise self._missing(owner, key, f"a value of {size} bytes is gone: {error} ({self._store.name})") from None
        try:
            content = _expanded(data, size) if key.endswith(_COMPRESSED) else data
        except ValueError as error:
            raise self._missing(owner, key, f"the value {key} in {self._store.place} is damaged: {error}") from None
        if hashlib.sha256(content).hexdigest() != key.removesuffix(_COMPRESSED):
            detail = f"the value {key} in {self._store.place} is damaged: it has another content"
            raise self._missing(owner, key, detail)
        return Payload.FromString(content)

    def _missing(self, owner: Owner, key: str, detail: str) -> ApplicationError:
        logger.error("{} cannot go on: {}", owner.workflow_id, detail)
        now = time.monotonic()
        if now - self._missed.setdefault((owner, key), now) >= self._patience and self._on_missing is not None:
            del self._missed[owner, key]
            self._on_missing(owner, detail)
        return ApplicationError(detail, type=MISSING, non_retryable=True)


def owner_of(context: StorageDriverStoreContext | StorageDriverSelectContext) -> Owner | None:
    """Return the run that a payload is for; None for one whose run is not known, which nobody could collect."""
    target = context.target
    if not isinstance(target, StorageDriverWorkflowInfo) or not target.id:
        return None
    return Owner(namespace=target.namespace, workflow_id=target.id, run_id=target.run_id or "")


def _compressed(content: bytes) -> bytes:
    import zstandard  # not before it is needed: most processes never meet a large value

    return zstandard.ZstdCompressor(level=_LEVEL).compress(content)


def _expanded(data: bytes, size: int) -> bytes:
    import zstandard

    try:
        # By a stream, so that a forged frame cannot make it larger than was said.
        with zstandard.ZstdDecompressor().stream_reader(data) as reader:
            content = reader.read(size + 1)
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from None
    if len(content) != size:
        raise ValueError("it has another size")
    return content
