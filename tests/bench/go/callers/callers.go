// Callers plays callers of CreateParticipant with grpc-go, as a service written in Go would call: whole messages made
// and read, several calls at a time on each connection.
//
// It reads a job as JSON from standard input. It prints a line when the window of measurement begins, another when it
// ends, and then, once the last calls are answered, what it saw as JSON. A call that fails ends it.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/encoding/protojson"

	_ "bench/codec"
	"bench/messages"
)

// job is what to do. Example is a request as JSON, in which each call changes the external_id and one attribute.
type job struct {
	Address              string
	Key                  string
	Callers              int
	CallersPerConnection int
	WarmUp               float64
	Seconds              float64
	First                int64
	Participants         int64
	Stride               int64
	Example              json.RawMessage
	Changing             string
}

type seen struct {
	Latencies    []float64 `json:"latencies"`
	Seconds      float64   `json:"seconds"`
	GeneratorCPU float64   `json:"generator_cpu"`
	Next         int64     `json:"next"`
}

// caller has one call under way at a time, and what it saw since the window began.
type caller struct {
	mutex     sync.Mutex
	latencies []float64
}

func main() {
	var todo job
	if err := json.NewDecoder(os.Stdin).Decode(&todo); err != nil {
		log.Fatal(err)
	}
	var example messages.CreateParticipantRequest
	if err := protojson.Unmarshal(todo.Example, &example); err != nil {
		log.Fatal(err)
	}
	next, stopped := todo.First, make(chan struct{})
	callers := make([]*caller, todo.Callers)
	var running sync.WaitGroup
	var client messages.ParticipantServiceClient
	for n := range callers {
		if n%todo.CallersPerConnection == 0 {
			client = connect(todo.Address)
		}
		callers[n] = &caller{}
		running.Add(1)
		go func(c *caller, client messages.ParticipantServiceClient) {
			defer running.Done()
			c.call(client, &todo, &example, &next, stopped)
		}(callers[n], client)
	}
	report := measure(&todo, callers)
	close(stopped)
	running.Wait()
	report.Next = atomic.LoadInt64(&next)
	if err := json.NewEncoder(os.Stdout).Encode(report); err != nil {
		log.Fatal(err)
	}
}

func connect(address string) messages.ParticipantServiceClient {
	connection, err := grpc.Dial(address, grpc.WithInsecure(), grpc.WithBlock())
	if err != nil {
		log.Fatal(err)
	}
	return messages.NewParticipantServiceClient(connection)
}

func (c *caller) call(
	client messages.ParticipantServiceClient, todo *job, example *messages.CreateParticipantRequest, next *int64,
	stopped <-chan struct{},
) {
	ctx := metadata.AppendToOutgoingContext(context.Background(), "x-api-key", todo.Key)
	for {
		select {
		case <-stopped:
			return
		default:
		}
		request := request(todo, example, atomic.AddInt64(next, 1)-1)
		started := time.Now()
		response, err := client.CreateParticipant(ctx, request)
		latency := time.Since(started).Seconds()
		if err != nil {
			log.Fatal(err)
		}
		if response.GetParticipant().GetExternalId() == "" {
			log.Fatal("a call was answered without a participant")
		}
		c.mutex.Lock()
		c.latencies = append(c.latencies, latency)
		c.mutex.Unlock()
	}
}

func request(todo *job, example *messages.CreateParticipantRequest, number int64) *messages.CreateParticipantRequest {
	attributes := make(map[string]string, len(example.Attributes))
	for key, value := range example.Attributes {
		attributes[key] = value
	}
	attributes[todo.Changing] = fmt.Sprintf("%010d", number)
	return &messages.CreateParticipantRequest{
		ExternalId:  fmt.Sprintf("user-%07d", number*todo.Stride%todo.Participants),
		DisplayName: example.DisplayName,
		Email:       example.Email,
		FirstName:   example.FirstName,
		LastName:    example.LastName,
		Phone:       example.Phone,
		Attributes:  attributes,
		Tags:        example.Tags,
	}
}

// measure waits for the window to begin and to end, and returns what was answered in it.
func measure(todo *job, callers []*caller) seen {
	sleep(todo.WarmUp)
	take(callers)
	started, cpu := time.Now(), processorTime()
	fmt.Println("begins")
	sleep(todo.Seconds)
	latencies := take(callers)
	report := seen{Latencies: latencies, Seconds: time.Since(started).Seconds(), GeneratorCPU: processorTime() - cpu}
	fmt.Println("ends")
	return report
}

func sleep(seconds float64) {
	time.Sleep(time.Duration(seconds * float64(time.Second)))
}

// take returns the latencies of all callers, and leaves them none.
func take(callers []*caller) []float64 {
	all := []float64{}
	for _, c := range callers {
		c.mutex.Lock()
		all = append(all, c.latencies...)
		c.latencies = nil
		c.mutex.Unlock()
	}
	return all
}

// processorTime returns how many seconds of it this process has used, user and system.
func processorTime() float64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		log.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()).Seconds()
}
