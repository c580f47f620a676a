"""Writes the Python stubs and the protobuf image from the .proto files, offline.

    python protos/generate.py stubs DIRECTORY        the packages `participants` and `buf`, into DIRECTORY; and in
                                                     participants/protos the protos with all that they import, and
                                                     in participants/comments.json what our comments say
    python protos/generate.py image FILE [PROTOS]    a descriptor set with imports and comments, for buf

The one import that no installed package carries as a .proto file is buf/validate/validate.proto; protovalidate
carries its descriptor, protoc reads that as well, and for those who need the file it is rendered from it.
"""

from __future__ import annotations

import json
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any, cast

from google.protobuf import descriptor_pb2, descriptor_pool, duration_pb2, field_mask_pb2, timestamp_pb2
from google.protobuf.message_factory import GetMessageClass
from grpc_tools import protoc
from protovalidate._gen.buf.validate import validate_pb
from render import render

PROTOS = Path(__file__).parent
VALIDATE = "buf/validate/validate.proto"
VALIDATE_COMMENT = """Copyright 2023-2026 Buf Technologies, Inc.
Licensed under the Apache License, Version 2.0: http://www.apache.org/licenses/LICENSE-2.0

Rendered from the descriptor that protovalidate carries, which has no comments; https://protovalidate.com has them."""
# The .proto files that come with installed packages: google/protobuf with grpcio-tools, the rest of google with
# googleapis-common-protos.
INCLUDES = [str(resources.files("grpc_tools") / "_proto"), sysconfig.get_paths()["purelib"]]


def main(arguments: list[str]) -> int:
    match arguments:
        case ["stubs", directory]:
            return write_stubs(Path(directory))
        case ["image", file]:
            return write_image(Path(file), PROTOS)
        case ["image", file, protos]:
            return write_image(Path(file), Path(protos))
        case _:
            print(__doc__, file=sys.stderr)
            return 2


def write_stubs(directory: Path) -> int:
    directory.mkdir(parents=True, exist_ok=True)
    messages = [f"--python_out={directory}", f"--mypy_out={directory}"]
    services = [f"--grpc_python_out={directory}", f"--mypy_grpc_out={directory}"]
    write_protos(directory / "participants" / "protos")
    write_comments(directory / "participants" / "comments.json")
    return run_protoc(PROTOS, [*messages, VALIDATE]) or run_protoc(PROTOS, [*messages, *services, *files(PROTOS)])


def write_protos(directory: Path) -> None:
    """Writes our .proto files and all that they import, as a folder that needs no other."""
    for file in with_options(image()).file:
        target = directory / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        if file.name == VALIDATE:
            target.write_text(render(file, VALIDATE_COMMENT))
        else:
            [source] = [path for include in (PROTOS, *INCLUDES) if (path := Path(include) / file.name).exists()]
            target.write_bytes(source.read_bytes())


def write_comments(file: Path) -> None:
    """Writes what stands above each message, field and method of ours, by full name: stubs are without comments."""
    comments = {
        full_name(source, location.path): paragraphs(location.leading_comments)
        for source in descriptor_pb2.FileDescriptorSet.FromString(image()).file
        if source.name in files(PROTOS)
        for location in source.source_code_info.location
        if location.leading_comments and len(location.path) % 2 == 0
    }
    file.write_text(json.dumps(comments, indent=1, ensure_ascii=False) + "\n")


def full_name(file: descriptor_pb2.FileDescriptorProto, path: Sequence[int]) -> str:
    """Returns the name of what a path of SourceCodeInfo leads to: numbers of repeated fields, each with an index."""
    names, node = [file.package], cast("Any", file)
    for number, index in zip(path[::2], path[1::2], strict=True):
        node = getattr(node, node.DESCRIPTOR.fields_by_number[number].name)[index]
        names.append(node.name)
    return ".".join(names)


def paragraphs(comment: str) -> str:
    """Returns a comment without its line breaks, but for those between paragraphs."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in comment.strip().split("\n\n"))


def image() -> bytes:
    """Returns our protos with all that they import and their comments, as a serialized FileDescriptorSet."""
    with tempfile.NamedTemporaryFile(suffix=".binpb") as file:
        write_image(Path(file.name), PROTOS)
        return file.read()


def write_image(file: Path, protos: Path) -> int:
    options = [f"--descriptor_set_out={file}", "--include_imports", "--include_source_info"]
    return run_protoc(protos, [*options, *files(protos)])


def files(protos: Path) -> list[str]:
    return sorted(str(path.relative_to(protos)) for path in protos.rglob("*.proto"))


def run_protoc(protos: Path, arguments: list[str]) -> int:
    plugins = [
        f"--plugin=protoc-gen-{name}={Path(sys.executable).parent / f'protoc-gen-{name}'}"
        for name in ("mypy", "mypy_grpc")
    ]
    with tempfile.NamedTemporaryFile(suffix=".binpb") as descriptors:
        descriptors.write(validate_descriptors())
        descriptors.flush()
        includes = [f"-I{path}" for path in (protos, *INCLUDES)]
        return int(protoc.main(["protoc", *includes, f"--descriptor_set_in={descriptors.name}", *plugins, *arguments]))


def validate_descriptors() -> bytes:
    """Returns validate.proto and its imports as a serialized FileDescriptorSet."""
    imports = [
        module.DESCRIPTOR.serialized_pb for module in (descriptor_pb2, duration_pb2, field_mask_pb2, timestamp_pb2)
    ]
    own = validate_pb.desc().proto.to_binary()
    return descriptor_pb2.FileDescriptorSet(
        file=[descriptor_pb2.FileDescriptorProto.FromString(file) for file in (*imports, own)]
    ).SerializeToString()


def with_options(files: bytes) -> descriptor_pb2.FileDescriptorSet:
    """Reads a FileDescriptorSet, which comes with its imports first, so that the options that it defines are known."""
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(files).file:
        pool.Add(file)
    kind = GetMessageClass(pool.FindMessageTypeByName("google.protobuf.FileDescriptorSet"))
    return cast("descriptor_pb2.FileDescriptorSet", kind.FromString(files))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
