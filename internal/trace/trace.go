// Package trace has what a tracer is told: spans of operations and of requests to a store. It
// traces nothing by itself. Values and contexts alone.
package trace

import (
	"context"

	"github.com/superfly/ltx"
)

// Tracer follows operations. Safe for concurrent use.
type Tracer interface {
	Start(ctx context.Context, s Span) (context.Context, func(End))
}

// Span is what begins.
type Span struct {
	Name    string // acquire, sync, restore, or request: one to the store
	ID      string // of the database; empty where that is not known, as of what many share
	Request Request
}

// Request is one attempt of a request to a store.
type Request struct {
	Operation string // as the store calls it: PutObject
	Bucket    string
	Key       string   // of the object; empty if the request is not about one
	Prefix    string   // of a listing
	TXID      ltx.TXID // that the object ends with, if it is an LTX file; else zero
	Attempt   int      // 1, or more if it is a repetition
	Bytes     int64    // of the body that is sent; -1: not known
}

// End is how a span ended.
type End struct {
	TXID   ltx.TXID // of sync: what is durable
	Status int      // of a request: the HTTP status; 0: no answer
	Bytes  int64    // of a request: of the body that was received
	Err    error    // why it failed; nil if it did not
}

type idKey struct{}

// WithID says of which database requests under ctx are.
func WithID(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, idKey{}, id)
}

// ID is what WithID has said; empty: nothing.
func ID(ctx context.Context) string {
	id, _ := ctx.Value(idKey{}).(string)
	return id
}

// Begin begins the span of an operation on a database, if there is a tracer. What it returns
// is called at its end.
func Begin(ctx context.Context, t Tracer, name, id string) (context.Context, func(End)) {
	if t == nil {
		return ctx, nobody
	}
	ctx, end := t.Start(ctx, Span{Name: name, ID: id})
	return WithID(ctx, id), end
}

// nobody is told.
func nobody(End) {}
