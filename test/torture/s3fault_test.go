package torture

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/multidb-go/multidb"
)

// s3Fault is trouble between the Manager and the store.
type s3Fault struct {
	name   string
	all    bool // every database suffers; otherwise only "sick"
	slow   bool // requests succeed, so that nothing is late for long
	maxWAL bool // it lasts until the WAL limit is passed
	do     func(rng *rand.Rand, w http.ResponseWriter, r *http.Request, next http.Handler)
}

var s3Faults = []s3Fault{
	{name: "latency", slow: true, do: func(rng *rand.Rand, w http.ResponseWriter, r *http.Request, next http.Handler) {
		pause(200 * time.Millisecond)
		next.ServeHTTP(w, r)
	}},
	{name: "connections reset in mid-body", do: func(rng *rand.Rand, w http.ResponseWriter, r *http.Request, next http.Handler) {
		_, _ = io.CopyN(io.Discard, r.Body, r.ContentLength/2)
		reset(w)
	}},
	{name: "a storm of 500", do: storm(http.StatusInternalServerError, "InternalError")},
	{name: "a storm of 503", do: storm(http.StatusServiceUnavailable, "SlowDown")},
	{name: "applied, and the answer lost", do: lostAnswer(nil)},
	{name: "applied, the answer lost, and truncated bodies", do: lostAnswer(truncated)},
	{name: "the bucket gone", all: true, do: answer(http.StatusNotFound, "NoSuchBucket")},
	{name: "the credentials expired", all: true, do: answer(http.StatusForbidden, "ExpiredToken")},
	{name: "an outage longer than the WAL limit", maxWAL: true, do: answer(http.StatusServiceUnavailable, "SlowDown")},
	{name: "every connection refused", all: true, do: func(_ *rand.Rand, w http.ResponseWriter, _ *http.Request, _ http.Handler) { reset(w) }},
}

func answer(status int, code string) func(*rand.Rand, http.ResponseWriter, *http.Request, http.Handler) {
	return func(_ *rand.Rand, w http.ResponseWriter, r *http.Request, _ http.Handler) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(status)
		_, _ = fmt.Fprintf(w, "<Error><Code>%s</Code><Message>injected</Message></Error>", code)
	}
}

// storm fails nine requests of ten.
func storm(status int, code string) func(*rand.Rand, http.ResponseWriter, *http.Request, http.Handler) {
	fail := answer(status, code)
	return func(rng *rand.Rand, w http.ResponseWriter, r *http.Request, next http.Handler) {
		if rng.IntN(10) == 0 {
			next.ServeHTTP(w, r)
			return
		}
		fail(rng, w, r, next)
	}
}

// lostAnswer applies every write and answers none; reads go on, or are other's.
func lostAnswer(read func(*rand.Rand, http.ResponseWriter, *http.Request, http.Handler)) func(*rand.Rand, http.ResponseWriter, *http.Request, http.Handler) {
	return func(rng *rand.Rand, w http.ResponseWriter, r *http.Request, next http.Handler) {
		switch {
		case r.Method == http.MethodPut:
			next.ServeHTTP(httptest.NewRecorder(), r)
			reset(w)
		case r.Method == http.MethodGet && read != nil:
			read(rng, w, r, next)
		default:
			next.ServeHTTP(w, r)
		}
	}
}

// truncated announces a whole body and sends half of it.
func truncated(_ *rand.Rand, w http.ResponseWriter, r *http.Request, next http.Handler) {
	rec := httptest.NewRecorder()
	next.ServeHTTP(rec, r)
	body := rec.Body.Bytes()
	for k, v := range rec.Header() {
		w.Header()[k] = v
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(rec.Code)
	_, _ = w.Write(body[:len(body)/2])
	if f, ok := w.(http.Flusher); ok {
		f.Flush()
	}
	reset(w)
}

// reset ends the connection without an answer.
func reset(w http.ResponseWriter) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err == nil {
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		_ = conn.Close()
	}
}

// TestAFaultyStoreCostsNothingButTime writes to a sick and a well database while
// the store is in trouble, of every kind. Writes go on, the well database is
// shipped, the status of the sick one says so within 10 s, and when the store is
// back everything arrives without help. P1, P2, P3, P5.
func TestAFaultyStoreCostsNothingButTime(t *testing.T) {
	var mu sync.Mutex
	runs, restored, slowest := 0, 0, time.Duration(0)
	eachSeed(t, 1, 1, func(t *testing.T, seed uint64) {
		for i, f := range s3Faults {
			t.Run(f.name, func(t *testing.T) {
				t.Parallel()
				n, took := runS3Fault(t, f, seed*100+uint64(i))
				mu.Lock()
				defer mu.Unlock()
				runs, restored, slowest = runs+1, restored+n, max(slowest, took)
			})
		}
	})
	t.Logf("%d faults, %d restores compared, the slowest recovery took %v", runs, restored, slowest.Round(time.Millisecond))
}

