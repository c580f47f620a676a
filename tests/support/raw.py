"""Sockets and memory, for callers that no client library would make."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path

from tests.support.process import Service

MEBIBYTE = 1 << 20


def connected(service: Service, timeout: float = 20.0, receive_buffer: int | None = None) -> socket.socket:
    """Opens a connection to the HTTP port."""
    host, port = service.http_url.removeprefix("http://").split(":")
    connection = socket.socket()
    if receive_buffer is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    connection.settimeout(timeout)
    connection.connect((host, int(port)))
    return connection


def read_to_end(connection: socket.socket) -> bytes:
    """Returns what comes until the connection is closed, however it is closed."""
    received = b""
    try:
        while chunk := connection.recv(65_536):
            received += chunk
    except ConnectionResetError:
        pass
    return received


def resident_bytes(service: Service) -> int:
    """Returns the memory that the process has now."""
    return _status(service, "VmRSS")


def forget_most_resident_bytes(service: Service) -> None:
    """Has `most_resident_bytes` begin anew."""
    # Of proc(5): it resets the peak, and nothing else.
    Path(f"/proc/{service.pid}/clear_refs").write_text("5", encoding="ascii")


def most_resident_bytes(service: Service) -> int:
    """Returns the most memory that the process has had."""
    return _status(service, "VmHWM")


def processor_seconds(service: Service) -> float:
    """Returns the processor time that the process has taken, which depends on nobody else's."""
    user, system = Path(f"/proc/{service.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def _status(service: Service, name: str) -> int:
    match = re.search(rf"{name}:\s+(\d+) kB", Path(f"/proc/{service.pid}/status").read_text())
    assert match is not None
    return int(match[1]) * 1024
