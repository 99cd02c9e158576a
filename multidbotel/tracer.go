// Package multidbotel traces a multidb.Manager with OpenTelemetry: a span for each call of
// Acquire, Sync and Restore, and one for each request to S3.
//
//	m, err := multidb.New(multidb.WithTracer(multidbotel.Tracer(provider)), …)
//
// A request is a child of the call that waits for it, as those of a Restore are. What Sync
// waits for is shipped in the background, for everybody who waits and for all that was committed:
// such requests are roots, with the database and the transaction as attributes. A sampler that
// looks at the parent thus decides about them by itself.
//
// Spans and attributes, with names of the semantic conventions where these have one:
//
//	multidb.acquire, multidb.sync, multidb.restore   internal; db.system.name, db.namespace (the
//	                      ID), multidb.txid (of a sync: durable; of a restore: the one asked for)
//	S3/PutObject, …       client; rpc.system.name, rpc.method, aws.s3.bucket, aws.s3.key,
//	                      multidb.s3.prefix (of a listing), db.namespace, multidb.txid,
//	                      http.response.status_code, http.request.body.size,
//	                      http.response.body.size, http.request.resend_count
//
// A failure sets the status of the span and error.type, which is the multidb.Reason with
// underscores. No attribute has a secret; IDs and keys name tenants.
//
// This is a module of its own, on the API of OpenTelemetry alone.
package multidbotel

import (
	"context"
	"strings"

	"github.com/multidb-go/multidb"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

// scope names who makes the spans.
const scope = "github.com/multidb-go/multidb"

// Tracer returns what multidb.WithTracer takes. Spans go to provider; nil: nowhere. It is safe for
// concurrent use, and starts nothing.
func Tracer(provider trace.TracerProvider) multidb.Tracer {
	if provider == nil {
		provider = noop.NewTracerProvider()
	}
	return tracer{provider.Tracer(scope)}
}

// WithTracerProvider is multidb.WithTracer(Tracer(provider)).
func WithTracerProvider(provider trace.TracerProvider) multidb.Option {
	return multidb.WithTracer(Tracer(provider))
}

type tracer struct{ to trace.Tracer }

// Start implements multidb.Tracer.
func (t tracer) Start(ctx context.Context, s multidb.Span) (context.Context, func(multidb.SpanEnd)) {
	name, kind := "multidb."+s.Name, trace.SpanKindInternal
	var attrs []attribute.KeyValue
	if s.ID != "" {
		attrs = append(attrs, attribute.String("db.namespace", s.ID))
	}
	request := s.Request.Operation != ""
	if request {
		name, kind = "S3/"+s.Request.Operation, trace.SpanKindClient
		attrs = append(attrs, ofRequest(s.Request)...)
	} else {
		attrs = append(attrs, attribute.String("db.system.name", "sqlite"))
	}
	ctx, span := t.to.Start(ctx, name, trace.WithSpanKind(kind), trace.WithAttributes(attrs...))
	return ctx, func(end multidb.SpanEnd) {
		finish(span, request, end)
		span.End()
	}
}

// ofRequest are the attributes of a request.
func ofRequest(r multidb.SpanRequest) []attribute.KeyValue {
	attrs := []attribute.KeyValue{
		attribute.String("rpc.system.name", "aws-api"),
		attribute.String("rpc.method", "S3/"+r.Operation),
		attribute.String("aws.s3.bucket", r.Bucket),
	}
	if r.Key != "" {
		attrs = append(attrs, attribute.String("aws.s3.key", r.Key))
	}
	if r.Prefix != "" {
		attrs = append(attrs, attribute.String("multidb.s3.prefix", r.Prefix))
	}
	if r.TXID != 0 {
		attrs = append(attrs, attribute.String("multidb.txid", r.TXID.String()))
	}
	if r.Bytes > 0 {
		attrs = append(attrs, attribute.Int64("http.request.body.size", r.Bytes))
	}
	if r.Attempt > 1 {
		attrs = append(attrs, attribute.Int("http.request.resend_count", r.Attempt-1))
	}
	return attrs
}

// finish says how a span ended.
func finish(span trace.Span, request bool, end multidb.SpanEnd) {
	if !span.IsRecording() {
		return
	}
	if end.TXID != 0 {
		span.SetAttributes(attribute.String("multidb.txid", end.TXID.String()))
	}
	if end.Status != 0 {
		span.SetAttributes(attribute.Int("http.response.status_code", end.Status))
	}
	if request {
		span.SetAttributes(attribute.Int64("http.response.body.size", end.Bytes))
	}
	if end.Err != nil {
		span.SetStatus(codes.Error, end.Err.Error())
		span.SetAttributes(attribute.String("error.type", strings.ReplaceAll(multidb.ReasonOf(end.Err).String(), " ", "_")))
	}
}
