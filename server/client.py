"""How commands call the running service at PARTICIPANTS_GRPC_ADDRESS: with TLS where the TLS variables are set, and
again when it may be able to answer later."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grpc

from server.certificates import Certificates
from server.config import ConfigurationError, Settings
from server.errors import Code

# In seconds.
CALL_TIMEOUT = 60.0
# What the service may be able to do later is asked again, after pauses that add up to more than a failover takes.
RETRIED = {Code.UNAVAILABLE.number, Code.RESOURCE_EXHAUSTED.number, Code.ABORTED.number, Code.DEADLINE_EXCEEDED.number}
PAUSES = (0.2, 0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0, 8.0)

Options = Sequence[tuple[str, Any]]

# The service bounds its answers itself: a full page of large participants is more than gRPC's 4 MiB.
OPTIONS: Options = [("grpc.max_receive_message_length", -1)]


def open_channel(settings: Settings) -> grpc.Channel:
    """Returns a channel. Raises ConfigurationError where the TLS files cannot be used."""
    channel: grpc.Channel = _opened(grpc, settings)
    return channel


def open_aio_channel(settings: Settings) -> grpc.aio.Channel:
    """Returns a channel for asyncio. Raises ConfigurationError where the TLS files cannot be used."""
    channel: grpc.aio.Channel = _opened(grpc.aio, settings)
    return channel


def _opened(library: Any, settings: Settings) -> Any:
    address, secure = str(settings.grpc_address.reachable()), _secure(settings)
    if secure is None:
        return library.insecure_channel(address, OPTIONS)
    credentials, options = secure
    return library.secure_channel(address, credentials, [*OPTIONS, *options])


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
