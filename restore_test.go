package multidb_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbtest"
)

func TestARestoreFromAFileListerCostsOneListing(t *testing.T) {
	rep := multidbtest.NewReplica()
	f := start(t, newTree(t, 1, 1), multidb.WithReplica(rep))
	const id = "project0/db0"
	f.insert(id, "x")
	f.sync(id)
	if err := f.close(); err != nil {
		t.Fatal(err)
	}
	for _, opt := range []multidb.RestoreOptions{{}, {Timestamp: time.Now().Add(time.Hour)}} {
		rep.ResetOperations()
		opt.OutputPath = filepath.Join(t.TempDir(), "out.db")
		if err := multidb.RestoreFrom(t.Context(), rep, multidb.Database{ID: id}, opt); err != nil {
			t.Fatal(err)
		}
		lists := 0
		for _, op := range rep.Operations() {
			if op.Op == multidbtest.OpList {
				lists++
			}
		}
		if lists != 1 {
			t.Errorf("%+v: %d listings, want 1", opt, lists)
		}
	}
}

func TestAnyTransactionAndAnyTimeIsRestored(t *testing.T) {
	f := start(t, newTree(t, 1, 1), multidb.WithReplica(multidbtest.NewReplica()))
	const id = "project0/db0"
	type point struct {
		pos  multidb.Pos
		at   time.Time
		want string
	}
	early := time.Now().Add(-time.Hour)
	var points []point
	want := []string{"0", "1", "2"}
	for i := range 8 {
		v := fmt.Sprint("v", i)
		f.insert(id, v)
		want = append(want, v)
		pos := f.sync(id)
		// Time stamps have milliseconds: the next one begins after this one's end.
		<-time.After(3 * time.Millisecond)
		points = append(points, point{pos, time.Now(), fmt.Sprint(want)})
		<-time.After(3 * time.Millisecond)
	}
	for _, p := range points {
		if got := fmt.Sprint(f.restored(id, multidb.RestoreOptions{TXID: p.pos.TXID})); got != p.want {
			t.Errorf("transaction %s: restored %v, want %v", p.pos.TXID, got, p.want)
		}
		if got := fmt.Sprint(f.restored(id, multidb.RestoreOptions{Timestamp: p.at})); got != p.want {
			t.Errorf("%v: restored %v, want %v", p.at, got, p.want)
		}
	}
	for says, opt := range map[string]multidb.RestoreOptions{"the newest is transaction": {TXID: 1000}, "the oldest is transaction": {Timestamp: early}} {
		opt.OutputPath = filepath.Join(t.TempDir(), "x")
		if err := f.m.Restore(t.Context(), id, opt); !errors.Is(err, multidb.ErrNoBackup) || !strings.Contains(err.Error(), says) {
			t.Errorf("%+v: %v", opt, err)
		}
	}
	for _, opt := range []multidb.RestoreOptions{{}, {OutputPath: "x", TXID: 1, Timestamp: early}} {
		if err := f.m.Restore(t.Context(), id, opt); !errors.Is(err, multidb.ErrInvalidOption) {
			t.Errorf("%+v: %v", opt, err)
		}
	}
}
