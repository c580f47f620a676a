"""The settings, read from the environment once and checked before anything opens."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

MAX_WORKERS = 64
MAX_DATABASE_CONNECTIONS = 1000
MAX_DRAIN_SECONDS = 3_600

# How to connect to Postgres: a connection URL, or what returns the one to use for the next connection.
Conninfo = str | Callable[[], str]
# In the data directory: the key that a first start on the embedded database makes.
DEVELOPMENT_KEY_FILE = "development-key"


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
class TlsFiles:
    """Files in PEM. With `client_ca`, callers have to show a certificate that it has signed."""

    certificate: Path
    key: Path
    client_ca: Path | None


@dataclass(frozen=True, slots=True)
class Settings:
    """`database_url` None means the embedded Postgres; `http_address` None means no gateway, `operations_address` None
    no port for operators alone, `tls` None no TLS.

    `tls_ca_file` has whom commands that call the service trust. `database_url_file` is where `database_url` was read,
    and later ones may be; `drain_seconds` is how long it goes on serving after a signal to stop, while it says that it
    is not ready.
    """

    database_url: str | None
    database_url_file: Path | None
    database_connections: int
    data_directory: Path
    grpc_address: Address
    http_address: Address | None
    operations_address: Address | None
    tls: TlsFiles | None
    tls_ca_file: Path | None
    api_key: str | None
    workers: int
    reflection: bool
    docs: bool
    drain_seconds: int
    log_format: str
    tracing: bool


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Returns the settings, or raises ConfigurationError at the first variable that is wrong."""
    grpc_address = _address(environment, "PARTICIPANTS_GRPC_ADDRESS", "127.0.0.1:50051")
    if grpc_address is None:
        raise ConfigurationError("PARTICIPANTS_GRPC_ADDRESS is empty; set it to HOST:PORT or leave it unset")
    file = environment.get("DATABASE_URL_FILE")
    if file and environment.get("DATABASE_URL"):
        raise ConfigurationError("DATABASE_URL and DATABASE_URL_FILE are both set; unset one of them")
    return Settings(
        database_url=read_database_url(Path(file)) if file else _database_url(environment),
        database_url_file=Path(file).absolute() if file else None,
        database_connections=_number(environment, "PARTICIPANTS_DATABASE_CONNECTIONS", 10, MAX_DATABASE_CONNECTIONS),
        data_directory=Path(environment.get("PARTICIPANTS_DATA_DIR") or ".data").absolute(),
        grpc_address=grpc_address,
        http_address=_address(environment, "PARTICIPANTS_HTTP_ADDRESS", "127.0.0.1:8080"),
        operations_address=_address(environment, "PARTICIPANTS_OPERATIONS_ADDRESS", ""),
        tls=_tls(environment),
        tls_ca_file=_file(environment, "PARTICIPANTS_TLS_CA_FILE"),
        api_key=_api_key(environment),
        workers=_number(environment, "PARTICIPANTS_WORKERS", 1, MAX_WORKERS),
        reflection=_switch(environment, "PARTICIPANTS_REFLECTION", default=True),
        docs=_switch(environment, "PARTICIPANTS_DOCS", default=True),
        drain_seconds=_number(environment, "PARTICIPANTS_DRAIN_SECONDS", 0, MAX_DRAIN_SECONDS, minimum=0),
        log_format=_log_format(environment),
        # OpenTelemetry's own variables, which its library reads.
        tracing=any(environment.get(f"OTEL_EXPORTER_OTLP{part}_ENDPOINT") for part in ("", "_TRACES")),
    )


def read_database_url(file: Path) -> str:
    """Returns the connection URL that the file holds now. Raises ConfigurationError."""
    try:
        url = file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise ConfigurationError(f"DATABASE_URL_FILE: {file} cannot be read ({reason})") from None
    _check_database_url("DATABASE_URL_FILE", url)
    return url


def _database_url(environment: Mapping[str, str]) -> str | None:
    url = environment.get("DATABASE_URL")
    if not url:
        return None
    _check_database_url("DATABASE_URL", url)
    return url


