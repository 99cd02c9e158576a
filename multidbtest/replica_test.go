package multidbtest

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/superfly/ltx"

	"github.com/multidb-go/multidb"
)

func txidOf(n int) ltx.TXID { return ltx.TXID(n) }

func TestAPrefixIsTheIDOrTheTemplate(t *testing.T) {
	db := testDatabase("project0", "db0")
	if got, err := NewReplica().Prefix(db); err != nil || got != "project0/db0" {
		t.Errorf("by default: %q, %v", got, err)
	}
	r := NewReplica(WithPathTemplate("backup/{{project}}/x-{{database}}/"))
	if got, err := r.Prefix(db); err != nil || got != "backup/project0/x-db0" {
		t.Errorf("by template: %q, %v", got, err)
	}
	if got := r.Vars(); !slices.Equal(got, []string{"project", "database"}) {
		t.Errorf("vars %v", got)
	}
}

func TestAWrongTemplateIsAnErrorOfEveryCall(t *testing.T) {
	r := NewReplica(WithPathTemplate("{{project"))
	_, prefixErr := r.Prefix(multidb.Database{ID: "a"})
	_, clientErr := r.ReplicaClient(multidb.Database{ID: "a"})
	for _, err := range []error{prefixErr, clientErr, r.Check(t.Context())} {
		if !errors.Is(err, multidb.ErrInvalidOption) {
			t.Errorf("error is %v, want ErrInvalidOption", err)
		}
	}
	if vars := r.Vars(); vars != nil {
		t.Errorf("vars %v", vars)
	}
}

func TestADatabaseWithoutAnIDHasNoPrefix(t *testing.T) {
	if _, err := NewReplica().ReplicaClient(multidb.Database{Path: "/a.db"}); err == nil {
		t.Error("it was given a client")
	}
}

func TestAnLTXFileOfOtherTXIDsIsRefused(t *testing.T) {
	r := NewReplica()
	c := newClient(t, r)
	if _, err := c.WriteLTXFile(t.Context(), 0, 2, 2, bytes.NewReader(ltxFile(t, 1, 1, 0))); err == nil {
		t.Error("it was taken")
	}
	ops := r.Operations()
	if len(ops) != 1 || ops[0].Op != OpWrite || ops[0].Err == nil || len(r.Files(prefix)) != 0 {
		t.Errorf("log %v, files %s", ops, describe(r.Files(prefix)))
	}
}

func TestAnLTXFileWithAnInvalidHeaderIsRefused(t *testing.T) {
	r := NewReplica()
	data := ltxFile(t, 1, 1, 0)
	copy(data[8:12], make([]byte, 4)) // the page size
	if _, err := newClient(t, r).WriteLTXFile(t.Context(), 0, 1, 1, bytes.NewReader(data)); err == nil {
		t.Error("it was taken")
	}
}

func TestARangeOutsideOfTheFileIsAnError(t *testing.T) {
	r := NewReplica()
	c := newClient(t, r)
	if err := ship(t, t.Context(), c, 1); err != nil {
		t.Fatal(err)
	}
	n := r.Files(prefix)[0].Size
	for _, bad := range [][2]int64{{n, 0}, {n + 1, 1}, {-1, 0}, {0, -1}} {
		if _, err := c.OpenLTXFile(t.Context(), 0, 1, 1, bad[0], bad[1]); err == nil {
			t.Errorf("%v was opened", bad)
		}
	}
}

func TestTheLogSaysWhatWasDone(t *testing.T) {
	r := NewReplica()
	c := newClient(t, r)
	size := int64(len(ltxFile(t, 1, 1, 0)))
	if err := ship(t, t.Context(), c, 1); err != nil {
		t.Fatal(err)
	}
	if err := ship(t, t.Context(), c, 1); !errors.Is(err, fs.ErrExist) {
		t.Fatal(err)
	}
	if _, err := c.LTXFiles(t.Context(), 3, 7, false); err != nil {
		t.Fatal(err)
	}
	if _, err := readFile(t.Context(), c, 0, 1, 1, 10, 20); err != nil {
		t.Fatal(err)
	}
	if _, err := readFile(t.Context(), c, 0, 2, 2, 0, 0); !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	if err := c.DeleteLTXFiles(t.Context(), []*ltx.FileInfo{{Level: 1, MinTXID: 4, MaxTXID: 6}, {Level: 2, MinTXID: 3, MaxTXID: 5}}); err != nil {
		t.Fatal(err)
	}

	want := []Operation{
		{Op: OpWrite, Prefix: prefix, Level: 0, Min: 1, Max: 1, Size: size},
		{Op: OpWrite, Prefix: prefix, Level: 0, Min: 1, Max: 1, Size: size, Err: fs.ErrExist},
		{Op: OpList, Prefix: prefix, Level: 3, Min: 7},
		{Op: OpOpen, Prefix: prefix, Level: 0, Min: 1, Max: 1, Size: 20},
		{Op: OpOpen, Prefix: prefix, Level: 0, Min: 2, Max: 2, Err: fs.ErrNotExist},
		{Op: OpDelete, Prefix: prefix, Level: AllLevels, Min: 3, Max: 6},
	}
	got := r.Operations()
	if len(got) != len(want) {
		t.Fatalf("%d operations, want %d: %v", len(got), len(want), got)
	}
	for i, op := range got {
		if !errors.Is(op.Err, want[i].Err) || op.At.IsZero() {
			t.Errorf("operation %d: error %v at %s, want %v", i, op.Err, op.At, want[i].Err)
		}
		op.Err, op.At, want[i].Err = nil, want[i].At, nil
		if op != want[i] {
			t.Errorf("operation %d is %s, want %s", i, op, want[i])
		}
	}
	stats := multidb.RequestStats{Put: 2, Get: 2, List: 1, Delete: 1, BytesOut: 2 * size, BytesIn: 20}
	if r.RequestStats() != stats {
		t.Errorf("stats %+v, want %+v", r.RequestStats(), stats)
	}
	r.ResetOperations()
	if ops := r.Operations(); len(ops) != 0 || r.RequestStats() != stats {
		t.Errorf("after a reset: %v, %+v", ops, r.RequestStats())
	}
}

