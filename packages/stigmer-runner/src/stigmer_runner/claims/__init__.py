"""The claim check: values too large for a history are kept outside of it, and histories refer to them."""

from stigmer_runner.claims.collection import collect, keep_collecting
from stigmer_runner.claims.driver import ClaimDriver
from stigmer_runner.claims.folder import FolderStore
from stigmer_runner.claims.port import BlobMissingError, BlobStore, BlobStoreError, Owner, Stored
from stigmer_runner.claims.storage import LostBlob, claim_converter, stores_of

__all__ = [
    "BlobMissingError",
    "BlobStore",
    "BlobStoreError",
    "ClaimDriver",
    "FolderStore",
    "LostBlob",
    "Owner",
    "Stored",
    "claim_converter",
    "collect",
    "keep_collecting",
    "stores_of",
]
