package multidb_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbtest"
)

// disk is what a power failure leaves of WALs: what was flushed.
type disk struct {
	mu      sync.Mutex
	content map[string][]byte
	flushes int
	fail    error
}

func (d *disk) flush(f *os.File) error {
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	b, err := io.ReadAll(io.NewSectionReader(f, 0, fi.Size()))
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fail != nil {
		return d.fail
	}
	if d.content == nil {
		d.content = map[string][]byte{}
	}
	d.content[f.Name()] = b
	d.flushes++
	return f.Sync()
}

func (d *disk) of(path string) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.content[path]
}

func (d *disk) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.flushes
}

// TestWhatSyncPromisedOutlivesAPowerFailure takes from the WAL what was not
// flushed, and starts on what is left. The local database must have what Sync
// promised: it is shipped as the newest state. The line is `m.cfg.flush(f)` in
// syncLocal of run.go, and that run calls it before answer.
func TestWhatSyncPromisedOutlivesAPowerFailure(t *testing.T) {
	const id = "project0/db0"
	d, rep := &disk{}, multidbtest.NewReplica()
	f := start(t, newTree(t, 1, 1), multidb.WithReplica(rep), multidb.WithFlush(d.flush))
	f.insert(id, "promised")
	f.sync(id)
	path := filepath.Join(f.root, "project0/databases/db0.db")
	left := d.of(path + "-wal")

	root := t.TempDir()
	after := filepath.Join(root, "project0/databases/db0.db")
	if err := os.MkdirAll(filepath.Dir(after), 0o755); err != nil {
		t.Fatal(err)
	}
	// By a process of its own: a descriptor closed here would drop SQLite's locks.
	if out, err := exec.Command("cp", path, after).CombinedOutput(); err != nil {
		t.Fatalf("cp: %v: %s", err, out)
	}
	if err := os.WriteFile(after+"-wal", left, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := f.close(); err != nil {
		t.Fatal(err)
	}
	g := start(t, root, multidb.WithReplica(rep))
	g.sync(id)
	if got := fmt.Sprint(g.restored(id, multidb.RestoreOptions{})); got != "[0 1 2 promised]" {
		t.Errorf("after the power failure the newest state is %v", got)
	}
}

// TestAFlushCountsOnlyForAWALThatIsOlderThanTheClockIsCoarse: a commit that
// restarts the WAL within a tick of the last one leaves its size and its time
// stamps as they were. The line is the condition on w.flushed in syncLocal.
func TestAFlushCountsOnlyForAWALThatIsOlderThanTheClockIsCoarse(t *testing.T) {
	const id = "project0/db0"
	for _, c := range []struct {
		name  string
		ahead time.Duration // of the clock, so that the stamps are old, or young
		want  int
	}{
		{"old stamps", time.Hour, 1},
		{"young stamps", -time.Hour, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := &disk{}
			f := start(t, newTree(t, 1, 1), multidb.WithReplica(multidbtest.NewReplica()), multidb.WithFlush(d.flush),
				multidb.WithHotDuration(3*time.Hour), multidb.WithPromotion(3*time.Hour, 1), // whatever the clock says
				multidb.WithClock(func() time.Time { return time.Now().Add(c.ahead) }))
			h, err := f.m.Acquire(t.Context(), id) // no connection is opened later, which touches the WAL
			if err != nil {
				t.Fatal(err)
			}
			defer h.Release()
			f.insert(id, "first")
			f.sync(id) // the whole state, through connections of the Manager
			f.sync(id)
			before := d.count()
			f.insert(id, "second")
			f.sync(id)
			f.sync(id)
			if n := d.count() - before; n != c.want {
				t.Errorf("two Syncs of one commit flushed %d times, want %d", n, c.want)
			}
		})
	}
}

func TestASyncThatCannotFlushPromisesNothing(t *testing.T) {
	const id = "project0/db0"
	d := &disk{fail: errors.New("the disk is gone")}
	f := start(t, newTree(t, 1, 1), multidb.WithReplica(multidbtest.NewReplica()), multidb.WithFlush(d.flush))
	f.insert(id, "x")
	if _, err := f.m.Sync(t.Context(), id); !errors.Is(err, d.fail) {
		t.Errorf("Sync returned %v", err)
	}
	d.mu.Lock()
	d.fail = nil
	d.mu.Unlock()
	f.sync(id)
	if d.count() == 0 {
		t.Error("the next Sync did not flush")
	}
}
