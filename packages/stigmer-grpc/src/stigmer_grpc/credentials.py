"""TLS: certificates and keys from files, checked before anything is served or called with them."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import grpc

from stigmer_grpc.certificates import CertificateFiles, check, check_authority, read
from stigmer_grpc.errors import CredentialsError


def server_credentials(certificate: Path, key: Path, *, client_authority: Path | None = None) -> grpc.ServerCredentials:
    """Return the credentials of a server; those who connect after the files were replaced are served with the new ones.

    Args:
        certificate: PEM file: the server's certificate and those between it and its authority.
        key: PEM file: its private key, without a password.
        client_authority: PEM file of an authority; if given, only clients with a certificate of it are let in.

    Raises:
        CredentialsError: A file cannot be read or is not what it should be, or key and certificate do not belong
            together.
    """
    untyped: Any = grpc
    files = CertificateFiles(certificate, key, client_authority)

    def configuration() -> Any:
        own_key, chain, authority = files.contents()
        return untyped.ssl_server_certificate_configuration([(own_key, chain)], root_certificates=authority)

    return untyped.dynamic_ssl_server_credentials(
        configuration(),
        lambda: configuration() if files.renewed() else None,
        require_client_authentication=client_authority is not None,
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
    roots = None if authority is None else check_authority(authority)
    if certificate is None or key is None:
        return grpc.ssl_channel_credentials(root_certificates=roots)
    check(certificate, key, ssl.PROTOCOL_TLS_CLIENT)
    return grpc.ssl_channel_credentials(
        root_certificates=roots, private_key=read(key), certificate_chain=read(certificate)
    )
