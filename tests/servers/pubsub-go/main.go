// Google's own in-memory Pub/Sub (cloud.google.com/go/pubsub/pstest), which speaks gRPC alone, behind as much of Pub/Sub's
// REST API as the tests use. The JSON is the protocol buffers' own, as it is at Google.
package main

import (
	"context"
	"flag"
	"io"
	"log"
	"net/http"
	"strings"

	pb "cloud.google.com/go/pubsub/apiv1/pubsubpb"
	"cloud.google.com/go/pubsub/pstest"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

type call func(ctx context.Context, name string, body []byte) (proto.Message, error)

var statuses = map[codes.Code]int{
	codes.InvalidArgument: http.StatusBadRequest,
	codes.NotFound:        http.StatusNotFound,
	codes.AlreadyExists:   http.StatusConflict,
	codes.Unimplemented:   http.StatusNotImplemented,
}

func read(body []byte, into proto.Message) error {
	if len(body) == 0 {
		return nil
	}
	if err := protojson.Unmarshal(body, into); err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	return nil
}

// calls are named by the method, the collection and the verb after the colon.
func calls(server *pstest.GServer) map[string]call {
	return map[string]call{
		"PUT topics ": func(ctx context.Context, name string, body []byte) (proto.Message, error) {
			topic := &pb.Topic{}
			if err := read(body, topic); err != nil {
				return nil, err
			}
			topic.Name = name
			return server.CreateTopic(ctx, topic)
		},
		"GET topics ": func(ctx context.Context, name string, _ []byte) (proto.Message, error) {
			return server.GetTopic(ctx, &pb.GetTopicRequest{Topic: name})
		},
		"POST topics publish": func(ctx context.Context, name string, body []byte) (proto.Message, error) {
			request := &pb.PublishRequest{}
			if err := read(body, request); err != nil {
				return nil, err
			}
			request.Topic = name
			return server.Publish(ctx, request)
		},
		"PUT subscriptions ": func(ctx context.Context, name string, body []byte) (proto.Message, error) {
			subscription := &pb.Subscription{}
			if err := read(body, subscription); err != nil {
				return nil, err
			}
			subscription.Name = name
			return server.CreateSubscription(ctx, subscription)
		},
		"POST subscriptions pull": func(ctx context.Context, name string, body []byte) (proto.Message, error) {
			request := &pb.PullRequest{}
			if err := read(body, request); err != nil {
				return nil, err
			}
			request.Subscription = name
			return server.Pull(ctx, request)
		},
		"POST subscriptions acknowledge": func(ctx context.Context, name string, body []byte) (proto.Message, error) {
			request := &pb.AcknowledgeRequest{}
			if err := read(body, request); err != nil {
				return nil, err
			}
			request.Subscription = name
			return server.Acknowledge(ctx, request)
		},
	}
}

func refuse(answer http.ResponseWriter, err error) {
	code, known := statuses[status.Code(err)]
	if !known {
		code = http.StatusInternalServerError
	}
	details, _ := protojson.Marshal(status.Convert(err).Proto())
	answer.WriteHeader(code)
	_, _ = answer.Write([]byte(`{"error":` + string(details) + `}`))
}

func main() {
	listen := flag.String("listen", "127.0.0.1:8085", "address to listen on")
	flag.Parse()
	server := pstest.NewServer()
	known := calls(&server.GServer)
	handle := func(answer http.ResponseWriter, request *http.Request) {
		answer.Header().Set("content-type", "application/json")
		name, verb, _ := strings.Cut(strings.TrimPrefix(request.URL.Path, "/v1/"), ":")
		parts := strings.Split(name, "/")
		body, err := io.ReadAll(request.Body)
		if err != nil || len(parts) != 4 {
			refuse(answer, status.Error(codes.InvalidArgument, "not a request of this API"))
			return
		}
		run, found := known[request.Method+" "+parts[2]+" "+verb]
		if !found {
			refuse(answer, status.Error(codes.Unimplemented, "not implemented"))
			return
		}
		result, err := run(request.Context(), name, body)
		if err != nil {
			refuse(answer, err)
			return
		}
		content, err := protojson.Marshal(result)
		if err != nil {
			refuse(answer, err)
			return
		}
		_, _ = answer.Write(content)
	}
	log.Fatal(http.ListenAndServe(*listen, http.HandlerFunc(handle)))
}
