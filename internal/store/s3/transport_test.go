package s3

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/multidb-go/multidb/internal/trace"
)

// TestABodyThatWasSentHasTimeToArrive takes a body at once, as the buffers of a
// slow uplink do, and answers after a while.
func TestABodyThatWasSentHasTimeToArrive(t *testing.T) {
	const timeout = 30 * time.Second
	for _, tc := range []struct {
		size  int
		after time.Duration
		stall bool
	}{
		{0, timeout - time.Second, false},
		{0, timeout + time.Second, true},
		{4 << 20, 2*timeout - time.Second, false},
		{4 << 20, 2*timeout + time.Second, true},
		{8 << 20, 3*timeout - time.Second, false},
		{64 << 20, 3*timeout + time.Second, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			tr := &transport{gate: newGate(1), stats: new(counters), timeout: timeout, tracer: new(atomic.Pointer[trace.Tracer]),
				next: roundTrip(func(r *http.Request) (*http.Response, error) {
					if _, err := io.Copy(io.Discard, r.Body); err != nil {
						return nil, err
					}
					select {
					case <-time.After(tc.after):
						return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody, Request: r}, nil
					case <-r.Context().Done():
						return nil, r.Context().Err()
					}
				})}
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://store/", bytes.NewReader(make([]byte, tc.size)))
			if err != nil {
				t.Fatal(err)
			}
			if tc.size == 0 {
				req.Body = http.NoBody
			}
			resp, err := tr.Do(req)
			var stall *stallError
			if errors.As(err, &stall) != tc.stall || err == nil == tc.stall {
				t.Errorf("%d bytes, an answer after %v: %v", tc.size, tc.after, err)
			}
			if err == nil {
				_ = resp.Body.Close()
			}
		})
	}
}
