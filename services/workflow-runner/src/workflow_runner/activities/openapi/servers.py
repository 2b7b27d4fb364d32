"""Where the operations of an OpenAPI document are served."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urljoin, urlsplit

from workflow_runner.activities.calls import CallFailedError
from workflow_runner.activities.openapi.bundle import Document, as_list, as_object


def server_of(document: Document, operation: Mapping[str, Any], item: Mapping[str, Any]) -> str:
    """Return the address of an operation's server: its own, that of its path `item`, or the document's.

    Of several the first counts; variables stand for their defaults, relative addresses begin at the document's.

    Raises:
        CallFailedError: It is no address, or the document is a file and says too little.
    """
    try:
        if "swagger" in document.value:
            return _swagger(document, operation)
        holders = (operation, item, document.value)
        servers = [server for holder in holders for server in as_list(holder.get("servers"))[:1]]
        return _absolute(document, _filled(as_object(servers[0] if servers else None)))
    except ValueError as error:
        raise CallFailedError("configuration", f"the OpenAPI document's server is no address: {error}") from None


def _filled(server: Mapping[str, Any]) -> str:
    url = str(server.get("url") or "/")
    for name, variable in as_object(server.get("variables")).items():
        url = url.replace(f"{{{name}}}", str(as_object(variable).get("default", "")))
    return url


def _absolute(document: Document, url: str) -> str:
    if urlsplit(url).scheme:
        return url
    if urlsplit(document.url).scheme == "file":
        detail = f"the server {url!r} of the OpenAPI document is relative, and the document is a file"
        raise CallFailedError("configuration", detail)
    return urljoin(document.url, url)


def _swagger(document: Document, operation: Mapping[str, Any]) -> str:
    root = document.value
    home = urlsplit(document.url)
    schemes = as_list(operation.get("schemes") or root.get("schemes")) or [home.scheme]
    scheme = next((each for each in ("https", "http") if each in schemes), str(schemes[0]))
    host = str(root.get("host") or home.netloc)
    if not host or scheme == "file":
        raise CallFailedError("configuration", "the OpenAPI document is a file and lacks `host` or `schemes`")
    return f"{scheme}://{host}/{str(root.get('basePath') or '').strip('/')}"
