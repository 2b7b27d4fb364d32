"""TLS: certificates and keys from files, checked before anything is served or called with them."""

from __future__ import annotations

import ssl
from pathlib import Path

import grpc

from stigmer_grpc.errors import CredentialsError


def server_credentials(certificate: Path, key: Path, *, client_authority: Path | None = None) -> grpc.ServerCredentials:
    """Return the credentials of a server.

    Args:
        certificate: PEM file: the server's certificate and those between it and its authority.
        key: PEM file: its private key, without a password.
        client_authority: PEM file of an authority; if given, only clients with a certificate of it are let in.

    Raises:
        CredentialsError: A file cannot be read or is not what it should be, or key and certificate do not belong
            together.
    """
    _check(certificate, key, ssl.PROTOCOL_TLS_SERVER)
    authority = None if client_authority is None else _authority(client_authority)
    return grpc.ssl_server_credentials(
        [(_read(key), _read(certificate))],
        root_certificates=authority,
        require_client_auth=authority is not None,
    )


def client_credentials(
    *, authority: Path | None = None, certificate: Path | None = None, key: Path | None = None
) -> grpc.ChannelCredentials:
    """Return the credentials of a client.

    Args:
        authority: PEM file of the authority that the server's certificate comes from; None: those that gRPC brings.
        certificate: PEM file of the client's own certificate, for servers that ask for one; with `key`.
        key: PEM file of its private key.

    Raises:
        CredentialsError: As `server_credentials`.
    """
    if (certificate is None) != (key is None):
        raise CredentialsError("a client's certificate and its key are given together")
    roots = None if authority is None else _authority(authority)
    if certificate is None or key is None:
        return grpc.ssl_channel_credentials(root_certificates=roots)
    _check(certificate, key, ssl.PROTOCOL_TLS_CLIENT)
    return grpc.ssl_channel_credentials(
        root_certificates=roots, private_key=_read(key), certificate_chain=_read(certificate)
    )


def _check(certificate: Path, key: Path, protocol: int) -> None:
    """gRPC itself would say what is wrong with them at the first handshake, in its log."""
    for path in (certificate, key):
        _read(path)
    try:
        # A password, should the key want one, is refused and not asked for at the terminal.
        ssl.SSLContext(protocol).load_cert_chain(certificate, key, password=lambda: "")
    except (ssl.SSLError, OSError) as error:
        reason = getattr(error, "reason", None) or error
        raise CredentialsError(f"certificate {certificate} and key {key} cannot be used together: {reason}") from error


def _authority(path: Path) -> bytes:
    content = _read(path)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=path)
    except (ssl.SSLError, OSError) as error:
        raise CredentialsError(f"{path} holds no certificate of an authority") from error
    return content


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CredentialsError(f"{path}: {error.strerror or error}") from error
