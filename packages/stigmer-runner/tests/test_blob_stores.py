"""What every store of blobs promises, over a folder and over a bucket (a loopback server that speaks S3)."""

import os
import time
import uuid
from collections.abc import Generator
from io import BytesIO
from pathlib import Path
from typing import Any, cast

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from moto.server import ThreadedMotoServer
from stigmer_runner.claims import BlobMissingError, BlobStore, BlobStoreError, FolderStore, Owner
from stigmer_runner.claims.s3 import Bucket, S3Store
from urllib3 import HTTPResponse

ONE = Owner(namespace="default", workflow_id="some/workflow", run_id="1")
TWO = Owner(namespace="default", workflow_id="some/workflow", run_id="2")
DATA = bytes(range(256)) * 20
LATER = 1_000.0


@pytest.fixture(scope="session")
def s3() -> Generator[str]:
    """Address of a server that speaks S3 and has the bucket `blobs`: STIGMER_TEST_S3's, where that names one."""
    if given := os.environ.get("STIGMER_TEST_S3"):
        yield given
        return
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    keys = {"aws_access_key_id": "key", "aws_secret_access_key": "secret", "region_name": "us-east-1"}
    cast("Any", boto3).client("s3", endpoint_url=url, **keys).create_bucket(Bucket="blobs")
    yield url
    server.stop()


def bucket_at(url: str, prefix: str, **more: Any) -> S3Store:
    given: dict[str, Any] = {"name": "blobs", "endpoint": url, "prefix": prefix, "path_style": True, **more}
    return S3Store(Bucket(region="us-east-1", access_key="key", secret_key="secret", **given))


@pytest.fixture(params=["folder", "bucket"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    if request.param == "folder":
        return FolderStore(tmp_path / "blobs")
    return bucket_at(request.getfixturevalue("s3"), f"tests/{uuid.uuid4().hex}")


def owners(store: BlobStore) -> set[Owner]:
    return {stored.owner for stored in store.stored()}


def test_what_was_put_is_got_as_often_as_it_is_put(store: BlobStore) -> None:
    store.put(ONE, "abcd", DATA)
    store.put(ONE, "abcd", DATA)
    assert store.get(ONE, "abcd") == DATA


def test_runs_with_blobs_are_listed_with_their_times(store: BlobStore) -> None:
    assert owners(store) == set()
    store.put(ONE, "abcd", DATA)
    store.put(TWO, "ef01", DATA)
    assert owners(store) == {ONE, TWO}
    assert all(abs(stored.touched - time.time()) < 60 and stored.began <= stored.touched for stored in store.stored())


def test_a_blob_that_is_not_there_is_named(store: BlobStore) -> None:
    with pytest.raises(BlobMissingError, match="abcd"):
        store.get(ONE, "abcd")


def test_a_run_that_lets_go_takes_nothing_of_another_with_the_same_content(store: BlobStore) -> None:
    store.put(ONE, "abcd", DATA)
    store.put(TWO, "abcd", DATA)
    assert store.drop(ONE, before=time.time() + LATER)
    store.sweep(before=time.time() + LATER)
    assert owners(store) == {TWO}
    assert store.get(TWO, "abcd") == DATA
    with pytest.raises(BlobMissingError):
        store.get(ONE, "abcd")


def test_a_run_that_was_touched_lately_keeps_its_blobs(store: BlobStore) -> None:
    store.put(ONE, "abcd", DATA)
    assert not store.drop(ONE, before=time.time() - LATER)
    assert store.get(ONE, "abcd") == DATA


def test_a_run_can_put_again_after_it_let_go(store: BlobStore) -> None:
    store.put(ONE, "abcd", DATA)
    store.drop(ONE, before=time.time() + LATER)
    store.put(ONE, "abcd", DATA)
    assert store.get(ONE, "abcd") == DATA
    assert owners(store) == {ONE}


def test_what_has_no_blobs_cannot_let_go(store: BlobStore) -> None:
    assert not store.drop(ONE, before=time.time() + LATER)


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file()}


def test_a_file_goes_with_the_last_run_that_has_it(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    store.put(ONE, "abcd", DATA)
    store.put(TWO, "abcd", DATA)
    (pooled,) = (tmp_path / "objects").rglob("abcd")
    assert pooled.stat().st_nlink == 3
    for owner in (ONE, TWO):
        assert pooled.exists()
        store.drop(owner, before=time.time() + LATER)
        store.sweep(before=time.time() + LATER)
    assert files(tmp_path) == set()


def test_what_a_kill_left_in_a_folder_is_swept_up_when_it_is_old(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    store.put(ONE, "abcd", DATA)
    half = tmp_path / "runs" / ("0" * 40)
    half.mkdir()
    (half / "left.part").write_bytes(DATA)
    away = tmp_path / "trash" / "half-removed"
    away.mkdir(parents=True)
    (away / "ef01").write_bytes(DATA)
    store.sweep(before=time.time() - LATER)
    assert half.exists()
    store.sweep(before=time.time() + LATER)
    assert files(tmp_path) == {"abcd", "owner"}


def test_a_run_that_is_being_written_to_cannot_be_made_to_let_go(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    with store._held(ONE):
        assert not store.drop(ONE, before=time.time() + LATER)


def test_a_folder_without_links_has_every_blob_once_for_each_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    store = FolderStore(tmp_path)
    store.put(ONE, "abcd", DATA)
    store.put(TWO, "abcd", DATA)
    store.sweep(before=time.time() + LATER)
    assert store.get(ONE, "abcd") == store.get(TWO, "abcd") == DATA


def test_a_folder_that_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "blobs").write_text("a file")
    store = FolderStore(tmp_path / "blobs")
    with pytest.raises(BlobStoreError, match=f"5120 bytes cannot be kept in {tmp_path}"):
        store.put(ONE, "abcd", DATA)


def test_a_service_that_deletes_one_object_at_a_time_is_asked_for_that(s3: str) -> None:
    store = bucket_at(s3, f"tests/{uuid.uuid4().hex}")
    store.put(ONE, "abcd", DATA)
    body = b"<Error><Code>NotImplemented</Code><Message>not by us</Message></Error>"

    def refuse(request: Any, **_: Any) -> AWSResponse:
        headers: dict[str, str] = {}
        return AWSResponse(request.url, 501, headers, HTTPResponse(BytesIO(body), preload_content=False))

    store._client.meta.events.register("before-send.s3.DeleteObjects", refuse)
    assert store.drop(ONE, before=time.time() + LATER)
    assert owners(store) == set()


def test_a_bucket_that_does_not_exist_is_a_clear_error(s3: str) -> None:
    store = bucket_at(s3, "x", name="nowhere")
    with pytest.raises(BlobStoreError, match=r"s3://nowhere/x.*NoSuchBucket"):
        store.put(ONE, "abcd", DATA)


def test_a_bucket_that_is_away_is_not_taken_for_a_missing_blob() -> None:
    store = bucket_at("http://127.0.0.1:9", "x")
    with pytest.raises(BlobStoreError) as raised:
        store.get(ONE, "abcd")
    assert not isinstance(raised.value, BlobMissingError)
