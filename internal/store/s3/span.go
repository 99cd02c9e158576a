package s3

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"path"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/aws/smithy-go/middleware"
	"github.com/multidb-go/multidb/internal/trace"
	"github.com/superfly/ltx"
)

// SetTracer has t told of each attempt of a request, from its place in the gate to the end of
// its answer's body. Nil: nobody. Safe for concurrent use.
func (c *Client) SetTracer(t trace.Tracer) {
	if t == nil {
		c.tracer.Store(nil)
		return
	}
	c.tracer.Store(&t)
}

// span is one attempt that is traced. Nil: it is not. Safe for concurrent use.
type span struct {
	done   sync.Once
	finish func(trace.End)
	status int // set before the body is read
	bytes  atomic.Int64
}

// begin tells the tracer of an attempt; nil if there is none.
func (t *transport) begin(req *http.Request) *span {
	tracer := t.tracer.Load()
	if tracer == nil {
		return nil
	}
	ctx := req.Context()
	r := trace.Request{Operation: middleware.GetOperationName(ctx), Bucket: t.bucket, Attempt: 1, Bytes: req.ContentLength}
	// The SDK says it in a header: attempt=2; max=5.
	if _, err := fmt.Sscanf(req.Header.Get("Amz-Sdk-Request"), "attempt=%d", &r.Attempt); err != nil {
		r.Attempt = 1
	}
	r.Key = strings.TrimPrefix(req.URL.Path, "/")
	if t.pathStyle || !strings.HasPrefix(req.URL.Host, t.bucket+".") {
		r.Key = strings.TrimPrefix(strings.TrimPrefix(r.Key, t.bucket), "/")
	}
	if r.Key == "" {
		r.Prefix = req.URL.Query().Get("prefix")
	} else if _, last, err := ltx.ParseFilename(path.Base(r.Key)); err == nil {
		r.TXID = last
	}
	_, end := (*tracer).Start(ctx, trace.Span{Name: "request", ID: trace.ID(ctx), Request: r})
	return &span{finish: end}
}

// answered notes the status of the answer.
func (s *span) answered(status int) {
	if s != nil {
		s.status = status
	}
}

// received counts bytes of the body.
func (s *span) received(n int) {
	if s != nil {
		s.bytes.Add(int64(n))
	}
}

// read ends the span of an answer whose body was read or given up: err is io.EOF, nil, or what
// went wrong.
func (s *span) read(err error) {
	if errors.Is(err, io.EOF) {
		err = nil
	}
	s.end(err)
}

// end ends the span, once. An answer that says that something failed is its error.
func (s *span) end(err error) {
	if s == nil {
		return
	}
	s.done.Do(func() {
		if err == nil && s.status >= 300 && s.status != http.StatusNotFound && s.status != http.StatusPreconditionFailed {
			err = errors.New("the store answered " + strconv.Itoa(s.status) + " " + http.StatusText(s.status))
		}
		s.finish(trace.End{Status: s.status, Bytes: s.bytes.Load(), Err: err})
	})
}