def _check_database_url(variable: str, url: str) -> None:
    # The driver takes half the time of a command that asks the service, such as a health probe, and needs none.
    from psycopg import ProgrammingError  # noqa: PLC0415
    from psycopg.conninfo import conninfo_to_dict  # noqa: PLC0415

    try:
        parts = conninfo_to_dict(url)
    except ProgrammingError:
        parts = {}
    if parts and not _splits_password(url, parts):
        return
    # libpq's own message can repeat the URL, and with it the password.
    what = "holds no" if variable == "DATABASE_URL_FILE" else "is not a"
    raise ConfigurationError(
        f"{variable} {what} Postgres connection URL; write postgresql://USER:PASSWORD@HOST:PORT/DATABASE and "
        "percent-encode what is special in the password: @ is %40, / is %2F, % is %25, a space is %20"
    )


def _splits_password(url: str, parts: Mapping[str, object]) -> bool:
    """Returns whether libpq took part of a password for the host or the database, as it does at a bare @ or /."""
    misplaced = "@" in f"{parts.get('host', '')}{parts.get('dbname', '')}"
    return misplaced and url.count("@") > ("user" in parts)


def _address(environment: Mapping[str, str], name: str, default: str) -> Address | None:
    value = environment.get(name, default)
    if not value:
        return None
    match = re.fullmatch(r"(?:\[(?P<ipv6>[0-9A-Fa-f:.]+)\]|(?P<host>[^\s:\[\]/]+)):(?P<port>\d{1,5})", value)
    if match is None or int(match["port"]) > 65535:
        raise ConfigurationError(f"{name} is {value!r}, which is not HOST:PORT; write 127.0.0.1:8080 or [::1]:8080")
    return Address(match["ipv6"] or match["host"], int(match["port"]))


def _tls(environment: Mapping[str, str]) -> TlsFiles | None:
    names = ["PARTICIPANTS_TLS_CERT_FILE", "PARTICIPANTS_TLS_KEY_FILE", "PARTICIPANTS_TLS_CLIENT_CA_FILE"]
    paths = [_file(environment, name) for name in names]
    if not any(paths):
        return None
    certificate, key, client_ca = paths
    if certificate is None or key is None:
        raise ConfigurationError(
            f"{names[0]} and {names[1]} are needed for TLS: set both, or none of the TLS variables"
        )
    return TlsFiles(certificate, key, client_ca)


def _file(environment: Mapping[str, str], name: str) -> Path | None:
    path = Path(environment[name]).absolute() if environment.get(name) else None
    if path is not None and not path.is_file():
        raise ConfigurationError(f"{name}: there is no file {path}")
    return path


def _api_key(environment: Mapping[str, str]) -> str | None:
    key = environment.get("PARTICIPANTS_API_KEY")
    if not key:
        return None
    if re.fullmatch(r"sk_[\x21-\x7e]{1,252}", key) is None:
        raise ConfigurationError(
            "PARTICIPANTS_API_KEY is malformed; it is sk_ and up to 252 printable ASCII characters without spaces"
        )
    return key


def _number(environment: Mapping[str, str], name: str, default: int, maximum: int, *, minimum: int = 1) -> int:
    value = environment.get(name) or str(default)
    if not re.fullmatch(r"[0-9]{1,6}", value) or not minimum <= int(value) <= maximum:
        raise ConfigurationError(f"{name} is {value!r}; set it to a number from {minimum} to {maximum}")
    return int(value)


def _log_format(environment: Mapping[str, str]) -> str:
    value = environment.get("PARTICIPANTS_LOG_FORMAT") or "text"
    if value not in {"text", "json"}:
        raise ConfigurationError(f"PARTICIPANTS_LOG_FORMAT is {value!r}; set it to text or json")
    return value


def _switch(environment: Mapping[str, str], name: str, *, default: bool) -> bool:
    value = environment.get(name, "").lower()
    if value not in {"", "on", "off"}:
        raise ConfigurationError(f"{name} is {value!r}; set it to on or off")
    return default if value == "" else value == "on"
