// Server is the service as one would write it in Go: grpc-go and pgx, one statement a request.
//
// Usage: server CONNINFO SQL. It prints the address it listens on.
package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log"
	"net"
	"os"
	"time"

	"github.com/jackc/pgx/v4/pgxpool"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	_ "bench/codec"
	"bench/messages"
)

// As many as the Python service with one statement a request has.
const poolSize = 8

type digest = [sha256.Size]byte

type service struct {
	messages.UnimplementedParticipantServiceServer
	pool          *pgxpool.Pool
	upsert        string
	organizations map[digest]string
}

func main() {
	if len(os.Args) != 3 {
		log.Fatal("usage: server CONNINFO SQL")
	}
	ctx := context.Background()
	pool, err := connect(ctx, os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	organizations, err := keys(ctx, pool)
	if err != nil {
		log.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	server := grpc.NewServer()
	messages.RegisterParticipantServiceServer(server, &service{pool: pool, upsert: os.Args[2], organizations: organizations})
	fmt.Println(listener.Addr())
	log.Fatal(server.Serve(listener))
}

func connect(ctx context.Context, conninfo string) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(conninfo)
	if err != nil {
		return nil, err
	}
	config.MinConns, config.MaxConns = poolSize, poolSize
	return pgxpool.ConnectConfig(ctx, config)
}

// keys returns whom each key belongs to, by the key's digest.
func keys(ctx context.Context, pool *pgxpool.Pool) (map[digest]string, error) {
	rows, err := pool.Query(ctx, "SELECT digest, organization_id::text FROM api_keys")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	organizations := map[digest]string{}
	for rows.Next() {
		var stored []byte
		var organization string
		if err := rows.Scan(&stored, &organization); err != nil {
			return nil, err
		}
		var key digest
		copy(key[:], stored)
		organizations[key] = organization
	}
	return organizations, rows.Err()
}

// CreateParticipant creates a participant or updates it.
func (s *service) CreateParticipant(
	ctx context.Context, request *messages.CreateParticipantRequest,
) (*messages.CreateParticipantResponse, error) {
	organization, known := s.organization(ctx)
	if !known {
		return nil, status.Error(codes.Unauthenticated, "the API key is not valid")
	}
	parameters, err := parameters(organization, request)
	if err != nil {
		return nil, err
	}
	participant := &messages.Participant{}
	var state, attributes string
	var createdAt, updatedAt time.Time
	var created bool
	err = s.pool.QueryRow(ctx, s.upsert, parameters...).Scan(
		&participant.Id, &participant.ExternalId, &state, &participant.DisplayName, &participant.Email,
		&participant.FirstName, &participant.LastName, &participant.Phone, &attributes, &participant.Tags,
		&createdAt, &updatedAt, &created,
	)
	if err != nil {
		log.Print(err)
		return nil, status.Error(codes.Internal, "internal error")
	}
	if err := json.Unmarshal([]byte(attributes), &participant.Attributes); err != nil {
		return nil, err
	}
	participant.Status = messages.Participant_Status(messages.Participant_Status_value[state])
	participant.CreatedAt, participant.UpdatedAt = timestamppb.New(createdAt), timestamppb.New(updatedAt)
	result := messages.CreateParticipantResponse_UPDATED
	if created {
		result = messages.CreateParticipantResponse_CREATED
	}
	return &messages.CreateParticipantResponse{Participant: participant, Result: result}, nil
}

func (s *service) organization(ctx context.Context) (string, bool) {
	received, _ := metadata.FromIncomingContext(ctx)
	values := received.Get("x-api-key")
	if len(values) == 0 {
		return "", false
	}
	organization, known := s.organizations[sha256.Sum256([]byte(values[0]))]
	return organization, known
}

// parameters returns those of the statement, in its order.
func parameters(organization string, request *messages.CreateParticipantRequest) ([]interface{}, error) {
	id, err := uuid7()
	if err != nil {
		return nil, err
	}
	var state *string
	if request.Status != messages.Participant_STATUS_UNSPECIFIED {
		name := request.Status.String()
		state = &name
	}
	attributes := []byte("{}")
	if len(request.Attributes) > 0 {
		if attributes, err = json.Marshal(request.Attributes); err != nil {
			return nil, err
		}
	}
	tags := request.Tags
	if tags == nil {
		tags = []string{} // nil would be NULL
	}
	return []interface{}{
		organization, id, request.ExternalId, state, request.DisplayName, request.Email, request.FirstName,
		request.LastName, request.Phone, string(attributes), tags,
	}, nil
}

// uuid7 returns a UUID that begins with the time (RFC 9562, section 5.7).
func uuid7() (string, error) {
	var id [16]byte
	if _, err := rand.Read(id[6:]); err != nil {
		return "", err
	}
	var now [8]byte
	binary.BigEndian.PutUint64(now[:], uint64(time.Now().UnixMilli()))
	copy(id[:6], now[2:])
	id[6] = 0x70 | id[6]&0x0f
	id[8] = 0x80 | id[8]&0x3f
	digits := hex.EncodeToString(id[:])
	return digits[:8] + "-" + digits[8:12] + "-" + digits[12:16] + "-" + digits[16:20] + "-" + digits[20:], nil
}
