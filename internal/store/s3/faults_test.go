package s3

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/superfly/ltx"
)

func TestEveryAttemptIsCounted(t *testing.T) {
	f := newFakeS3(t)
	c := newClient(t, f.config())
	p := c.Prefix("p")
	data := ltxBytes(t, 1, 1000)
	var n atomic.Int64
	f.setFault(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if n.Add(1) <= 2 {
			_, _ = io.Copy(io.Discard, r.Body)
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		next.ServeHTTP(w, r)
	})
	mustWrite(t, p, 0, 1, 1, data)
	if s, want := c.Stats(), (Stats{Put: 3, Errors: 2, BytesOut: 3000}); s != want {
		t.Errorf("after a put: %+v, want %+v", s, want)
	}
	rc, err := p.OpenLTXFile(t.Context(), 0, 1, 1, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	_ = rc.Close()
	if s, want := c.Stats(), (Stats{Put: 3, Get: 1, Errors: 2, BytesOut: 3000, BytesIn: 1000}); s != want {
		t.Errorf("after a get: %+v, want %+v", s, want)
	}
	if _, err := p.OpenLTXFile(t.Context(), 0, 2, 2, 0, 0); !isMissing(err) {
		t.Fatal(err)
	}
	if _, err := p.WriteLTXFile(t.Context(), 0, 1, 1, bytes.NewReader(data)); err == nil {
		t.Fatal("no error")
	}
	if s := c.Stats(); s.Errors != 2 || s.Get != 2 || s.Put != 4 || s.Total() != 6 {
		t.Errorf("after a 404 and a 412: %+v", s)
	}
}

func TestAStormOf503BacksOffAndRecovers(t *testing.T) {
	f := newFakeS3(t)
	cfg := f.config()
	cfg.MaxAttempts = 10
	c := newClient(t, cfg)
	var answered atomic.Int64
	f.setFault(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if answered.Add(1) <= 20 {
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = io.WriteString(w, `<Error><Code>SlowDown</Code></Error>`)
			return
		}
		next.ServeHTTP(w, r)
	})
	var wg sync.WaitGroup
	for i := range ltx.TXID(64) {
		wg.Go(func() {
			if _, err := c.Prefix("p").WriteLTXFile(t.Context(), 0, i+1, i+1, bytes.NewReader(ltxBytes(t, 1, 300))); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	s := c.Stats()
	if s.Throttled != 20 || s.Errors != 20 || s.Put != 84 {
		t.Errorf("stats %+v, want 84 puts of which 20 throttled", s)
	}
	c.gate.mu.Lock()
	defer c.gate.mu.Unlock()
	if c.gate.round == 0 || c.gate.inFlight != 0 || c.gate.backoff != 0 {
		t.Errorf("%d pauses, %d in flight, back-off %v", c.gate.round, c.gate.inFlight, c.gate.backoff)
	}
}

func TestThrottlingWithoutEndIsAnError(t *testing.T) {
	f := newFakeS3(t)
	cfg := f.config()
	cfg.MaxAttempts = 2
	c := newClient(t, cfg)
	f.setFault(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		w.WriteHeader(http.StatusTooManyRequests)
	})
	_, err := c.Prefix("p").AllLTXFiles(t.Context(), false)
	if !errors.Is(err, ErrThrottled) || c.Stats().Throttled != 2 {
		t.Errorf("got %v, %+v", err, c.Stats())
	}
}

// hang makes the server take requests and never answer, until the test ends.
func hang(t *testing.T, f *fakeS3) (arrived chan struct{}) {
	t.Helper()
	release, arrived := make(chan struct{}), make(chan struct{}, 100)
	t.Cleanup(func() { close(release) }) // before the server's Close, which waits
	f.setFault(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		_, _ = io.Copy(io.Discard, r.Body)
		arrived <- struct{}{}
		<-release
	})
	return arrived
}

func TestAHangingServerIsGivenUpByTheRequestTimeout(t *testing.T) {
	f := newFakeS3(t)
	hang(t, f)
	cfg := f.config()
	cfg.RequestTimeout, cfg.MaxAttempts = 20*time.Millisecond, 2
	c := newClient(t, cfg)
	_, err := c.Prefix("p").WriteLTXFile(t.Context(), 0, 1, 1, bytes.NewReader(ltxBytes(t, 1, 300)))
	if !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), "does not answer") {
		t.Errorf("got %v", err)
	}
	if s := c.Stats(); s.Put != 2 || s.Errors != 2 {
		t.Errorf("stats %+v, want 2 puts, both errors", s)
	}
}

func TestAHangingServerIsGivenUpWhenTheContextEnds(t *testing.T) {
	f := newFakeS3(t)
	arrived := hang(t, f)
	c := newClient(t, f.config())
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-arrived; cancel() }()
	_, err := c.Prefix("p").AllLTXFiles(ctx, false)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if s := c.Stats(); s.Errors != 0 || s.List != 1 {
		t.Errorf("stats %+v: the caller's cancellation is no error of the store", s)
	}
	if c.gate.inFlight != 0 {
		t.Errorf("%d places not given back", c.gate.inFlight)
	}
}

