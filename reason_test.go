package multidb_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbtest"
)

func TestEveryErrorHasOneReason(t *testing.T) {
	for _, c := range []struct {
		err  error
		want multidb.Reason
	}{
		{errors.New("x"), multidb.ReasonOther},
		{nil, multidb.ReasonOther},
		{multidb.ErrUnreachable, multidb.ReasonUnreachable},
		{context.DeadlineExceeded, multidb.ReasonUnreachable},
		{&os.SyscallError{Syscall: "connect", Err: syscall.ECONNREFUSED}, multidb.ReasonUnreachable},
		{multidb.ErrThrottled, multidb.ReasonThrottled},
		{multidb.ErrAccessDenied, multidb.ReasonAccessDenied},
		{multidb.ErrNoCredentials, multidb.ReasonAccessDenied},
		{multidb.ErrNoBucket, multidb.ReasonNoBucket},
		{multidb.ErrFenced, multidb.ReasonFenced},
		{multidb.ErrConflict, multidb.ReasonConflict},
		{&fs.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}, multidb.ReasonDiskFull},
		{syscall.EDQUOT, multidb.ReasonDiskFull},
		{multidb.ErrCorrupt, multidb.ReasonCorrupt},
		{multidb.ErrNotDatabase, multidb.ReasonCorrupt},
		{multidb.ErrMissing, multidb.ReasonMissing},
		{multidb.ErrReadOnly, multidb.ReasonPermission},
		{syscall.EACCES, multidb.ReasonPermission},
		{syscall.EROFS, multidb.ReasonPermission},
		{syscall.EMFILE, multidb.ReasonDescriptors},
		{fmt.Errorf("%w: %w", multidb.ErrReadOnly, syscall.ENOSPC), multidb.ReasonDiskFull},
	} {
		if got := multidb.ReasonOf(fmt.Errorf("list: %w", &multidb.Error{Op: "sync", ID: "a", Err: fmt.Errorf("%w", orNil(c.err))})); got != c.want {
			t.Errorf("%v has the reason %v, want %v", c.err, got, c.want)
		}
	}
	seen := map[string]bool{}
	for i, r := range multidb.Reasons() {
		if int(r) != i || r.String() == "" || r.String() == "unknown" || seen[r.String()] {
			t.Errorf("reason %d is %q", i, r)
		}
		seen[r.String()] = true
	}
	if len(seen) != len(multidb.ByReason{}) || multidb.Reason(len(seen)).String() != "unknown" {
		t.Errorf("%d reasons", len(seen))
	}
}

func orNil(err error) error {
	if err == nil {
		return errors.New("none")
	}
	return err
}

func TestStatsCountsTheUnwellNowAndTheFailuresSoFarByReason(t *testing.T) {
	rep := multidbtest.NewReplica()
	root := newTree(t, 1, 4)
	f := start(t, root, multidb.WithReplica(rep))
	for i := range 4 {
		f.sync(multidb.ID(fmt.Sprint("project0/db", i)))
	}
	ids := map[multidb.ID]error{"project0/db0": multidb.ErrThrottled, "project0/db1": multidb.ErrAccessDenied, "project0/db2": multidb.ErrAccessDenied}
	for id, err := range ids {
		rep.Inject(multidbtest.Fault{Prefix: string(id), Err: err})
		f.insert(id, "x")
	}
	for id := range ids {
		f.status(id, "failing", func(st multidb.Status) bool { return st.Err != nil })
	}
	s := f.m.Stats()
	if s.Unwell[multidb.ReasonThrottled] != 1 || s.Unwell[multidb.ReasonAccessDenied] != 2 || s.Unwell.Total() != 3 {
		t.Errorf("unwell: %v", s.Unwell)
	}
	if s.FailuresBy[multidb.ReasonThrottled] < 1 || s.FailuresBy[multidb.ReasonAccessDenied] < 2 || s.Failures != s.FailuresBy.Total() {
		t.Errorf("%d failures: %v", s.Failures, s.FailuresBy)
	}
	// One goes on to fail for another reason, one is removed, one gets well.
	rep.ClearFaults()
	rep.Inject(multidbtest.Fault{Prefix: "project0/db0", Err: multidb.ErrNoBucket})
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := os.Remove(filepath.Join(root, "project0/databases/db1.db"+suffix)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	}
	f.insert("project0/db0", "y")
	f.status("project0/db0", "failing otherwise", func(st multidb.Status) bool { return errors.Is(st.Err, multidb.ErrNoBucket) })
	f.status("project0/db2", "well", func(st multidb.Status) bool { return st.Err == nil && st.Lag == 0 })
	f.events.wait(t, "removed", func(ev multidb.Event) bool { return ev.Type == multidb.EventRemoved && ev.ID == "project0/db1" })
	s = f.m.Stats()
	if s.Unwell[multidb.ReasonNoBucket] != 1 || s.Unwell.Total() != 1 {
		t.Errorf("then unwell: %v", s.Unwell)
	}
	for i, n := range s.Unwell {
		if n < 0 {
			t.Errorf("%v: %d", multidb.Reason(i), n)
		}
	}
	if s.Lag.Count == 0 {
		t.Error("no lag was observed")
	}
	// In one step: an empty file is a database to be.
	note := filepath.Join(t.TempDir(), "note.db")
	if err := os.WriteFile(note, []byte("this is no database at all"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(note, filepath.Join(root, "project0/databases/note.db")); err != nil {
		t.Fatal(err)
	}
	f.events.wait(t, "ignored", func(ev multidb.Event) bool { return ev.Type == multidb.EventIgnored })
	if n := f.m.Stats().Ignored; n != 1 {
		t.Errorf("%d files ignored", n)
	}
}
