"""Bodies to JSON values, strict about what is repeated, and clear about where something is wrong."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from server.errors import InvalidArgument


class _Repetitive(dict[str, Any]):
    """A JSON object that names keys more than once. `repeated` are those keys."""

    repeated: tuple[str, ...]


def parsed(body: bytes) -> dict[str, Any]:
    """Returns the JSON object that a body is. Raises InvalidArgument, which says where it is none."""
    return as_object(_value(body), "the body")


def as_object(value: Any, what: str) -> dict[str, Any]:
    """Returns a value that is a JSON object. Raises InvalidArgument, which calls it `what`, where it is none."""
    if not isinstance(value, dict):
        raise _not_json(f"{what} must be a JSON object")
    return value


def repeated_keys(value: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns the keys that stand more than once in a JSON object; the value that it has is the last."""
    return value.repeated if isinstance(value, _Repetitive) else ()


def _value(body: bytes) -> Any:
    try:
        return _DECODER.decode(body.decode())
    except RecursionError:
        raise _not_json("the body is nested too deeply") from None
    except UnicodeDecodeError as error:
        raise _not_json(f"the body is not UTF-8: byte {error.start + 1} is not a character's") from None
    except json.JSONDecodeError as error:
        raise _not_json(
            f"the body is not JSON: {_problem(error)} at line {error.lineno}, column {error.colno}"
        ) from None
    except ValueError:
        # NaN, an infinity, or more digits than Python converts.
        raise _not_json(
            "the body is not JSON: it has a number that JSON does not have, or one of far too many digits"
        ) from None


def _problem(error: json.JSONDecodeError) -> str:
    if error.doc.startswith("\ufeff"):
        return "a byte order mark"
    rest = error.doc[error.pos :].lstrip()
    before = error.doc[: error.pos].rstrip()
    if before.endswith(",") and rest[:1] in {"}", "]"}:
        return "a trailing comma"
    if not rest:
        return "it ends too early"
    return error.msg[:1].lower() + error.msg[1:]


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) == len(pairs):
        return value
    repetitive = _Repetitive(value)
    repetitive.repeated = tuple(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
    return repetitive


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")


# Made once: json.loads makes one each time.
_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_no_constant)


def _not_json(message: str) -> InvalidArgument:
    return InvalidArgument((), message, reason="MALFORMED_JSON")
