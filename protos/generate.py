"""Writes the Python stubs and the protobuf image from the .proto files, offline.

    python protos/generate.py stubs DIRECTORY        the packages `participants` and `buf`, into DIRECTORY; and in
                                                     participants/protos the protos with all that they import, and
                                                     in participants/descriptors.binpb ours with their comments
    python protos/generate.py image FILE [PROTOS]    a descriptor set with imports and comments, for buf

The one import that no installed package carries as a .proto file is buf/validate/validate.proto; protovalidate
carries its descriptor, protoc reads that as well, and for those who need the file it is rendered from it.
"""

from __future__ import annotations

import sys
import sysconfig
import tempfile
from importlib import resources
from pathlib import Path
from typing import cast

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
    write_descriptors(directory / "participants" / "descriptors.binpb")
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


def write_descriptors(file: Path) -> None:
    """Writes the descriptors of our protos with what the stubs leave out of them: the comments."""
    compiled = descriptor_pb2.FileDescriptorSet.FromString(image())
    ours = [each for each in compiled.file if each.name in files(PROTOS)]
    file.write_bytes(descriptor_pb2.FileDescriptorSet(file=ours).SerializeToString(deterministic=True))


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
