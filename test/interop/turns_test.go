//go:build interop

package interop

import (
	"bytes"
	"context"
	"database/sql"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/multidb-go/multidb"
)

// moment is a state of the source that is known to be at the replica.
type moment struct {
	name string
	txid multidb.TXID
	at   time.Time // after it was shipped, before anything else was written
	copy string    // of the source
}

// ours is one database of ours, for what needs no Manager.
func (g *gateway) ours(t *testing.T) (multidb.ReplicaFactory, multidb.Database) {
	t.Helper()
	factory, err := multidb.NewS3Replica(g.s3())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(factory.CloseIdleConnections)
	return factory, multidb.Database{ID: id, Vars: []multidb.Var{{Name: "project", Value: "project0"}, {Name: "database", Value: "db0"}}}
}

// newest is the last transaction of the prefix; 0 if it is empty.
func (g *gateway) newest(t *testing.T) (last multidb.TXID) {
	t.Helper()
	factory, db := g.ours(t)
	files, err := multidb.ReplicaFiles(t.Context(), factory, db, false)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		last = max(last, f.MaxTXID)
	}
	return last
}

// ourRestore restores the prefix by RestoreFrom, and returns the new file.
func (g *gateway) ourRestore(t *testing.T, opt multidb.RestoreOptions) string {
	t.Helper()
	factory, db := g.ours(t)
	opt.OutputPath = filepath.Join(t.TempDir(), "restored.db")
	if err := multidb.RestoreFrom(t.Context(), factory, db, opt); err != nil {
		t.Fatal(err)
	}
	return opt.OutputPath
}

// note keeps what the source is now, all of which is at the replica.
func (g *gateway) note(t *testing.T, path, name string) moment {
	t.Helper()
	k := moment{name: name, txid: g.newest(t), copy: filepath.Join(t.TempDir(), "copy.db")}
	sqlite3(t, path, ".backup "+k.copy)
	// Time stamps of LTX files are in milliseconds, and a restore takes what is older.
	<-time.After(20 * time.Millisecond)
	k.at = time.Now()
	<-time.After(20 * time.Millisecond)
	return k
}

// requireRestores restores a moment by TXID and by time, by ours and by the
// stock CLI.
func (g *gateway) requireRestores(t *testing.T, k moment) {
	t.Helper()
	requireEqual(t, k.copy, g.ourRestore(t, multidb.RestoreOptions{TXID: k.txid}))
	requireEqual(t, k.copy, g.ourRestore(t, multidb.RestoreOptions{Timestamp: k.at}))
	requireEqual(t, k.copy, g.stockRestore(t, prefix, "-txid", k.txid.String()))
	requireEqual(t, k.copy, g.stockRestore(t, prefix, "-timestamp", k.at.Format(time.RFC3339Nano)))
	if t.Failed() {
		t.Fatalf("%s: TXID %s, %v", k.name, k.txid, k.at)
	}
}

// replicate runs the stock CLI as a daemon while fn writes, and ends it.
func (g *gateway) replicate(t *testing.T, path string, fn func()) {
	t.Helper()
	before := g.newest(t)
	env, args := g.litestreamArgs(t, path, prefix, "replicate")
	cmd := exec.Command(program(t, "MULTIDB_LITESTREAM"), args...)
	var out bytes.Buffer
	cmd.Env, cmd.Stdout, cmd.Stderr = env, &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	defer func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		select {
		case err := <-exited:
			if err != nil {
				t.Errorf("litestream replicate: %v\n%s", err, out.Bytes())
			}
		case <-time.After(time.Minute):
			_ = cmd.Process.Kill()
			t.Errorf("litestream replicate does not end: %v\n%s", <-exited, out.Bytes())
		}
	}()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for g.newest(t) == before {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Errorf("litestream replicate ships nothing")
			return
		}
	}
	fn()
}

