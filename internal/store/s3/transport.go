package s3

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/smithy-go/middleware"
	"github.com/multidb-go/multidb/internal/trace"
)

// smallBody is read to its end while the request holds its place, so that its
// connection is free again at once: a restore opens hundreds of small files
// before it reads the first.
const smallBody = 64 << 10

// call follows one operation through its attempts.
type call struct { // for the operation's goroutine only
	attempts int
	open     int // those of them that may have been done, whatever was answered
}

type callKey struct{}

func withCall(ctx context.Context) (context.Context, *call) {
	c := new(call)
	return context.WithValue(ctx, callKey{}, c), c
}

// stallError is returned when an attempt made no progress for the request
// timeout. It is retried.
type stallError struct{ timeout time.Duration }

func (e *stallError) Error() string   { return fmt.Sprintf("no byte moved for %v", e.timeout) }
func (e *stallError) Timeout() bool   { return true }
func (e *stallError) Temporary() bool { return true }

// transport is what the SDK sends each attempt through: it waits for the gate,
// counts, and fails an attempt that stalls. It follows no redirects: a signed
// request is valid for one host only.
type transport struct {
	next    http.RoundTripper
	gate    *gate
	stats   *counters
	timeout time.Duration

	tracer    *atomic.Pointer[trace.Tracer]
	bucket    string
	pathStyle bool // the bucket is in the path, always; else where the host does not begin with it
}

// Do implements the SDK's HTTPClient.
func (t *transport) Do(req *http.Request) (*http.Response, error) {
	caller := req.Context()
	tk, err := t.gate.acquire(caller)
	if err != nil {
		return nil, err // the SDK closes the body
	}
	following, _ := caller.Value(callKey{}).(*call)
	if following != nil {
		following.attempts++
		following.open++ // until an answer says that it was refused
	}
	t.stats.request(caller, req.Method)

	span := t.begin(req)
	ctx, cancel := context.WithCancel(caller)
	w := &watchdog{timeout: t.timeout, cancel: cancel}
	req = req.WithContext(ctx)
	if req.Body != nil && req.Body != http.NoBody {
		req.Body = &requestBody{ReadCloser: req.Body, watch: w, n: &t.stats.bytesOut}
	}
	w.start()
	resp, err := t.next.RoundTrip(req)
	w.stop()
	if err != nil {
		cancel()
		if w.fired.Load() && caller.Err() == nil {
			err = &stallError{w.patience()}
		}
		if caller.Err() == nil {
			t.stats.errors.Add(1)
		}
		t.gate.done(tk, neutral, 0)
		span.end(err)
		return nil, err
	}

	if following != nil && refused(resp.StatusCode) {
		following.open--
	}
	result, retryAfter := t.judge(resp)
	leave := sync.OnceFunc(func() { t.gate.done(tk, result, retryAfter) })
	body := &responseBody{rc: resp.Body, watch: w, n: &t.stats.bytesIn, span: span, finish: func() { leave(); cancel() }}
	span.answered(resp.StatusCode)
	resp.Body = body
	switch {
	case req.Method == http.MethodHead || resp.ContentLength == 0:
		leave()
		span.end(nil)
	case middleware.GetOperationName(caller) != opGet || resp.StatusCode >= 300:
		// Read and closed by the SDK.
	case resp.ContentLength > 0 && resp.ContentLength <= smallBody:
		b, err := io.ReadAll(body)
		_ = body.Close() // nothing was written: no error of it matters
		if err != nil {
			if caller.Err() == nil {
				t.stats.errors.Add(1)
			}
			return nil, err
		}
		resp.Body = io.NopCloser(bytes.NewReader(b))
	default:
		// A reader may hold the body for minutes, and needs other requests
		// meanwhile: holding the place would be a deadlock.
		leave()
	}
	return resp, nil
}

// refused reports whether an answer says for certain that nothing was done. A server
// error does not: what answers may stand before the store, which had done it.
func refused(status int) bool {
	return status >= 400 && status < 500 && status != http.StatusRequestTimeout
}

// judge counts an answer and says what it means for the gate.
func (t *transport) judge(resp *http.Response) (outcome, time.Duration) {
	switch code := resp.StatusCode; {
	case code == http.StatusServiceUnavailable || code == http.StatusTooManyRequests:
		t.stats.errors.Add(1)
		t.stats.throttled.Add(1)
		seconds, err := strconv.ParseUint(resp.Header.Get("Retry-After"), 10, 16)
		if err != nil {
			seconds = 0 // none, or a date
		}
		return throttled, time.Duration(seconds) * time.Second
	case code < 300, code == http.StatusNotFound, code == http.StatusPreconditionFailed:
		return succeeded, 0
	default:
		t.stats.errors.Add(1)
		return neutral, 0
	}
}

// watchdog cancels an attempt when nothing moved for timeout. What was sent may
// stay longer in the buffers of this machine and of others, and move without being
// seen: every sentPerTimeout bytes of it allow one timeout more. Without that a slow
// uplink would never finish a large body, however often it is sent. Safe for
// concurrent use: net/http may still be sending while the answer is read.
type watchdog struct {
	timeout time.Duration
	cancel  context.CancelFunc
	fired   atomic.Bool

	mu      sync.Mutex
	timer   *time.Timer
	running bool
	sent    int64 // bytes of the request's body
}

const (
	sentPerTimeout = 4 << 20 // with the default timeout, 140 KB/s
	sentCounted    = 8 << 20 // what buffers hold at most: Linux has 4 MiB to send, 6 to receive
)

// patience is how long an attempt may go without visible progress.
func (w *watchdog) patience() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.patienceLocked()
}

func (w *watchdog) patienceLocked() time.Duration {
	return w.timeout + time.Duration(float64(w.timeout)*float64(min(w.sent, sentCounted))/sentPerTimeout)
}

func (w *watchdog) start() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.running = true
	w.sent = 0 // an answer has begun, or nothing was sent yet
	if w.timer != nil {
		w.timer.Reset(w.timeout)
		return
	}
	w.timer = time.AfterFunc(w.timeout, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.running {
			w.fired.Store(true)
			w.cancel()
		}
	})
}

// progress postpones the deadline, if there is one, for n bytes that were sent.
func (w *watchdog) progress(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.running {
		w.sent += int64(n)
		w.timer.Reset(w.patienceLocked())
	}
}

func (w *watchdog) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.running = false
	w.timer.Stop()
}

// requestBody counts what is sent and reports it as progress.
type requestBody struct {
	io.ReadCloser
	watch *watchdog
	n     *atomic.Int64
}

func (b *requestBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.n.Add(int64(n))
	b.watch.progress(n)
	return n, err
}

// responseBody counts what is received. Only the time inside Read is watched: a
// slow reader is no fault of the store.
type responseBody struct {
	rc     io.ReadCloser
	watch  *watchdog
	n      *atomic.Int64
	span   *span // nil: none
	finish func()
}

func (b *responseBody) Read(p []byte) (int, error) {
	b.watch.start()
	n, err := b.rc.Read(p)
	b.watch.stop()
	b.n.Add(int64(n))
	b.span.received(n)
	if err != nil {
		if err != io.EOF && b.watch.fired.Load() {
			err = &stallError{b.watch.timeout}
		}
		b.finish()
		b.span.read(err)
	}
	return n, err
}

func (b *responseBody) Close() error {
	// First, or closing would wait for a Read that is parked in the network.
	b.finish()
	b.span.read(nil)
	return b.rc.Close()
}
