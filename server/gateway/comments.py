"""The comments in the .proto files, as OpenAPI has them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto

from server.api.sources import described_files


class Comments:
    """What stands above messages, fields and methods."""

    def __init__(self) -> None:
        self._comments = {name: comment for file in described_files() for name, comment in _comments(file)}

    def description(self, of: Descriptor | FieldDescriptor | MethodDescriptor) -> dict[str, Any]:
        """Returns the comment as OpenAPI's `description`; nothing where there is none, as with messages of others."""
        comment = self._comments.get(of.full_name)
        return {"description": comment} if comment else {}


def _comments(file: FileDescriptorProto) -> Iterator[tuple[str, str]]:
    for location in file.source_code_info.location:
        # Of an odd length are the paths of what is no element of a list, such as the package.
        if location.leading_comments and len(location.path) % 2 == 0:
            yield _full_name(file, location.path), _paragraphs(location.leading_comments)


def _full_name(file: FileDescriptorProto, path: Sequence[int]) -> str:
    """Returns the name of what a path of SourceCodeInfo leads to: numbers of repeated fields, each with an index."""
    names, node = [file.package], cast("Any", file)
    for number, index in zip(path[::2], path[1::2], strict=True):
        node = getattr(node, node.DESCRIPTOR.fields_by_number[number].name)[index]
        names.append(node.name)
    return ".".join(names)


def _paragraphs(comment: str) -> str:
    """Returns a comment without its line breaks, but for those between paragraphs."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in comment.strip().split("\n\n"))
