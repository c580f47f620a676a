"""Version 1: `participant_pb2` has the nouns, `participant_service_pb2` the requests and responses, and
`participant_service_pb2_grpc` the client stub."""