// TestAPrefixGoesFromOursToStockLitestreamAndBack replicates one database by the
// one and by the other in turns, with writes in between that nobody saw, and a
// state directory of ours that knows of its own turns only, or of nothing. What
// stock litestream keeps in the database, its own tables, is shipped like the rest.
func TestAPrefixGoesFromOursToStockLitestreamAndBack(t *testing.T) {
	g, root := startGateway(t), t.TempDir()
	path, state := makeDatabase(t, root), filepath.Join(t.TempDir(), "state")
	var known []moment
	last := ""
	for turn, who := range []string{"ours", "stock, once", "ours", "stock, a daemon", "ours with a lost state", "stock, once", "ours",
		"ours with a log", "stock, once", "ours with a log", "ours", "ours with a log", "stock, a daemon"} {
		write(t, path, 20) // by nobody's leave
		before := g.newest(t)
		switch who {
		case "ours", "ours with a lost state", "ours with a log":
			dir := state
			if who == "ours with a lost state" {
				dir = filepath.Join(t.TempDir(), "state")
			}
			var opts []multidb.Option
			if who == "ours with a log" {
				opts = append(opts, fleetLog)
			}
			m := g.resumeManager(t, root, dir, opts...)
			if strings.HasPrefix(last, "stock") {
				takeOver(t, m)
			}
			for range 3 {
				write(t, path, 10)
				err := m.Do(t.Context(), id, func(db *sql.DB) error {
					_, err := db.Exec("INSERT INTO notes (body) VALUES ('through the pool')")
					return err
				})
				if err != nil {
					t.Fatal(err)
				}
				syncNow(t, m)
				if opts != nil { // the moment is that of the prefix
					if err := m.Unpack(t.Context(), id); err != nil {
						t.Fatal(err)
					}
				}
				known = append(known, g.note(t, path, who))
			}
			if opts != nil { // stock litestream goes on from what several commits left to Close
				for range 3 {
					write(t, path, 5)
					syncNow(t, m)
				}
			}
			closeManager(t, m)
		case "stock, once":
			for range 2 {
				g.litestream(t, path, prefix, "replicate", "-once")
				known = append(known, g.note(t, path, who))
				write(t, path, 10)
			}
			g.litestream(t, path, prefix, "replicate", "-once")
		case "stock, a daemon":
			g.replicate(t, path, func() { write(t, path, 30) })
		}
		if after := g.newest(t); after <= before {
			t.Fatalf("turn %d, %s: the prefix went from TXID %s to %s", turn, who, before, after)
		}
		k := g.note(t, path, who)
		requireEqual(t, path, g.stockRestore(t, prefix))
		requireEqual(t, path, g.ourRestore(t, multidb.RestoreOptions{}))
		if t.Failed() {
			t.Fatalf("after turn %d, %s, at TXID %s", turn, who, k.txid)
		}
		known, last = append(known, k), who
	}
	for _, k := range known {
		g.requireRestores(t, k)
	}
	t.Logf("%d states, each restored by TXID and by time, by both; %s transactions", len(known), g.newest(t))
}

// TestAPrefixOfOneIsRestoredByTheOtherAtEveryMoment is about a prefix that one of
// the two has written alone.
func TestAPrefixOfOneIsRestoredByTheOtherAtEveryMoment(t *testing.T) {
	for name, ship := range map[string]func(t *testing.T, g *gateway, root, path string) func(){
		"ours": func(t *testing.T, g *gateway, root, _ string) func() {
			m := g.startManager(t, root)
			return func() { syncNow(t, m) }
		},
		"stock": func(t *testing.T, g *gateway, _, path string) func() {
			return func() { g.litestream(t, path, prefix, "replicate", "-once") }
		},
	} {
		t.Run(name, func(t *testing.T) {
			g, root := startGateway(t), t.TempDir()
			path := makeDatabase(t, root)
			sync := ship(t, g, root, path)
			var known []moment
			for i := range 6 {
				write(t, path, 20)
				if i == 3 {
					sqlite3(t, path, "DELETE FROM notes WHERE id % 3 = 0; VACUUM;")
				}
				sync()
				known = append(known, g.note(t, path, name))
			}
			for _, k := range known {
				g.requireRestores(t, k)
			}
		})
	}
}
