"""Writes the Python stubs and the protobuf image from the .proto files, offline.

    python protos/generate.py stubs DIRECTORY        the packages `participants` and `buf`, into DIRECTORY
    python protos/generate.py image FILE [PROTOS]    a descriptor set with imports and comments, for buf

The one import that no installed package carries as a .proto file is buf/validate/validate.proto; protovalidate
carries its descriptor, and protoc reads that as well.
"""

from __future__ import annotations

import sys
import sysconfig
import tempfile
from importlib import resources
from pathlib import Path

from google.protobuf import descriptor_pb2, duration_pb2, field_mask_pb2, timestamp_pb2
from grpc_tools import protoc
from protovalidate._gen.buf.validate import validate_pb

PROTOS = Path(__file__).parent
VALIDATE = "buf/validate/validate.proto"
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
    return run_protoc(PROTOS, [*messages, VALIDATE]) or run_protoc(PROTOS, [*messages, *services, *files(PROTOS)])


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


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
