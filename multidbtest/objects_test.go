package multidbtest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"testing"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbtest"
)

func objects(t *testing.T, r *multidbtest.Replica, dir string) multidb.ObjectStore {
	t.Helper()
	s, err := r.Objects(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func readAll(t *testing.T, s multidb.ObjectStore, name string) string {
	t.Helper()
	rc, err := s.Open(t.Context(), name, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(rc)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestACreateWhoseAnswerIsLostHasCreatedTheObject(t *testing.T) {
	r := multidbtest.NewReplica()
	s := objects(t, r, "log")
	r.Inject(multidbtest.Fault{Op: multidbtest.OpCreateObject, Prefix: "log", LostAnswer: true, Times: 1})
	if err := s.Create(t.Context(), "1", []byte("first")); !errors.Is(err, multidbtest.ErrInjected) || errors.Is(err, fs.ErrExist) {
		t.Errorf("error is %v", err)
	}
	if got := readAll(t, s, "1"); got != "first" {
		t.Errorf("it has %q", got)
	}
	if err := s.Create(t.Context(), "1", []byte("first")); !errors.Is(err, fs.ErrExist) {
		t.Errorf("again: %v, want fs.ErrExist", err)
	}
}

func TestAFaultHitsTheObjectsThatItIsMeantFor(t *testing.T) {
	r := multidbtest.NewReplica()
	s, other := objects(t, r, "log"), objects(t, r, "other")
	refused := errors.New("refused")
	in := r.Inject(multidbtest.Fault{Prefix: "log", Err: refused, Match: func(o multidbtest.Operation) bool { return o.Object == "1" }})
	_, openErr := s.Open(t.Context(), "1", 0, 0)
	var listErr error
	for _, listErr = range s.List(t.Context(), "", "1") {
	}
	for call, err := range map[string]error{
		"Create": s.Create(t.Context(), "1", nil), "Open": openErr, "List": listErr, "Delete": s.Delete(t.Context(), "1", "2"),
	} {
		if !errors.Is(err, refused) {
			t.Errorf("%s: error is %v", call, err)
		}
	}
	if err := errors.Join(s.Create(t.Context(), "2", nil), other.Create(t.Context(), "1", nil)); err != nil {
		t.Errorf("what is not meant: %v", err)
	}
	if n := in.Hits(); n != 4 {
		t.Errorf("%d hits, want 4", n)
	}
}

func TestACreateThatHangsEndsWithItsContextAndCreatesNothing(t *testing.T) {
	r := multidbtest.NewReplica()
	s := objects(t, r, "log")
	in := r.Inject(multidbtest.Fault{Op: multidbtest.OpCreateObject, Hang: true, Times: 1})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-in.Hit(); cancel() }()
	if err := s.Create(ctx, "1", []byte("first")); !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v", err)
	}
	if err := s.Create(t.Context(), "1", []byte("second")); err != nil {
		t.Error(err)
	}
}

func TestAListingMayFailInItsMiddle(t *testing.T) {
	r := multidbtest.NewReplica()
	s := objects(t, r, "log")
	for i := range 1500 {
		if err := s.Create(t.Context(), fmt.Sprintf("%04d", i), nil); err != nil {
			t.Fatal(err)
		}
	}
	r.Inject(multidbtest.Fault{Op: multidbtest.OpListObjects, Err: multidbtest.ErrInjected, Match: func(o multidbtest.Operation) bool { return o.Object == "0999" }})
	n := 0
	var last error
	for _, last = range s.List(t.Context(), "", "") {
		n++
	}
	if n != 1001 || !errors.Is(last, multidbtest.ErrInjected) {
		t.Errorf("%d pairs, the last with %v; want 1,000 names and the error", n, last)
	}
}

func TestOperationsOnObjectsAreLoggedAndCounted(t *testing.T) {
	r := multidbtest.NewReplica()
	s := objects(t, r, "log")
	if err := s.Create(t.Context(), "a", []byte("12345")); err != nil {
		t.Fatal(err)
	}
	if err := s.Create(t.Context(), "a", []byte("123")); !errors.Is(err, fs.ErrExist) {
		t.Error(err)
	}
	_ = readAll(t, s, "a")
	for range s.List(t.Context(), "", "") {
	}
	if err := s.Delete(t.Context(), "a", "b"); err != nil {
		t.Fatal(err)
	}
	want := multidb.RequestStats{Put: 2, Get: 1, List: 1, Delete: 1, BytesOut: 8, BytesIn: 5}
	if got := r.RequestStats(); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	ops := r.Operations()
	if len(ops) != 5 || ops[0].String() != `create object "log" "a", 5 bytes` || ops[1].Err == nil || ops[2].Op != multidbtest.OpOpenObject ||
		ops[2].Size != 5 || ops[3].Op != multidbtest.OpListObjects || ops[4].Op != multidbtest.OpDeleteObjects || ops[4].Object != "a" {
		t.Errorf("the log has %v", ops)
	}
	if got := r.Prefixes(); len(got) != 0 {
		t.Errorf("objects make the prefixes %q of databases", got)
	}
}

func TestAnObjectCanBeCorrupted(t *testing.T) {
	r := multidbtest.NewReplica()
	s := objects(t, r, "log")
	if err := s.Create(t.Context(), "a", []byte("12345")); err != nil {
		t.Fatal(err)
	}
	if err := r.CorruptObject("log", "a", nil); err != nil || readAll(t, s, "a") != "12245" {
		t.Errorf("it has %q, %v", readAll(t, s, "a"), err)
	}
	if err := r.CorruptObject("log", "a", func(b []byte) []byte { return b[:2] }); err != nil || readAll(t, s, "a") != "12" {
		t.Errorf("it has %q, %v", readAll(t, s, "a"), err)
	}
	if err := r.CorruptObject("log", "b", nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("one that is not there: %v", err)
	}
}
