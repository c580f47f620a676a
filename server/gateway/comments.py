"""The comments in the .proto files, which the stubs carry beside the code."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor


class Comments:
    """What stands above messages, fields and methods."""

    def __init__(self) -> None:
        self._comments: dict[str, str] = json.loads((files("participants") / "comments.json").read_text("utf-8"))

    def description(self, of: Descriptor | FieldDescriptor | MethodDescriptor) -> dict[str, Any]:
        """Returns the comment as OpenAPI's `description`; nothing where there is none, as with messages of others."""
        comment = self._comments.get(of.full_name)
        return {"description": comment} if comment else {}