func runS3Fault(t *testing.T, f s3Fault, seed uint64) (restored int, took time.Duration) {
	store, ev := newFakeS3(t), &events{}
	root := t.TempDir()
	opts := fast(root, store.factory(t), ev.observe)
	if f.maxWAL {
		opts = append(opts, multidb.WithMaxWALSize(64<<10))
	}
	m, err := multidb.New(opts...)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer closeManager(t, m)
	sick, well := &patient{t: t, m: m, id: "sick", l: ledger{seed}}, &patient{t: t, m: m, id: "well", l: ledger{seed + 50}}
	both := []*patient{sick, well}
	for _, p := range both {
		p.write(10)
		p.sync()
	}

	var rngMu sync.Mutex
	rng := rand.New(rand.NewPCG(seed, 5))
	trouble := faultFunc(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if !f.all && !strings.Contains(r.URL.Path, "/sick/") && !strings.Contains(r.URL.RawQuery, "sick") {
			next.ServeHTTP(w, r)
			return
		}
		rngMu.Lock()
		own := rand.New(rand.NewPCG(rng.Uint64(), 6))
		rngMu.Unlock()
		f.do(own, w, r, next)
	})
	store.fault.Store(&trouble)

	for range 8 {
		for _, p := range both {
			p.write(3)
		}
		if !f.all {
			well.sync() // the others flow
		}
		pause(100 * time.Millisecond)
	}
	if !f.slow && !strings.Contains(f.name, "storm") {
		eventually(t, 10*time.Second, func() string {
			sick.write(1)
			if st := sick.status(); st.Lag == 0 || st.Err == nil {
				return fmt.Sprintf("the status says nothing: lag %v, %v", st.Lag, st.Err)
			}
			return ""
		})
	}
	if f.maxWAL {
		eventually(t, 20*time.Second, func() string {
			sick.write(20)
			if ev.count(multidb.EventWALLimit, "sick") == 0 {
				return "the WAL limit was not told"
			}
			return ""
		})
		eventually(t, 10*time.Second, func() string {
			fi, err := os.Stat(sick.status().Path + "-wal")
			if err == nil && fi.Size() > 64<<10 {
				return fmt.Sprintf("the WAL has %d bytes", fi.Size())
			}
			return ""
		})
	}
	if t.Failed() {
		store.fault.Store(nil)
		return 0, 0
	}

	store.fault.Store(nil)
	began := time.Now()
	for _, p := range both {
		eventually(t, 30*time.Second, func() string {
			st := p.status()
			if st.Lag > 0 || st.Err != nil || st.SyncedAt.Before(p.last) {
				return fmt.Sprintf("%s: lag %v, synced at %v, last commit at %v, %v", p.id, st.Lag, st.SyncedAt, p.last, st.Err)
			}
			return ""
		})
	}
	took = time.Since(began)
	for _, p := range both {
		// What the status says is true: everything is there now.
		restored += p.l.checkAll(t, store.client(t, string(p.id)), p.n)
	}
	return restored, took
}

// patient is a database that an application writes meanwhile.
type patient struct {
	t    *testing.T
	m    *multidb.Manager
	id   multidb.ID
	l    ledger
	n    int
	last time.Time // of the last commit
}

// write is P5: no error, and nowhere near the busy timeout of 5 s.
func (p *patient) write(n int) {
	p.t.Helper()
	for range n {
		began := time.Now()
		err := p.m.Do(context.Background(), p.id, func(db *sql.DB) error {
			c, err := db.Conn(context.Background())
			if err != nil {
				return err
			}
			defer c.Close()
			return p.l.apply(context.Background(), c, p.n+1, true)
		})
		if err != nil {
			p.t.Errorf("%s: a write failed: %v", p.id, err)
			return
		}
		p.n++
		p.last = time.Now()
		if d := p.last.Sub(began); d > 5*time.Second {
			p.t.Errorf("%s: a write took %v", p.id, d)
		}
	}
}

func (p *patient) sync() {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	if _, err := p.m.Sync(ctx, p.id); err != nil {
		p.t.Errorf("%s: sync: %v", p.id, err)
	}
}

func (p *patient) status() multidb.Status {
	st, err := p.m.Status(p.id)
	if err != nil {
		p.t.Error(err)
	}
	return st
}
