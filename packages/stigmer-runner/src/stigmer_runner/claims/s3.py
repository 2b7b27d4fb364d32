"""Blobs in a bucket: Amazon S3, or what speaks its protocol (R2, MinIO, Ceph …).

    <prefix>/<run>/owner
    <prefix>/<run>/<key>

Each run has objects of its own, so what is removed is nobody else's.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from threading import Lock
from typing import Any, cast

import boto3
from boto3.exceptions import S3UploadFailedError
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from stigmer_runner.claims.port import BlobMissingError, BlobStoreError, Owner, Stored

_OWNER = "owner"
_MISSING = frozenset({"404", "NoSuchKey"})
_MOST_DELETED = 1000
"""What one request may delete."""
_FRESH_SECONDS = 600.0
"""An object that is older is put again rather than taken to be there: it may be about to be removed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """Where a bucket is, and who may use it."""

    name: str
    prefix: str = "stigmer"
    endpoint: str = ""
    """URL of a service that is not Amazon's."""
    region: str = ""
    access_key: str = ""
    """Empty leaves it to what AWS's own tools find: variables, profiles, the machine's role."""
    secret_key: str = ""
    path_style: bool = False
    """The bucket stands in the path, not in the host name."""


class S3Store:
    """See the module. Needs the extra `s3`."""

    name = "stigmer.s3"

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._prefix = bucket.prefix.strip("/")
        self._owners: set[str] = set()
        self._making = Lock()

    @property
    def place(self) -> str:
        """See `BlobStore`."""
        return f"s3://{self._bucket.name}/{self._prefix}"

    def put(self, owner: Owner, key: str, data: bytes) -> None:
        """See `BlobStore`."""
        if owner.name not in self._owners:
            self._put(self._path(owner, _OWNER), owner.encoded())
            self._owners.add(owner.name)
        if not self._is_fresh(self._path(owner, key)):
            self._put(self._path(owner, key), data)

    def get(self, owner: Owner, key: str) -> bytes:
        """See `BlobStore`."""
        return self._get(self._path(owner, key))

    def _get(self, path: str) -> bytes:
        try:
            return self._client.get_object(Bucket=self._bucket.name, Key=path)["Body"].read()
        except (ClientError, BotoCoreError) as error:
            if _is_missing(error):
                raise BlobMissingError(f"there is no {path} in the bucket {self._bucket.name}") from None
            raise BlobStoreError(f"{self.place}: {path} cannot be read: {error}") from error

    def stored(self) -> Iterator[Stored]:
        """See `BlobStore`."""
        found: dict[str, list[tuple[str, float]]] = {}
        for path, changed in self._list(f"{self._prefix}/"):
            run, _, key = path.removeprefix(f"{self._prefix}/").partition("/")
            found.setdefault(run, []).append((key, changed))
        for run, blobs in found.items():
            began = next((changed for key, changed in blobs if key == _OWNER), None)
            if began is None:
                continue
            # Another process may have removed it since it was listed.
            with contextlib.suppress(BlobMissingError):
                owner = Owner.decoded(self._get(f"{self._prefix}/{run}/{_OWNER}"))
                yield Stored(owner=owner, began=began, touched=max(changed for _, changed in blobs))

    def drop(self, owner: Owner, *, before: float) -> bool:
        """See `BlobStore`."""
        found = list(self._list(f"{self._prefix}/{owner.name}/"))
        if not found or max(changed for _, changed in found) >= before:
            return False
        self._owners.discard(owner.name)
        # What says whose they are goes last: a kill in the middle leaves something that is found again.
        paths = sorted((path for path, _ in found), key=lambda path: path.endswith(f"/{_OWNER}"))
        for start in range(0, len(paths), _MOST_DELETED):
            try:
                self._delete(paths[start : start + _MOST_DELETED])
            except (ClientError, BotoCoreError) as error:
                raise BlobStoreError(f"{self.place}: {owner.workflow_id} cannot be removed: {error}") from error
        return True

    def _delete(self, paths: list[str]) -> None:
        """Delete objects in one request, or each by itself where a service does not do that, or not as Amazon does."""
        name, objects = self._bucket.name, [{"Key": path} for path in paths]
        try:
            answer = self._client.delete_objects(Bucket=name, Delete={"Objects": objects, "Quiet": True})
            left = [error["Key"] for error in answer.get("Errors", ())]
        except ClientError:
            left = paths
        for path in left:
            self._client.delete_object(Bucket=name, Key=path)

    def sweep(self, *, before: float) -> None:
        """See `BlobStore`. An upload is whole or not there, and has an owner before it has blobs."""

    def _path(self, owner: Owner, key: str) -> str:
        return f"{self._prefix}/{owner.name}/{key}"

    def _put(self, path: str, data: bytes) -> None:
        try:
            self._client.put_object(Bucket=self._bucket.name, Key=path, Body=data)
        except (ClientError, BotoCoreError, S3UploadFailedError) as error:
            raise BlobStoreError(
                f"a value of {len(data)} bytes cannot be kept as {path} in {self.place}: {error}"
            ) from error

    def _is_fresh(self, path: str) -> bool:
        try:
            found = self._client.head_object(Bucket=self._bucket.name, Key=path)
        except (ClientError, BotoCoreError) as error:
            if _is_missing(error):
                return False
            raise BlobStoreError(f"{self.place}: {path} cannot be looked for: {error}") from error
        return time.time() - found["LastModified"].timestamp() < _FRESH_SECONDS

    def _list(self, prefix: str) -> Iterator[tuple[str, float]]:
        try:
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket.name, Prefix=prefix)
            for page in pages:
                for item in page.get("Contents", ()):
                    yield item["Key"], item["LastModified"].timestamp()
        except (ClientError, BotoCoreError) as error:
            raise BlobStoreError(f"{self.place} cannot be listed: {error}") from error

    @cached_property
    def _made(self) -> Any:
        bucket = self._bucket
        config = Config(
            retries={"max_attempts": 5, "mode": "standard"},
            s3={"addressing_style": "path" if bucket.path_style else "auto"},
            # Services that are not Amazon's know no newer checksums.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        return cast("Any", boto3).client(
            "s3",
            endpoint_url=bucket.endpoint or None,
            region_name=bucket.region or None,
            aws_access_key_id=bucket.access_key or None,
            aws_secret_access_key=bucket.secret_key or None,
            config=config,
        )

    @property
    def _client(self) -> Any:
        # Clients may be used by several threads, and are to be made by one.
        with self._making:
            return self._made


def _is_missing(error: Exception) -> bool:
    return isinstance(error, ClientError) and cast("Any", error).response.get("Error", {}).get("Code") in _MISSING
