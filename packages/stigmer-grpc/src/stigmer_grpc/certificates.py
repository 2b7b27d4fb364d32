"""The files of a certificate, which are replaced while a server runs: every few weeks, where certificates are short."""

from __future__ import annotations

import ssl
from pathlib import Path

from loguru import logger

from stigmer_grpc.errors import CredentialsError

Stamp = tuple[tuple[int, int, int] | None, ...]
"""Tells one content of files from the next, without reading them."""


class CertificateFiles:
    """A certificate and its key, checked, and looked at again whenever somebody connects.

    Args:
        certificate: PEM file: the certificate and those between it and its authority.
        key: PEM file: its private key, without a password.
        client_authority: PEM file of an authority from which clients have to have a certificate.

    Raises:
        CredentialsError: A file cannot be read or is not what it should be, or key and certificate do not belong
            together.
    """

    def __init__(self, certificate: Path, key: Path, client_authority: Path | None = None) -> None:
        self.certificate = certificate
        self.key = key
        self.client_authority = client_authority
        self._seen = self._stamp()
        self._check()

    def renewed(self) -> bool:
        """Tell whether there are others since this was last asked, that can be used.

        Where they cannot, such as between the replacement of the one and the other, those read before stay in use; that
        is logged, once for each state of them.
        """
        stamp = self._stamp()
        if stamp == self._seen:
            return False
        self._seen = stamp
        try:
            self._check()
        except CredentialsError as error:
            logger.warning("the certificate in use stays so: {}", error)
            return False
        logger.info("the certificate {} was renewed", self.certificate)
        return True

    def contents(self) -> tuple[bytes, bytes, bytes | None]:
        """Return key, certificate and authority. Raises: CredentialsError."""
        authority = None if self.client_authority is None else read(self.client_authority)
        return read(self.key), read(self.certificate), authority

    def _check(self) -> None:
        check(self.certificate, self.key, ssl.PROTOCOL_TLS_SERVER)
        if self.client_authority is not None:
            check_authority(self.client_authority)

    def _stamp(self) -> Stamp:
        return tuple(_stamp(path) for path in (self.certificate, self.key, self.client_authority) if path is not None)


def check(certificate: Path, key: Path, protocol: int) -> None:
    """Check that a certificate and a key go together. Raises: CredentialsError.

    gRPC itself would say what is wrong with them at the first handshake, in its log.
    """
    for path in (certificate, key):
        read(path)
    try:
        # A password, should the key want one, is refused and not asked for at the terminal.
        ssl.SSLContext(protocol).load_cert_chain(certificate, key, password=lambda: "")
    except (ssl.SSLError, OSError) as error:
        reason = getattr(error, "reason", None) or error
        raise CredentialsError(f"certificate {certificate} and key {key} cannot be used together: {reason}") from error


def check_authority(path: Path) -> bytes:
    """Return the certificate of an authority. Raises: CredentialsError."""
    content = read(path)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=path)
    except (ssl.SSLError, OSError) as error:
        raise CredentialsError(f"{path} holds no certificate of an authority") from error
    return content


def read(path: Path) -> bytes:
    """Return what a file holds. Raises: CredentialsError."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise CredentialsError(f"{path}: {error.strerror or error}") from error


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