func TestTheLogIsBounded(t *testing.T) {
	r := NewReplica()
	for i := range 3*maxOperations + 7 {
		r.record(Operation{Op: OpWrite, Min: txidOf(i)}, nil)
		if len(r.ops) > 2*maxOperations {
			t.Fatalf("%d operations are kept", len(r.ops))
		}
	}
	ops := r.Operations()
	if len(ops) != maxOperations || ops[len(ops)-1].Min != 3*maxOperations+6 || ops[0].Min != 2*maxOperations+7 {
		t.Errorf("%d operations from %d to %d", len(ops), ops[0].Min, ops[len(ops)-1].Min)
	}
	if n := r.opsFirst + len(r.ops); n != 3*maxOperations+7 {
		t.Errorf("counted %d operations, want %d: a WaitFor would miss some", n, 3*maxOperations+7)
	}
	op, err := r.WaitFor(t.Context(), func(op Operation) bool { return op.Min == 3*maxOperations })
	if err != nil || op.Min != 3*maxOperations {
		t.Errorf("%s, %v", op, err)
	}
}

func TestWaitForSeesWhatWasAndWhatComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := NewReplica()
		c := newClient(t, r)
		if err := ship(t, t.Context(), c, 1); err != nil {
			t.Fatal(err)
		}
		calls := 0
		wait := func(txid ltx.TXID) (Operation, error) {
			return r.WaitFor(t.Context(), func(op Operation) bool { calls++; return op.Min == txid })
		}
		if op, err := wait(1); err != nil || op.Min != 1 {
			t.Errorf("the past: %s, %v", op, err)
		}

		calls = 0
		var (
			op  Operation
			err error
		)
		go func() { op, err = wait(3) }()
		for _, txid := range []int{2, 3} {
			synctest.Wait()
			if op.Op != "" {
				t.Fatalf("it did not wait: %s", op)
			}
			if txid == 3 {
				r.ResetOperations() // must not make it miss, or see one twice
			}
			if err := ship(t, t.Context(), c, txid); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if op.Min != 3 || err != nil || calls != 3 {
			t.Errorf("%s, %v after %d calls of match, want 3", op, err, calls)
		}
	})
}

func TestWaitForEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := NewReplica().WaitFor(ctx, func(Operation) bool { return false }); !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v, want context.Canceled", err)
	}
}

func TestHelpersChangeTheStoreBehindTheClients(t *testing.T) {
	r := NewReplica()
	c := newClient(t, r)
	for txid := 1; txid <= 2; txid++ {
		if err := ship(t, t.Context(), c, txid); err != nil {
			t.Fatal(err)
		}
	}
	r.ResetOperations()
	open, err := c.OpenLTXFile(t.Context(), 0, 1, 1, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	r.ResetOperations()
	before, err := r.ReadFile(prefix, 0, 1, 1)
	if err != nil {
		t.Fatal(err)
	}

	if err := r.Corrupt(prefix, 0, 1, 1, nil); err != nil {
		t.Fatal(err)
	}
	after, err := r.ReadFile(prefix, 0, 1, 1)
	if err != nil || len(after) != len(before) || bytes.Equal(after, before) {
		t.Errorf("corrupting changed nothing, or the size: %v", err)
	}
	var was bytes.Buffer
	if _, err := was.ReadFrom(open); err != nil || !bytes.Equal(was.Bytes(), before) {
		t.Errorf("a file that was open changed: %v", err)
	}
	if err := r.Corrupt(prefix, 0, 1, 1, func(b []byte) []byte { return b[:7] }); err != nil {
		t.Fatal(err)
	}
	if files := r.Files(prefix); files[0].Size != 7 {
		t.Errorf("cut to %d bytes, want 7", files[0].Size)
	}
	if err := r.Delete(prefix, 0, 2, 2); err != nil {
		t.Fatal(err)
	}
	if got := ranges(r.Files(prefix)); !slices.Equal(got, []string{"1-1"}) {
		t.Errorf("files %v", got)
	}
	_, readErr := r.ReadFile("nowhere", 0, 1, 1)
	for _, err := range []error{r.Delete(prefix, 0, 2, 2), r.Corrupt(prefix, 0, 2, 2, nil), readErr} {
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("error is %v, want fs.ErrNotExist", err)
		}
	}
	if got := r.Prefixes(); !slices.Equal(got, []string{prefix}) {
		t.Errorf("prefixes %q", got)
	}
	if r.Metadata(prefix) != nil || r.Metadata("nowhere") != nil || r.Files("nowhere") != nil {
		t.Error("something came of nothing")
	}
	if ops := r.Operations(); len(ops) != 0 {
		t.Errorf("helpers are in the log: %v", ops)
	}
}
