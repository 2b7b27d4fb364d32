"""Files of workspaces: what people put into sessions."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

_PUT, _DELETE = "FileCommandController/put", "FileCommandController/delete"
_LIST, _GET = "FileQueryController/list", "FileQueryController/get"
_CONTENT = b"month,amount\n" + b"june,7\n" * 1000
_PATH = "reports/june.csv"


def put(client: Any, session: str, content: bytes, **header: Any) -> Any:
    parts = [client.message(_PUT, {}) for _ in range(2)]
    parts[0].chunk, parts[1].chunk = content[:50], content[50:]
    return client(_PUT, [client.message(_PUT, {"header": {"sessionId": session, "path": _PATH, **header}}), *parts])


@pytest.mark.rpc(_PUT)
@pytest.mark.rpc(_LIST)
@pytest.mark.rpc(_GET)
@pytest.mark.rpc(_DELETE)
def test_a_file_comes_back_as_it_was_put_until_it_is_deleted(client: Any, make: Any) -> None:
    session = make("session").metadata.id
    place = {"resourceId": session, "path": _PATH}
    file = put(client, session, _CONTENT, sha256=hashlib.sha256(_CONTENT).hexdigest())
    assert (file.path, file.bytes, file.sha256) == (_PATH, len(_CONTENT), hashlib.sha256(_CONTENT).hexdigest())
    assert list(client(_LIST, {"resourceId": session}).entries) == [file]
    assert b"".join(part.chunk for part in client.stream(_GET, place)) == _CONTENT
    newer = put(client, session, b"month,amount\n" * 9)
    assert list(client(_LIST, {"resourceId": session}).entries) == [newer]
    gone = {"sessionId": session, "path": _PATH}
    client(_DELETE, {**gone, "sha256": file.sha256})
    assert list(client(_LIST, {"resourceId": session}).entries) == [newer]
    client(_DELETE, gone)
    assert list(client(_LIST, {"resourceId": session}).entries) == []
    client.refused(_GET, place, "NOT_FOUND")


@pytest.mark.rpc(_PUT, "INVALID_ARGUMENT")
@pytest.mark.rpc(_PUT, "NOT_FOUND")
@pytest.mark.parametrize("path", ["/etc/passwd", "../up", "a//b", ".stigmer/x", "a\\b", "a\nb"])
def test_a_file_has_a_place_in_the_workspace_of_a_session(client: Any, make: Any, path: str) -> None:
    session = make("session").metadata.id
    client.refused(_PUT, [{"header": {"sessionId": session, "path": path}}], "INVALID_ARGUMENT")
    client.refused(_PUT, [{"header": {"sessionId": session, "path": "a", "sha256": "0" * 64}}], "INVALID_ARGUMENT")
    client.refused(_PUT, [], "INVALID_ARGUMENT")
    client.refused(_PUT, [{"header": {"sessionId": "nothing", "path": "a"}}], "NOT_FOUND")


@pytest.mark.rpc(_LIST, "INVALID_ARGUMENT")
@pytest.mark.rpc(_LIST, "NOT_FOUND")
@pytest.mark.rpc(_GET, "INVALID_ARGUMENT")
@pytest.mark.rpc(_GET, "NOT_FOUND")
@pytest.mark.rpc(_DELETE, "INVALID_ARGUMENT")
@pytest.mark.rpc(_DELETE, "NOT_FOUND")
def test_a_file_is_named_by_what_has_it_and_its_path(client: Any, make: Any) -> None:
    session = make("session").metadata.id
    nowhere = f"{session[:-1]}{'0' if session[-1] != '0' else '1'}"
    assert client.refused(_LIST, None, "INVALID_ARGUMENT").fields == {"resource_id": "required"}
    assert client.refused(_GET, None, "INVALID_ARGUMENT").fields == {"resource_id": "required", "path": "required"}
    assert client.refused(_DELETE, None, "INVALID_ARGUMENT").fields == {"session_id": "required", "path": "required"}
    assert client.refused(_LIST, {"resourceId": "nothing"}, "INVALID_ARGUMENT").fields == {"resource_id": "file.owner"}
    client.refused(_LIST, {"resourceId": nowhere}, "NOT_FOUND")
    client.refused(_GET, {"resourceId": nowhere, "path": "a"}, "NOT_FOUND")
    client.refused(_GET, {"resourceId": session, "path": "a"}, "NOT_FOUND")
    client.refused(_DELETE, {"sessionId": nowhere, "path": "a"}, "NOT_FOUND")
