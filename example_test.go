package multidb_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbtest"
)

// exampleManager starts a Manager over an empty tree, with a schema.
func exampleManager(opts ...multidb.Option) (*multidb.Manager, func()) {
	dir, err := os.MkdirTemp("", "multidb-example-")
	if err != nil {
		log.Fatal(err)
	}
	m, err := multidb.New(append([]multidb.Option{
		multidb.WithDiscoverer(multidb.Glob(filepath.Join(dir, "{{project}}/databases/{{database}}.db"))),
		multidb.WithOpenHook(func(ctx context.Context, _ multidb.Database, db *sql.DB) error {
			_, err := db.ExecContext(ctx, "CREATE TABLE IF NOT EXISTS notes (text TEXT)")
			return err
		}),
	}, opts...)...)
	if err != nil {
		log.Fatal(err)
	}
	if err := m.Start(context.Background()); err != nil {
		log.Fatal(err)
	}
	return m, func() {
		if err := m.Close(context.Background()); err != nil {
			log.Print(err)
		}
		_ = os.RemoveAll(dir)
	}
}

func ExampleManager() {
	ctx := context.Background()
	m, stop := exampleManager(multidb.WithReplica(multidbtest.NewReplica()))
	defer stop()

	h, err := m.Acquire(ctx, "project0/db0") // made, since the pattern allows it
	if err != nil {
		log.Fatal(err)
	}
	defer h.Release()
	if _, err := h.DB().ExecContext(ctx, "INSERT INTO notes VALUES ('hello')"); err != nil {
		log.Fatal(err)
	}
	pos, err := m.Sync(ctx, "project0/db0") // durable from here on
	if err != nil {
		log.Fatal(err)
	}
	st, err := m.Status("project0/db0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(st.ID, st.Tier, st.TXID == pos.TXID)
	// Output: project0/db0 hot true
}

func ExampleManager_Restore() {
	ctx := context.Background()
	m, stop := exampleManager(multidb.WithReplica(multidbtest.NewReplica()))
	defer stop()

	write := func(text string) multidb.Pos {
		err := m.Do(ctx, "p/d", func(db *sql.DB) error {
			_, err := db.Exec("INSERT INTO notes VALUES (?)", text)
			return err
		})
		if err != nil {
			log.Fatal(err)
		}
		pos, err := m.Sync(ctx, "p/d")
		if err != nil {
			log.Fatal(err)
		}
		return pos
	}
	first := write("one")
	write("two")

	out, err := os.MkdirTemp("", "multidb-example-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(out)
	for _, opt := range []multidb.RestoreOptions{
		{OutputPath: filepath.Join(out, "newest.db")},
		{OutputPath: filepath.Join(out, "first.db"), TXID: first.TXID},
	} {
		if err := m.Restore(ctx, "p/d", opt); err != nil {
			log.Fatal(err)
		}
		db, err := sql.Open("sqlite", opt.OutputPath)
		if err != nil {
			log.Fatal(err)
		}
		var n int
		if err := db.QueryRow("SELECT count(*) FROM notes").Scan(&n); err != nil {
			log.Fatal(err)
		}
		fmt.Println(filepath.Base(opt.OutputPath), n)
		_ = db.Close()
	}
	err = m.Restore(ctx, "p/d", multidb.RestoreOptions{OutputPath: filepath.Join(out, "first.db")})
	fmt.Println("over an existing file:", errors.Is(err, multidb.ErrExists))
	// Output:
	// newest.db 2
	// first.db 1
	// over an existing file: true
}

func ExampleManager_Healthy() {
	rep := multidbtest.NewReplica()
	m, stop := exampleManager(multidb.WithReplica(rep), multidb.WithSyncInterval(10*time.Millisecond))
	defer stop()

	fault := rep.Inject(multidbtest.Fault{Prefix: "p/d", Err: errors.New("access denied")})
	if err := m.Do(context.Background(), "p/d", func(*sql.DB) error { return nil }); err != nil {
		log.Fatal(err)
	}
	_, err := m.Sync(context.Background(), "p/d")
	fmt.Println(err)
	ok, worst := m.Healthy(10 * time.Second)
	fmt.Println(ok, worst[0].ID)

	fault.Clear()
	if _, err := m.Sync(context.Background(), "p/d"); err != nil {
		log.Fatal(err)
	}
	ok, _ = m.Healthy(10 * time.Second)
	fmt.Println(ok)
	// Output:
	// multidb: sync "p/d": list the replica: access denied
	// false p/d
	// true
}

func ExampleParseTemplate() {
	t, err := multidb.ParseTemplate("litestream/{{project}}/{{database}}/")
	if err != nil {
		log.Fatal(err)
	}
	prefix, err := t.Expand(multidb.Database{
		ID: "project0/db0", Path: "/data/project0/databases/db0.db",
		Vars: []multidb.Var{{Name: "project", Value: "project0"}, {Name: "database", Value: "db0"}},
	})
	fmt.Println(prefix, err)
	// Output: litestream/project0/db0 <nil>
}

func ExampleParsePattern() {
	p, err := multidb.ParsePattern("/data/*/databases/*.db")
	if err != nil {
		log.Fatal(err)
	}
	vars, ok := p.Match("/data/acme/databases/orders.db")
	fmt.Println(vars, ok)
	db, ok := p.PathFor("acme/orders")
	fmt.Println(db.Path, ok)
	// Output:
	// [{project acme} {database orders}] true
	// /data/acme/databases/orders.db true
}

func ExampleNew_invalid() {
	_, err := multidb.New(multidb.WithSyncInterval(-1))
	fmt.Println(errors.Is(err, multidb.ErrInvalidOption))
	// Output: true
}
