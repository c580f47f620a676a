"""How commands reach the running service at PARTICIPANTS_GRPC_ADDRESS: with TLS where the TLS variables are set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grpc

from server.certificates import Certificates
from server.config import ConfigurationError, Settings

Options = Sequence[tuple[str, Any]]


def open_channel(settings: Settings, options: Options = ()) -> grpc.Channel:
    """Returns a channel. Raises ConfigurationError where the TLS files cannot be used."""
    address, secure = str(settings.grpc_address.reachable()), _secure(settings)
    if secure is None:
        return grpc.insecure_channel(address, options)
    return grpc.secure_channel(address, secure[0], [*options, *secure[1]])


def open_aio_channel(settings: Settings, options: Options = ()) -> grpc.aio.Channel:
    """Returns a channel for asyncio. Raises ConfigurationError where the TLS files cannot be used."""
    address, secure = str(settings.grpc_address.reachable()), _secure(settings)
    if secure is None:
        return grpc.aio.insecure_channel(address, options)
    return grpc.aio.secure_channel(address, secure[0], [*options, *secure[1]])


def _secure(settings: Settings) -> tuple[grpc.ChannelCredentials, Options] | None:
    """Returns what a channel needs for TLS, or None.

    Without a CA, the service is the one that has the certificate in our own settings, whatever the address is called.
    """
    tls, ca_file = settings.tls, settings.tls_ca_file
    own = Certificates(tls) if tls else None
    if ca_file is not None:
        try:
            trusted, options = ca_file.read_bytes(), []
        except OSError as error:
            raise ConfigurationError(f"PARTICIPANTS_TLS_CA_FILE: {ca_file}: {error.strerror}") from None
    elif own is not None:
        name = own.name()
        trusted, options = own.pem.certificate, [("grpc.ssl_target_name_override", name)] if name else []
    else:
        return None
    key, certificate = (own.pem.key, own.pem.certificate) if own else (None, None)
    return grpc.ssl_channel_credentials(trusted, key, certificate), options


def tls_hint(settings: Settings, details: str) -> str:
    """Returns what may be wrong with TLS, to follow a message, where the details of an error are those of a service
    that hangs up or is somebody else."""
    if "Verification Check failed" in details:
        return "; its certificate is for another name"
    if "CERTIFICATE_VERIFY_FAILED" in details or "certificate verify failed" in details:
        return "; its certificate is not trusted, see PARTICIPANTS_TLS_CA_FILE"
    if "Socket closed" not in details:
        return ""
    if settings.tls is None and settings.tls_ca_file is None:
        return "; if it has TLS, set PARTICIPANTS_TLS_CA_FILE"
    return "; if it has mutual TLS, it does not accept the certificate in PARTICIPANTS_TLS_CERT_FILE"
