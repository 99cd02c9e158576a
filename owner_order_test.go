package multidb_test

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbtest"
)

// Whoever calls Adopt as soon as he hears of the fence does so while the run that
// found it is still ending, after which nothing would run again by itself.
func TestAnAdoptGivenWhileTheRunThatWasFencedEndsIsCarriedOut(t *testing.T) {
	dir := memoryDir(t)
	synctest.Test(t, func(t *testing.T) {
		rep := multidbtest.NewReplica()
		boot := virtualBoot()
		done := make(chan error, 1)
		var second *multidb.Manager
		begin := func(name string, observe func(multidb.Event)) *multidb.Manager {
			root := filepath.Join(dir, name)
			if err := os.MkdirAll(filepath.Join(root, "data"), 0o755); err != nil {
				t.Fatal(err)
			}
			m, err := multidb.New(multidb.WithDiscoverer(multidb.Glob(filepath.Join(root, "data", "{{project}}/{{database}}.db"))),
				multidb.WithReplica(rep), multidb.WithStateDir(filepath.Join(root, "state")),
				multidb.WithBoot(boot, time.Minute), multidb.WithWatch(false), multidb.WithObserver(observe))
			if err == nil {
				err = m.Start(t.Context())
			}
			if err != nil {
				t.Fatal(err)
			}
			return m
		}
		write := func(m *multidb.Manager) {
			if err := m.Do(t.Context(), "p0/d0", func(db *sql.DB) error {
				_, err := db.Exec("CREATE TABLE t(v); INSERT INTO t VALUES(1)")
				return err
			}); err != nil {
				t.Fatal(err)
			}
		}
		first := begin("first", func(multidb.Event) {})
		write(first)
		if _, err := first.Sync(t.Context(), "p0/d0"); err != nil {
			t.Fatal(err)
		}
		second = begin("second", func(ev multidb.Event) {
			if ev.Type != multidb.EventFenced {
				return
			}
			go func() {
				ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
				defer cancel()
				_, err := second.Adopt(ctx, "p0/d0")
				done <- err
			}()
			time.Sleep(time.Second) // of the bubble's clock: Adopt has come as far as it can
		})
		silent := rep.Inject(multidbtest.Fault{Err: multidbtest.ErrInjected}) // or no new file is made over the backup
		if err := second.Do(t.Context(), "p0/d0", func(db *sql.DB) error {
			_, err := db.Exec("CREATE TABLE mine(v)")
			return err
		}); err != nil {
			t.Fatal(err)
		}
		silent.Clear()
		if _, err := second.Sync(t.Context(), "p0/d0"); !errors.Is(err, multidb.ErrFenced) {
			t.Errorf("sync: %v, want ErrFenced", err)
		}
		if err := <-done; err != nil {
			t.Errorf("adopt: %v", err)
		}
		for _, m := range []*multidb.Manager{first, second} {
			if err := m.Close(t.Context()); err != nil {
				t.Error(err)
			}
		}
	})
}

// A caller of Sync that comes while Adopt is at work has its commits in the file that
// is set aside.
func TestASyncDuringAnAdoptIsNotToldThatWhatIsSetAsideIsDurable(t *testing.T) {
	dir := memoryDir(t)
	synctest.Test(t, func(t *testing.T) {
		rep := multidbtest.NewReplica()
		boot := virtualBoot()
		var all []*multidb.Manager
		for _, name := range []string{"first", "second"} {
			root := filepath.Join(dir, name)
			if err := os.MkdirAll(filepath.Join(root, "data"), 0o755); err != nil {
				t.Fatal(err)
			}
			m, err := multidb.New(multidb.WithDiscoverer(multidb.Glob(filepath.Join(root, "data", "{{project}}/{{database}}.db"))),
				multidb.WithReplica(rep), multidb.WithStateDir(filepath.Join(root, "state")),
				multidb.WithBoot(boot, time.Minute), multidb.WithWatch(false))
			if err == nil {
				err = m.Start(t.Context())
			}
			silent := rep.Inject(multidbtest.Fault{Err: multidbtest.ErrInjected}) // or no new file is made over a backup
			if err == nil {
				err = m.Do(t.Context(), "p0/d0", func(db *sql.DB) error {
					_, err := db.Exec("CREATE TABLE " + name + "(v)")
					return err
				})
			}
			if err != nil {
				t.Fatal(err)
			}
			silent.Clear()
			all = append(all, m)
			if _, err := m.Sync(t.Context(), "p0/d0"); name == "first" && err != nil || name == "second" && !errors.Is(err, multidb.ErrFenced) {
				t.Errorf("%s: sync: %v", name, err)
			}
		}
		rep.Inject(multidbtest.Fault{Op: multidbtest.OpList, Delay: time.Minute, Times: 1})
		adopted := make(chan error, 1)
		go func() {
			_, err := all[1].Adopt(t.Context(), "p0/d0")
			adopted <- err
		}()
		time.Sleep(30 * time.Second) // of the bubble's clock: Adopt waits for its listing
		if pos, err := all[1].Sync(t.Context(), "p0/d0"); !errors.Is(err, multidb.ErrFenced) {
			t.Errorf("a Sync during Adopt: transaction %v, %v; want ErrFenced", pos.TXID, err)
		}
		if err := <-adopted; err != nil {
			t.Errorf("adopt: %v", err)
		}
		if _, err := all[1].Sync(t.Context(), "p0/d0"); err != nil {
			t.Errorf("a Sync after Adopt: %v", err)
		}
		for _, m := range all {
			if err := m.Close(t.Context()); err != nil {
				t.Error(err)
			}
		}
	})
}
