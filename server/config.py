"""The settings, read from the environment once and checked before anything opens (contract, section 5)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict

MAX_WORKERS = 64


class ConfigurationError(Exception):
    """A variable that cannot be used. The message says what is wrong and what to do, in one line."""


@dataclass(frozen=True, slots=True)
class Address:
    """A host and a port to listen on. Port 0 lets the system choose."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def reachable(self) -> Address:
        """Returns the address under which this machine reaches what listens here, maybe on every interface."""
        loopback = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # compared with, not listened on
        return Address(loopback.get(self.host, self.host), self.port)


@dataclass(frozen=True, slots=True)
class Settings:
    """`database_url` None means the embedded Postgres; `http_address` None means no gateway."""

    database_url: str | None
    data_directory: Path
    grpc_address: Address
    http_address: Address | None
    api_key: str | None
    workers: int
    reflection: bool


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Returns the settings, or raises ConfigurationError at the first variable that is wrong."""
    grpc_address = _address(environment, "PARTICIPANTS_GRPC_ADDRESS", "127.0.0.1:50051")
    if grpc_address is None:
        raise ConfigurationError("PARTICIPANTS_GRPC_ADDRESS is empty; set it to HOST:PORT or leave it unset")
    return Settings(
        database_url=_database_url(environment),
        data_directory=Path(environment.get("PARTICIPANTS_DATA_DIR") or ".data").absolute(),
        grpc_address=grpc_address,
        http_address=_address(environment, "PARTICIPANTS_HTTP_ADDRESS", "127.0.0.1:8080"),
        api_key=_api_key(environment),
        workers=_workers(environment),
        reflection=_switch(environment, "PARTICIPANTS_REFLECTION", default=True),
    )


def _database_url(environment: Mapping[str, str]) -> str | None:
    url = environment.get("DATABASE_URL")
    if not url:
        return None
    try:
        conninfo_to_dict(url)
    except ProgrammingError:
        # libpq's own message can repeat the URL, and with it the password.
        raise ConfigurationError(
            "DATABASE_URL is not a Postgres connection URL; write postgresql://USER:PASSWORD@HOST:PORT/DATABASE"
        ) from None
    return url


def _address(environment: Mapping[str, str], name: str, default: str) -> Address | None:
    value = environment.get(name, default)
    if not value:
        return None
    match = re.fullmatch(r"(?:\[(?P<ipv6>[0-9A-Fa-f:.]+)\]|(?P<host>[^\s:\[\]/]+)):(?P<port>\d{1,5})", value)
    if match is None or int(match["port"]) > 65535:
        raise ConfigurationError(f"{name} is {value!r}, which is not HOST:PORT; write 127.0.0.1:8080 or [::1]:8080")
    return Address(match["ipv6"] or match["host"], int(match["port"]))


def _api_key(environment: Mapping[str, str]) -> str | None:
    key = environment.get("PARTICIPANTS_API_KEY")
    if not key:
        return None
    if re.fullmatch(r"sk_[\x21-\x7e]{1,252}", key) is None:
        raise ConfigurationError(
            "PARTICIPANTS_API_KEY is malformed; it is sk_ and up to 252 printable ASCII characters without spaces"
        )
    return key


def _workers(environment: Mapping[str, str]) -> int:
    value = environment.get("PARTICIPANTS_WORKERS") or "1"
    if not re.fullmatch(r"[0-9]{1,4}", value) or not 1 <= int(value) <= MAX_WORKERS:
        raise ConfigurationError(f"PARTICIPANTS_WORKERS is {value!r}; set it to a number from 1 to {MAX_WORKERS}")
    return int(value)


def _switch(environment: Mapping[str, str], name: str, *, default: bool) -> bool:
    value = environment.get(name, "").lower()
    if value not in {"", "on", "off"}:
        raise ConfigurationError(f"{name} is {value!r}; set it to on or off")
    return default if value == "" else value == "on"
