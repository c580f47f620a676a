"""Server reflection, in the two versions that tools ask for: v1, and v1alpha, its name of old. They look alike on the
wire, so one servicer answers both."""

from __future__ import annotations

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, text_format
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.reflection import aio

from server.api.servicer import SERVICE

_NAMES = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")


def _describe_v1() -> None:
    """Lets reflection describe itself in v1, too: the package carries the protos of v1alpha alone."""
    file = descriptor_pb2.FileDescriptorProto()
    reflection_pb2.DESCRIPTOR.CopyToProto(file)
    text = text_format.MessageToString(file).replace("v1alpha", "v1")
    descriptor_pool.Default().Add(text_format.Parse(text, descriptor_pb2.FileDescriptorProto()))


def reflection_handlers() -> list[grpc.GenericRpcHandler]:
    """Returns the handlers of both versions. They need no key."""
    _describe_v1()
    health = health_pb2.DESCRIPTOR.services_by_name["Health"]
    servicer = aio.ReflectionServicer((SERVICE.full_name, health.full_name, *_NAMES))
    method = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    return [grpc.method_handlers_generic_handler(name, {"ServerReflectionInfo": method}) for name in _NAMES]