func TestABodyThatStallsIsAnErrorAndASlowReaderIsNot(t *testing.T) {
	f := newFakeS3(t)
	data := ltxBytes(t, 1, 4<<20) // more than the sockets buffer
	mustWrite(t, newClient(t, f.config()).Prefix("p"), 0, 1, 1, data)
	const timeout = time.Second
	cfg := f.config()
	cfg.RequestTimeout, cfg.MaxAttempts = timeout, 1
	c := newClient(t, cfg)

	rc, err := c.Prefix("p").OpenLTXFile(t.Context(), 0, 1, 1, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	<-time.After(2 * timeout) // the reader takes its time
	got, err := io.ReadAll(rc)
	if err := errors.Join(err, rc.Close()); err != nil || !bytes.Equal(got, data) {
		t.Errorf("slow reader: %d bytes, %v", len(got), err)
	}

	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	f.setFault(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		w.Header().Set("ETag", `"1"`)
		w.Header().Set("Content-Length", "1000000")
		_, _ = w.Write(data[:1000])
		w.(http.Flusher).Flush()
		<-release
	})
	rc, err = c.Prefix("p").OpenLTXFile(t.Context(), 0, 1, 1, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	got, err = io.ReadAll(rc)
	var stall *stallError
	if !errors.As(err, &stall) || len(got) != 1000 {
		t.Errorf("stalled body: %d bytes, %v", len(got), err)
	}
	_ = rc.Close()
}

func TestTheContextBoundsTheReadingOfABody(t *testing.T) {
	f := newFakeS3(t)
	c := newClient(t, f.config())
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	f.setFault(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		w.Header().Set("ETag", `"1"`)
		w.Header().Set("Content-Length", "1000000")
		w.WriteHeader(http.StatusOK)
		w.(http.Flusher).Flush()
		<-release
	})
	ctx, cancel := context.WithCancel(t.Context())
	rc, err := c.Prefix("p").OpenLTXFile(ctx, 0, 1, 1, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := io.ReadAll(rc); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	_ = rc.Close()
}

func TestOpenBodiesHoldNoPlaceOfOtherRequests(t *testing.T) {
	f := newFakeS3(t)
	cfg := f.config()
	cfg.Concurrency = 2
	p := newClient(t, cfg).Prefix("p")
	data := ltxBytes(t, 1, 4<<20)
	mustWrite(t, p, 0, 1, 1, data)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var bodies []io.ReadCloser
	for range 10 {
		rc, err := p.OpenLTXFile(ctx, 0, 1, 1, 0, 0)
		if err != nil {
			t.Fatalf("after %d open bodies: %v", len(bodies), err)
		}
		bodies = append(bodies, rc)
	}
	for _, rc := range bodies {
		got, err := io.ReadAll(rc)
		if err := errors.Join(err, rc.Close()); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	}
}

func TestRequestsInFlightAreBounded(t *testing.T) {
	f := newFakeS3(t)
	cfg := f.config()
	cfg.Concurrency = 3
	c := newClient(t, cfg)
	var now, most atomic.Int64
	f.setFault(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		n := now.Add(1)
		defer now.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		next.ServeHTTP(w, r)
	})
	var wg sync.WaitGroup
	for i := range ltx.TXID(100) {
		wg.Go(func() { mustWrite(t, c.Prefix("p"), 0, i+1, i+1, ltxBytes(t, 1, 300)) })
	}
	wg.Wait()
	if n := most.Load(); n > 3 {
		t.Errorf("%d at once, want at most 3", n)
	}
}

func TestALostConnectionIsRetried(t *testing.T) {
	f := newFakeS3(t)
	c := newClient(t, f.config())
	mustWrite(t, c.Prefix("p"), 0, 1, 1, ltxBytes(t, 1, 300))
	for name, do := range map[string]func() error{
		"put": func() error {
			_, err := c.Prefix("q").WriteLTXFile(t.Context(), 1, 1, 1, bytes.NewReader(ltxBytes(t, 1, 300)))
			return err
		},
		"list": func() error { _, err := c.Prefix("p").AllLTXFiles(t.Context(), false); return err },
		"get":  func() error { _, err := c.Prefix("p").OpenLTXFile(t.Context(), 0, 1, 1, 0, 0); return err },
	} {
		t.Run(name, func(t *testing.T) {
			var n atomic.Int64
			f.setFault(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
				if n.Add(1) <= 2 {
					hijack(w)
					return
				}
				next.ServeHTTP(w, r)
			})
			if err := do(); err != nil {
				t.Error(err)
			}
		})
	}
}
