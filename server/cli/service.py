"""The running service, as a command that is a client of it sees it."""

from __future__ import annotations

from server.config import DEVELOPMENT_KEY_FILE, Settings
from server.errors import CommandError


def api_key(settings: Settings) -> str:
    """Returns the key to send: PARTICIPANTS_API_KEY, or the one that a first start made. Raises CommandError."""
    if settings.api_key:
        return settings.api_key
    development_key = settings.data_directory / DEVELOPMENT_KEY_FILE
    if settings.database_url is None and development_key.exists():
        return development_key.read_text().strip()
    raise CommandError("there is no API key to send; set PARTICIPANTS_API_KEY: `participants keys create` makes one")
