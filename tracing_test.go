package multidb_test

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/multidb-go/multidb"
)

// spans is a Tracer that keeps what it is told.
type spans struct {
	mu  sync.Mutex
	all []*span
}

type span struct {
	multidb.Span
	multidb.SpanEnd
	parent string // its name; empty: it is a root
	ends   int
}

type spanKey struct{}

func (s *spans) Start(ctx context.Context, of multidb.Span) (context.Context, func(multidb.SpanEnd)) {
	sp := &span{Span: of}
	sp.parent, _ = ctx.Value(spanKey{}).(string)
	s.mu.Lock()
	s.all = append(s.all, sp)
	s.mu.Unlock()
	return context.WithValue(ctx, spanKey{}, of.Name), func(end multidb.SpanEnd) {
		s.mu.Lock()
		defer s.mu.Unlock()
		sp.SpanEnd = end
		sp.ends++
	}
}

// take returns what was told so far, and forgets it.
func (s *spans) take() (all []span) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sp := range s.all {
		all = append(all, *sp)
	}
	s.all = nil
	return all
}

// of returns those of a name, or of a request's operation.
func of(all []span, name string) (some []span) {
	for _, sp := range all {
		if sp.Name == name || sp.Request.Operation == name {
			some = append(some, sp)
		}
	}
	return some
}

func TestCallsAndRequestsAreTraced(t *testing.T) {
	rep, _ := s3Replica(t, "litestream/{{project}}/{{database}}/")
	tracer := &spans{}
	f := start(t, newTree(t, 1, 1), multidb.WithReplica(rep), multidb.WithTracer(tracer))
	const id = "project0/db0"
	f.insert(id, "x") // by Acquire
	txid := f.sync(id).TXID
	all := tracer.take()
	if a := of(all, "acquire"); len(a) != 1 || a[0].ID != id || a[0].Err != nil || a[0].ends != 1 || a[0].parent != "" {
		t.Errorf("acquire: %+v", a)
	}
	if s := of(all, "sync"); len(s) != 1 || s[0].ID != id || s[0].TXID != txid || s[0].ends != 1 {
		t.Errorf("sync: %+v, want %s", s, txid)
	}
	puts := slices.DeleteFunc(of(all, "PutObject"), func(p span) bool { return p.Request.TXID != txid })
	if len(puts) == 0 {
		t.Fatalf("no upload of %s: %+v", txid, all)
	}
	p := puts[0]
	if p.Name != "request" || p.parent != "" || p.ID != id || p.Status != 200 || p.Err != nil || p.ends != 1 ||
		p.Request.Bucket != "backups" || p.Request.Attempt != 1 || p.Request.Bytes <= 0 ||
		p.Request.Key != "litestream/project0/db0/0000/"+txid.String()+"-"+txid.String()+".ltx" && p.Request.Key != "litestream/project0/db0/0009/0000000000000001-"+txid.String()+".ltx" {
		t.Errorf("the upload: %+v", p)
	}

	out := filepath.Join(t.TempDir(), "out.db")
	if err := f.m.Restore(context.WithValue(t.Context(), spanKey{}, "caller"), id, multidb.RestoreOptions{OutputPath: out}); err != nil {
		t.Fatal(err)
	}
	all = tracer.take()
	if r := of(all, "restore"); len(r) != 1 || r[0].parent != "caller" || r[0].ends != 1 {
		t.Errorf("restore: %+v", r)
	}
	if g := of(all, "GetObject"); len(g) == 0 || g[0].parent != "restore" || g[0].ID != id || g[0].SpanEnd.Bytes <= 0 || g[0].ends != 1 {
		t.Errorf("its requests: %+v", g)
	}
	if l := of(all, "ListObjectsV2"); len(l) != 1 || l[0].Request.Prefix != "litestream/project0/db0/" || l[0].Request.Key != "" || l[0].ends != 1 {
		t.Errorf("its listing: %+v", l)
	}
	if err := f.m.Restore(t.Context(), id, multidb.RestoreOptions{OutputPath: out}); !errors.Is(err, multidb.ErrExists) {
		t.Fatal(err)
	}
	if r := of(tracer.take(), "restore"); len(r) != 1 || !errors.Is(r[0].Err, multidb.ErrExists) {
		t.Errorf("a restore that fails: %+v", r)
	}
	if _, err := f.m.Acquire(t.Context(), "no/such/database"); err == nil {
		t.Fatal("it is there")
	}
	if a := of(tracer.take(), "acquire"); len(a) != 1 || !errors.Is(a[0].Err, multidb.ErrNotFound) {
		t.Errorf("an acquire that fails: %+v", a)
	}
	if err := f.close(); err != nil {
		t.Fatal(err)
	}
	for _, sp := range tracer.take() {
		if sp.ends != 1 {
			t.Errorf("ended %d times: %+v", sp.ends, sp)
		}
	}
}

func TestANilTracerIsRefused(t *testing.T) {
	_, err := multidb.New(multidb.WithDiscoverer(multidb.Static()), multidb.WithTracer(nil))
	if !errors.Is(err, multidb.ErrInvalidOption) || !strings.Contains(err.Error(), "WithTracer") {
		t.Errorf("%v", err)
	}
}

// TestWithoutATracerNothingIsAllocated: what a span would cost is not paid.
func TestWithoutATracerNothingIsAllocated(t *testing.T) {
	if raceEnabled {
		t.Log("the race detector allocates")
		return
	}
	f := start(t, newTree(t, 1, 1), multidb.WithWatch(false))
	const id = "project0/db0"
	f.insert(id, "x")
	ctx := t.Context()
	first := testing.AllocsPerRun(100, func() {
		h, err := multidb.AcquireUntraced(ctx, f.m, id)
		if err != nil {
			t.Fatal(err)
		}
		h.Release()
	})
	if n := testing.AllocsPerRun(100, func() {
		h, err := f.m.Acquire(ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		h.Release()
	}); n > first {
		t.Errorf("%v allocations, %v without a look at the tracer", n, first)
	}
}
