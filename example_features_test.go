package multidb_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"log"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbtest"
)

// exampleInsert writes a note through the pool and ships it.
func exampleInsert(m *multidb.Manager, id multidb.ID, text string) multidb.Pos {
	err := m.Do(context.Background(), id, func(db *sql.DB) error {
		_, err := db.Exec("INSERT INTO notes VALUES (?)", text)
		return err
	})
	if err != nil {
		log.Fatal(err)
	}
	pos, err := m.Sync(context.Background(), id)
	if err != nil {
		log.Fatal(err)
	}
	return pos
}

// Cold databases that another process changes now and then are not worth a
// request each: they are shipped when they become hot, or when Sync asks.
func ExampleWithColdSyncMode() {
	ctx := context.Background()
	m, stop := exampleManager(
		multidb.WithReplica(multidbtest.NewReplica()),
		multidb.WithColdSyncMode(multidb.ColdSyncNone),
		multidb.WithPromotion(0, 0), // what others write makes nothing hot
		multidb.WithHotDuration(10*time.Millisecond),
		multidb.WithSyncInterval(10*time.Millisecond),
		multidb.WithColdSyncInterval(20*time.Millisecond),
	)
	defer stop()
	await := func(what string, is func(multidb.Status) bool) multidb.Status {
		for range time.Tick(5 * time.Millisecond) {
			if st, err := m.Status("p/d"); err == nil && is(st) {
				fmt.Println(what)
				return st
			}
		}
		panic("unreachable")
	}
	exampleInsert(m, "p/d", "by us")
	st := await("cold", func(st multidb.Status) bool { return st.Tier == multidb.Cold })

	other, err := sql.Open("sqlite", st.Path) // stands for another process
	if err != nil {
		log.Fatal(err)
	}
	if _, err := other.Exec("INSERT INTO notes VALUES ('by another')"); err != nil {
		log.Fatal(err)
	}
	if err := other.Close(); err != nil {
		log.Fatal(err)
	}
	await("pending", func(st multidb.Status) bool { return !st.PendingSince.IsZero() })
	ok, _ := m.Healthy(10 * time.Second)
	fmt.Println("healthy:", ok)

	if _, err := m.Sync(ctx, "p/d"); err != nil {
		log.Fatal(err)
	}
	await("shipped", func(st multidb.Status) bool { return st.PendingSince.IsZero() })
	// Output:
	// cold
	// pending
	// healthy: true
	// shipped
}

func ExampleManager_Stats() {
	m, stop := exampleManager(multidb.WithReplica(multidbtest.NewReplica()))
	defer stop()
	exampleInsert(m, "p/a", "one")
	exampleInsert(m, "p/b", "two")

	s := m.Stats()
	fmt.Println(s.Databases, "databases,", s.Hot, "hot,", s.Pool.Open, "open,", s.Unwell.Total(), "unwell")
	fmt.Println("lag known:", s.LagP99 >= s.LagP50)
	for _, r := range multidb.Reasons() {
		if n := s.FailuresBy[r]; n > 0 {
			fmt.Println(n, "runs failed:", r)
		}
	}
	// Output:
	// 2 databases, 2 hot, 2 open, 0 unwell
	// lag known: true
}

// Alerts go by the reason, which is one of a few, and not by the text.
func ExampleReasonOf() {
	err := &multidb.Error{Op: "sync", ID: "p/d", Err: fmt.Errorf("write: %w", multidb.ErrThrottled)}
	switch reason := multidb.ReasonOf(err); reason {
	case multidb.ReasonThrottled, multidb.ReasonUnreachable:
		fmt.Println("it heals by itself:", reason)
	default:
		fmt.Println("call somebody:", reason)
	}
	// Output: it heals by itself: throttled
}

