"""What every call passes through, whichever transport it came by: deadline, key, decoding, errors, telemetry."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.message import Message
from google.rpc import status_pb2
from uuid_utils import uuid4

from server.api.batch_answers import BatchAnswer
from server.api.stints import Stints
from server.api.turns import BATCH, CALL, Kind, Turn, Turns
from server.auth.authenticator import Authenticator
from server.errors import Internal, ServiceError
from server.operations.telemetry import Telemetry

logger = logging.getLogger(__name__)

# For callers that set no deadline, and the longest that one may set; in seconds.
DEFAULT_TIMEOUT = 10.0
MAX_TIMEOUT = 60.0
# The RPCs whose requests are many in one.
BATCHES = frozenset({"BatchCreateParticipants"})

_SANE_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}", re.ASCII)


@dataclass(slots=True)
class Call:
    """What a servicer's method is told beside the request. `deadline` is on the event loop's clock.

    `turn` is to be ended early by a method that waits for something which delays this caller alone; `refused` is what
    is said of items of a batch that could not be decoded, by their number.
    """

    organization_id: str
    deadline: float
    metadata: MutableMapping[str, Any]
    given_request_id: str | None
    turn: Turn
    refused: Mapping[int, status_pb2.Status] = field(default_factory=dict)

    @property
    def request_id(self) -> str:
        """The id that the answer names. Only what goes wrong needs one, so it is not made before."""
        self.given_request_id = self.given_request_id or request_id_from(self.metadata)
        return self.given_request_id


Response = Message | BatchAnswer
Method = Callable[[Any, Call], Awaitable[Response]]
# Reads and decodes the request of a caller who is known now: given the organization's id and the deadline on the event
# loop's clock. Raises ServiceError.
Receive = Callable[[str, float], Awaitable[Message]]


def request_id_from(metadata: MutableMapping[str, Any]) -> str:
    """Returns the caller's `x-request-id` when it is sane, else a new one, put there for whoever asks next."""
    given = metadata.get("x-request-id")
    if isinstance(given, str) and _SANE_REQUEST_ID.fullmatch(given):
        return given
    made = metadata["x-request-id"] = uuid4().hex
    return made


def presented_key(metadata: Mapping[str, str | bytes]) -> str | None:
    """Returns the API key in `x-api-key` or `authorization: Bearer`, or None where there is none."""
    key = metadata.get("x-api-key")
    if key is None:
        authorization = metadata.get("authorization")
        if not isinstance(authorization, str):
            return None
        scheme, _, key = authorization.partition(" ")
        if scheme.lower() != "bearer":
            return None
    return key.strip() if isinstance(key, str) else None


class Interceptor:
    """Runs a method of the servicer for a caller, and lets nothing but a ServiceError out."""

    def __init__(self, authenticator: Authenticator, turns: Turns, telemetry: Telemetry) -> None:
        self._authenticator = authenticator
        self._turns = turns
        self.stints = Stints(turns)
        self._telemetry = telemetry
        self._loop = asyncio.get_running_loop()

    async def run(
        self,
        name: str,
        method: Method,
        receive: Receive,
        metadata: MutableMapping[str, Any],
        *,
        request_id: str | None = None,
        time_left: float | None,
        peer: Callable[[], str],
        known: Callable[[str], None] | None = None,
        is_large: bool = False,
    ) -> Response:
        """Authenticates, waits for the caller's turn, then receives the request, then calls the method.

        `metadata` has lower-case names; `request_id` is the one the answer has, None for one that only a failure has;
        `time_left` is what is left of the caller's deadline, in seconds; `peer` tells where it calls from; `known` is
        told whose the call is, before its turn; `is_large` says that the request takes as long to decode as a batch
        does, and so has its turn like one. Nothing of a request is read before its caller is known. The deadline
        is kept where a call waits, and not here: a timer around every call would cost more than the rest of this
        method.
        """
        started = time.perf_counter()
        span = self._telemetry.call_started(name, metadata)
        key = presented_key(metadata)
        code, reason = "INTERNAL", None
        organization_id = turn = None
        deadline = self._loop.time() + min(DEFAULT_TIMEOUT if time_left is None else time_left, MAX_TIMEOUT)
        try:
            organization_id = await self._authenticator.authenticate(key, deadline)
            if known is not None:
                known(organization_id)
            kind = BATCH if is_large or name in BATCHES else CALL
            turn = await self._turn(organization_id, kind, deadline)
            request = await receive(organization_id, deadline)
            if turn.has_lapsed:
                # Else many could have their requests arrive slowly, and then be worked on at once.
                turn = await self._turn(organization_id, kind, deadline)
            response = await method(request, Call(organization_id, deadline, metadata, request_id, turn))
        except Internal:
            # It has been logged where it was found.
            raise Internal(request_id or request_id_from(metadata)) from None
        except ServiceError as error:
            code, reason = error.code.name, error.reason
            raise
        except asyncio.CancelledError:
            code = "CANCELLED"
            raise
        except Exception:
            request_id = request_id or request_id_from(metadata)
            logger.exception("%s failed, request id %s", name, request_id)
            raise Internal(request_id) from None
        else:
            code = "OK"
            return response
        finally:
            if turn is not None:
                turn.end()
            self._telemetry.call_ended(
                name, code, started, span=span, reason=reason, organization_id=organization_id,
                key=key, metadata=metadata,
                request_id=lambda: request_id_from(metadata), peer=peer,
            )  # fmt: skip

    def not_begun(self, name: str, error: ServiceError, peer: Callable[[], str]) -> None:
        """Counts a call that came to an end before anything was known of it."""
        span = self._telemetry.call_started(name, {})
        self._telemetry.call_ended(
            name, error.code.name, time.perf_counter(), span=span, reason=error.reason,
            organization_id=None, key=None, metadata={}, request_id=lambda: request_id_from({}), peer=peer,
        )  # fmt: skip

    async def _turn(self, organization_id: str, kind: Kind, deadline: float) -> Turn:
        turn = self._turns.try_begin(organization_id, kind)
        return turn if turn is not None else await self._turns.begin(organization_id, kind, deadline)
