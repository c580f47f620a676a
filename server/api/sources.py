"""The descriptors of the API's .proto files with their comments, which the ones in the stubs are without."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.resources import files

from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet


def described_files() -> Iterable[FileDescriptorProto]:
    """Returns the descriptor of each file, with `source_code_info`."""
    return FileDescriptorSet.FromString((files("participants") / "descriptors.binpb").read_bytes()).file
