package multidb_test

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"

	"github.com/multidb-go/multidb"
)

// A machine that has nothing but the replica gets every database back.
func ExampleRestoreAllFrom() {
	ctx := context.Background()
	check := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	dir, err := os.MkdirTemp("", "example-*")
	check(err)
	defer os.RemoveAll(dir)
	replica, err := multidb.NewFileReplica(filepath.Join(dir, "backup"), "{{project}}/{{database}}")
	check(err)

	// The machine that was lost.
	m, err := multidb.New(
		multidb.WithDiscoverer(multidb.Glob(filepath.Join(dir, "data/{{project}}/{{database}}.db"))),
		multidb.WithReplica(replica))
	check(err)
	check(os.MkdirAll(filepath.Join(dir, "data"), 0o755))
	check(m.Start(ctx))
	for _, id := range []multidb.ID{"acme/main", "umbrella/main"} {
		check(m.Do(ctx, id, func(db *sql.DB) error {
			_, err := db.Exec("CREATE TABLE notes (body)")
			return err
		}))
	}
	check(m.SyncAll(ctx))

	// The new one. The same call goes on where it was, if it was ended.
	r, err := multidb.RestoreAllFrom(ctx, replica, multidb.RestoreAllOptions{Dir: filepath.Join(dir, "new")})
	fmt.Println(r.Restored, "restored,", r.Failed, "failed,", err)
	check(m.Close(ctx))
	// Output: 2 restored, 0 failed, <nil>
}

// One database of many, from the replica alone; RestoreAllFrom is for all of them.
func ExampleRestoreFrom() {
	ctx := context.Background()
	check := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	dir, err := os.MkdirTemp("", "example-*")
	check(err)
	defer os.RemoveAll(dir)
	replica, err := multidb.NewFileReplica(filepath.Join(dir, "backup"), "{{project}}/{{database}}")
	check(err)

	// The machine that was lost.
	m, err := multidb.New(
		multidb.WithDiscoverer(multidb.Glob(filepath.Join(dir, "data/{{project}}/{{database}}.db"))),
		multidb.WithReplica(replica))
	check(err)
	check(os.MkdirAll(filepath.Join(dir, "data"), 0o755))
	check(m.Start(ctx))
	for _, id := range []multidb.ID{"acme/main", "umbrella/main"} {
		check(m.Do(ctx, id, func(db *sql.DB) error {
			_, err := db.Exec("CREATE TABLE notes (body)")
			return err
		}))
	}
	check(m.Close(ctx))

	// The new one.
	n := 0
	for db, err := range multidb.ListTenants(ctx, replica) {
		check(err)
		out := filepath.Join(dir, "new", string(db.ID)+".db")
		check(multidb.RestoreFrom(ctx, replica, db, multidb.RestoreOptions{OutputPath: out}))
		n++
	}
	fmt.Println(n, "databases are back")
	// Output: 2 databases are back
}
