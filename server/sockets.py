"""Ports to listen on, bound by ourselves, so that one that cannot be had is told in one line; and files for those who
come."""

from __future__ import annotations

import resource
import socket
from dataclasses import dataclass

from server.config import Address, ConfigurationError


@dataclass(frozen=True, slots=True)
class Listening:
    """Where the service answers, with the ports it got."""

    grpc: Address
    http: Address | None
    operations: Address | None


# Several times what all connections need.
OPEN_FILES = 16_384


def allow_open_files() -> None:
    """Lets the process have as many files open as its connections need, or as many as it may.

    Where nobody has said otherwise it is 1,024, for the sake of programs of old: whoever opened so many connections
    would keep everybody else out.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def bound(address: Address, variable: str, *, share: bool = False) -> socket.socket:
    """Returns a socket bound to an address, or raises ConfigurationError, which names the variable to change.

    `share` lets several processes of ours listen on one port, if all of them ask for it.
    """
    listener = socket.socket(socket.AF_INET6 if ":" in address.host else socket.AF_INET)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if share:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((address.host, address.port))
    except OSError as error:
        listener.close()
        raise ConfigurationError(f"cannot listen on {address}: {error.strerror}; set {variable}") from None
    return listener


def address_of(listener: socket.socket, address: Address) -> Address:
    """Returns the address with the port that its socket got."""
    return Address(address.host, listener.getsockname()[1])