// A point in time: what was, before somebody deleted it.
func ExampleRestoreOptions() {
	ctx := context.Background()
	m, stop := exampleManager(multidb.WithReplica(multidbtest.NewReplica()))
	defer stop()
	exampleInsert(m, "p/d", "precious")
	<-time.After(2 * time.Millisecond) // LTX files are dated in milliseconds
	before := time.Now()
	<-time.After(2 * time.Millisecond)
	err := m.Do(ctx, "p/d", func(db *sql.DB) error {
		_, err := db.Exec("DELETE FROM notes")
		return err
	})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := m.Sync(ctx, "p/d"); err != nil {
		log.Fatal(err)
	}

	out, err := os.MkdirTemp("", "multidb-example-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(out)
	path := filepath.Join(out, "before.db")
	if err := m.Restore(ctx, "p/d", multidb.RestoreOptions{OutputPath: path, Timestamp: before}); err != nil {
		log.Fatal(err)
	}
	db, err := sql.Open("sqlite", path)
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	var text string
	if err := db.QueryRow("SELECT text FROM notes").Scan(&text); err != nil {
		log.Fatal(err)
	}
	fmt.Println(text)
	// Output: precious
}

// The replica alone tells which tenants there are.
func ExampleListTenants() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "multidb-example-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	replica, err := multidb.NewFileReplica(dir, "{{project}}/{{database}}")
	if err != nil {
		log.Fatal(err)
	}
	m, stop := exampleManager(multidb.WithReplica(replica))
	for _, id := range []multidb.ID{"acme/main", "acme/archive", "umbrella/main"} {
		exampleInsert(m, id, "x")
	}
	stop()

	var ids []string
	for db, err := range multidb.ListTenants(ctx, replica) {
		if err != nil {
			log.Fatal(err)
		}
		ids = append(ids, string(db.ID))
	}
	slices.Sort(ids)
	fmt.Println(ids)
	// Output: [acme/archive acme/main umbrella/main]
}

// A new machine with an empty disk serves every tenant from its first Acquire.
func ExampleWithRestoreOnOpen() {
	ctx := context.Background()
	replica := multidbtest.NewReplica()
	lost, stop := exampleManager(multidb.WithReplica(replica))
	exampleInsert(lost, "p/d", "from the machine that was lost")
	stop()

	m, stop := exampleManager(multidb.WithReplica(replica), multidb.WithRestoreOnOpen())
	defer stop()
	for _, id := range []multidb.ID{"p/d", "p/new"} {
		var n int
		err := m.Do(ctx, id, func(db *sql.DB) error {
			return db.QueryRow("SELECT count(*) FROM notes").Scan(&n)
		})
		fmt.Println(id, n, err)
	}
	// Output:
	// p/d 1 <nil>
	// p/new 0 <nil>
}

// byTable finds databases in a table of the application's own.
type byTable struct {
	root    string
	tenants map[multidb.ID]string // file names
}

// Discover yields what is in the table and exists. After an error nothing is
// taken for gone.
func (d byTable) Discover(context.Context) iter.Seq2[multidb.Database, error] {
	return func(yield func(multidb.Database, error) bool) {
		for id, name := range d.tenants {
			db := multidb.Database{ID: id, Path: filepath.Join(d.root, name)}
			if _, err := os.Stat(db.Path); errors.Is(err, os.ErrNotExist) {
				continue
			} else if err != nil {
				yield(multidb.Database{}, err)
				return
			}
			if !yield(db, nil) {
				return
			}
		}
	}
}

// A Discoverer of one's own: where tenants are is in a table, not in their paths.
func ExampleDiscoverer() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "multidb-example-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.WriteFile(filepath.Join(dir, "7f3a.db"), nil, 0o600); err != nil {
		log.Fatal(err)
	}
	m, err := multidb.New(
		multidb.WithDiscoverer(byTable{dir, map[multidb.ID]string{"acme": "7f3a.db"}}),
		multidb.WithReplica(multidbtest.NewReplica()),
		multidb.WithStateDir(filepath.Join(dir, "state")), // no pattern says where
	)
	if err != nil {
		log.Fatal(err)
	}
	if err := m.Start(ctx); err != nil {
		log.Fatal(err)
	}
	defer m.Close(ctx)
	st, err := m.Status("acme")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(st.ID, filepath.Base(st.Path))
	// Output: acme 7f3a.db
}

// An observer is told of every change of state, never of every sync.
func ExampleWithObserver() {
	added := make(chan multidb.ID, 10)
	m, stop := exampleManager(multidb.WithObserver(func(ev multidb.Event) {
		if ev.Type == multidb.EventAdded {
			added <- ev.ID
		}
	}))
	defer stop()
	if err := m.Do(context.Background(), "p/d", func(*sql.DB) error { return nil }); err != nil {
		log.Fatal(err)
	}
	fmt.Println("added", <-added)
	// Output: added p/d
}
