package multidb

import (
	"context"

	"github.com/multidb-go/multidb/internal/trace"
)

// Tracer follows what takes time: the calls of Acquire (also those of Do), Sync and Restore,
// and each request to the store. Package multidbotel has one for OpenTelemetry.
//
// Start is called when something begins, with the context of the caller, and returns the
// context for what is done inside, and what is called once when that has ended. Both must be
// quick. A request that nobody waits for, such as one of the uploads in the background, which
// many commits and callers of Sync share, comes without a span in its context. Safe for
// concurrent use.
type Tracer interface {
	Start(ctx context.Context, s Span) (context.Context, func(SpanEnd))
}

// Span is what a Tracer is told at the beginning: Name is "acquire", "sync", "restore" or
// "request", ID the database's, empty where a request is not known to be of one database.
// Request is zero but of a request. None has a secret.
type Span = trace.Span

// SpanRequest is one attempt of a request to the store: the Operation as the store calls it
// ("PutObject"), the Bucket, the Key of the object or the Prefix of a listing, the TXID that an
// LTX file ends with, the Attempt from 1 on, and the Bytes of the body that is sent.
type SpanRequest = trace.Request

// SpanEnd is what a Tracer is told at the end. TXID is that of a Sync, Status and Bytes are of
// the answer to a request: its HTTP status, 0 for none, and the bytes of its body that were
// read. Err is why it failed. Of requests the answers 404 and 412 are no failures.
type SpanEnd = trace.End

// ReplicaTracer is an optional interface of a ReplicaFactory: it traces its requests. Nil
// ends that.
type ReplicaTracer interface {
	SetTracer(t Tracer)
}

// SetTracer implements ReplicaTracer. Safe for concurrent use; requests that are under way are
// not told.
func (r *S3Replica) SetTracer(t Tracer) { r.client.SetTracer(t) }
