package multidbtest_test

import (
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbtest"
)

func must[T any](t *testing.T, v T, err error) T {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestADefaultManagerWorksInVirtualTime: nothing that a Manager starts by default waits for
// the system, which would keep virtual time from ever going on.
func TestADefaultManagerWorksInVirtualTime(t *testing.T) {
	for name, opts := range map[string][]multidb.Option{
		"by default":       nil,
		"with a fleet log": {multidb.WithFleetLog(multidb.FleetLogConfig{})},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				replica := multidbtest.NewReplica()
				var polled []error
				m, err := multidb.New(append(opts, multidb.WithReplica(replica), multidb.WithDiscoverer(multidb.Glob(filepath.Join(dir, "*/*.db"))),
					multidb.WithObserver(func(e multidb.Event) {
						if e.Type == multidb.EventWatch {
							polled = append(polled, e.Err)
						}
					}))...)
				must(t, m, err)
				must(t, m, m.Start(t.Context()))
				h, err := m.Acquire(t.Context(), "acme/orders")
				must(t, h, err)
				_, err = h.DB().Exec("CREATE TABLE t(v)")
				must(t, m, err)
				first, err := m.Sync(t.Context(), "acme/orders")
				must(t, first, err)
				_, err = h.DB().Exec("INSERT INTO t VALUES(1)")
				must(t, m, err)
				h.Release()
				<-time.After(2 * time.Minute)
				synctest.Wait()
				s, err := m.Status("acme/orders")
				if must(t, s, err); s.TXID <= first.TXID || s.Lag != 0 {
					t.Errorf("after two minutes at transaction %v with a lag of %v, want more than %v", s.TXID, s.Lag, first.TXID)
				}
				must(t, m, m.Close(t.Context()))
				if len(replica.Files("acme/orders")) == 0 {
					t.Error("nothing reached the replica")
				}
				if len(polled) != 1 || !strings.Contains(polled[0].Error(), "synctest") || strings.Contains(polled[0].Error(), "fs.inotify") {
					t.Errorf("of the polling it said %v", polled)
				}
			})
		})
	}
}

// TestInVirtualTimeADatabaseOfAnotherProcessIsFound: directories are polled there, or the
// scan a day later would find it first.
func TestInVirtualTimeADatabaseOfAnotherProcessIsFound(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "acme"), 0o755); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		replica := multidbtest.NewReplica()
		m, err := multidb.New(multidb.WithReplica(replica), multidb.WithDiscoverer(multidb.Glob(filepath.Join(dir, "*/*.db"))),
			multidb.WithScanInterval(24*time.Hour))
		must(t, m, err)
		must(t, m, m.Start(t.Context()))
		db, err := sql.Open("sqlite", filepath.Join(dir, "acme/orders.db"))
		must(t, db, err)
		_, err = db.Exec("CREATE TABLE t(v)")
		must(t, m, errors.Join(err, db.Close()))
		<-time.After(5 * time.Minute)
		synctest.Wait()
		if len(replica.Files("acme/orders")) == 0 {
			t.Error("five minutes later nothing of it is at the replica")
		}
		must(t, m, m.Close(t.Context()))
	})
}
