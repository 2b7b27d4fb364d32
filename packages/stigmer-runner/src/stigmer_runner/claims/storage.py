"""Putting the claim check together from settings."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from loguru import logger
from stigmer_grpc.errors import RpcError
from temporalio.api.common.v1 import Payload
from temporalio.converter import DataConverter, ExternalStorage, StorageDriver, StorageDriverSelectContext
from temporalio.service import RPCError

from stigmer_runner.claims.driver import ClaimDriver, owner_of
from stigmer_runner.claims.folder import FolderStore
from stigmer_runner.claims.port import BlobStore, Owner
from stigmer_runner.errors import SettingsError

if TYPE_CHECKING:
    from stigmer_runner.settings import RunnerSettings

_ENVELOPE_BYTES = 1024 * 1024
"""What may stand around a value in its payload: who is to do what with it, and a report on the way."""

LostBlob = Callable[[Owner, str], Awaitable[None]]
"""Ends a run that needs a blob which is gone, and is told what is to be said of it."""


def stores_of(settings: "RunnerSettings") -> tuple[BlobStore, ...]:
    """Return the stores of `settings`: values go to the first, and are read from all. None: no claim check.

    Raises:
        SettingsError: A bucket is named, and its client is not installed.
    """
    stores: list[BlobStore] = []
    if settings.blob_bucket:
        stores.append(_bucket(settings))
    if settings.blob_folder is not None:
        stores.append(FolderStore(settings.blob_folder))
    return tuple(stores)


def claim_converter(settings: "RunnerSettings", stores: Sequence[BlobStore], *, on_lost: LostBlob) -> DataConverter:
    """Return the converter that keeps payloads above the threshold in the first of `stores`."""
    if not stores:
        return DataConverter.default
    loop = asyncio.get_running_loop()

    def lost(owner: Owner, detail: str) -> None:
        asyncio.run_coroutine_threadsafe(_logged(on_lost(owner, detail)), loop)

    drivers = [
        ClaimDriver(
            store,
            most_bytes=settings.max_value_bytes + _ENVELOPE_BYTES,
            compress=settings.blob_compression == "zstd",
            on_missing=lost,
            patience=settings.blob_patience_seconds,
        )
        for store in stores
    ]

    def selected(context: StorageDriverSelectContext, _: Payload) -> StorageDriver | None:
        # Without a run to belong to it could never be collected, so it stays with the message.
        return None if owner_of(context) is None else drivers[0]

    storage = ExternalStorage(
        drivers=drivers, driver_selector=selected, payload_size_threshold=settings.blob_threshold_bytes
    )
    return replace(DataConverter.default, external_storage=storage)


async def _logged(ending: Awaitable[None]) -> None:
    try:
        await ending
    except (RPCError, RpcError) as error:
        logger.warning("a run that cannot go on is not ended: {}", error)


def _bucket(settings: "RunnerSettings") -> BlobStore:
    try:
        from stigmer_runner.claims.s3 import Bucket, S3Store  # an extra
    except ImportError:
        raise SettingsError(
            ["--blob-bucket (STIGMER_BLOB_BUCKET): buckets need `pip install stigmer-runner[s3]`"]
        ) from None
    return S3Store(
        Bucket(
            name=settings.blob_bucket,
            prefix=settings.blob_prefix,
            endpoint=settings.blob_endpoint,
            region=settings.blob_region,
            access_key=settings.blob_access_key,
            secret_key=settings.blob_secret_key,
            path_style=settings.blob_path_style,
        )
    )
