"""TLS as grpcio has it."""

from __future__ import annotations

import grpc

from server.certificates import Certificates, Pem


def server_credentials(certificates: Certificates) -> grpc.ServerCredentials:
    """Returns credentials for one server, which use for each new connection the certificate that is current then."""
    used = certificates.pem

    def changed() -> grpc.ServerCertificateConfiguration | None:
        # grpcio calls it for every connection, one at a time, in a thread of its own.
        nonlocal used
        if certificates.pem is used:
            return None
        used = certificates.pem
        return _configuration(used)

    return grpc.dynamic_ssl_server_credentials(
        _configuration(used),
        changed,  # type: ignore[arg-type]  # None is no change, says grpcio; the stubs know nothing of it
        require_client_authentication=used.client_ca is not None,
    )


def _configuration(pem: Pem) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(pem.key, pem.certificate)], pem.client_ca)
