// Package codec has gRPC marshal with the protobuf runtime that the generated messages are for. Importing it is enough.
//
// Debian's grpc-go is built on the runtime before, which finds no fields in these messages.
package codec

import (
	"fmt"

	"google.golang.org/grpc/encoding"
	"google.golang.org/protobuf/proto"
)

type current struct{}

func init() {
	encoding.RegisterCodec(current{})
}

// Name takes the place of the codec that gRPC uses unless told otherwise.
func (current) Name() string {
	return "proto"
}

func (current) Marshal(value interface{}) ([]byte, error) {
	message, ok := value.(proto.Message)
	if !ok {
		return nil, fmt.Errorf("%T is no message", value)
	}
	return proto.Marshal(message)
}

func (current) Unmarshal(data []byte, value interface{}) error {
	message, ok := value.(proto.Message)
	if !ok {
		return fmt.Errorf("%T is no message", value)
	}
	return proto.Unmarshal(data, message)
}
