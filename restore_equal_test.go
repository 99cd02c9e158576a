package multidb_test

import (
	"bytes"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/benbjohnson/litestream"
	"github.com/benbjohnson/litestream/file"
	"github.com/superfly/ltx"

	"github.com/multidb-go/multidb"
)

// TestEveryStateOfARandomDatabaseIsRestoredAsStockLitestreamDoes, page for page: databases
// that grow, shrink and are rewritten, whose files are single ones, compacted ones and
// snapshots, restored to transactions and to times.
func TestEveryStateOfARandomDatabaseIsRestoredAsStockLitestreamDoes(t *testing.T) {
	t.Parallel()
	for i, pageSize := range []int{4096, 512, 1024, 65536} {
		if testing.Short() && i > 1 {
			break
		}
		t.Run(fmt.Sprint(pageSize), func(t *testing.T) {
			seed := rand.Uint64()
			t.Log("seed", seed)
			restoreAsStock(t, pageSize, rand.New(rand.NewPCG(seed, 0)))
		})
	}
}

func restoreAsStock(t *testing.T, pageSize int, rng *rand.Rand) {
	root, replicaDir, outDir := memoryDir(t), memoryDir(t), memoryDir(t)
	const id = "p/d"
	path := filepath.Join(root, "p/databases/d.db")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	sqlExec(t, path, fmt.Sprintf("PRAGMA page_size=%d", pageSize), "PRAGMA journal_mode=wal",
		"CREATE TABLE t(k INTEGER PRIMARY KEY, v BLOB)", "CREATE INDEX i ON t(v)")
	rep, err := multidb.NewFileReplica(replicaDir, "{{project}}/{{database}}")
	if err != nil {
		t.Fatal(err)
	}
	var times []time.Time
	base := time.Now().Add(time.Second)
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		now := func() time.Time { return base.Add(time.Since(began)) }
		m, err := multidb.New(multidb.WithDiscoverer(multidb.Glob(pattern(root))), multidb.WithReplica(rep),
			multidb.WithWatch(false), multidb.WithClock(now), multidb.WithSnapshotInterval(time.Minute))
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		for range 150 {
			if err := m.Do(t.Context(), id, func(db *sql.DB) error { return changeAtRandom(db, rng) }); err != nil {
				t.Fatal(err)
			}
			if _, err := m.Sync(t.Context(), id); err != nil {
				t.Fatal(err)
			}
			times = append(times, now())
			<-time.After(time.Second)
		}
		if err := m.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	})

	tenant, ok := multidb.Glob(pattern(root)).Locate(id)
	if !ok {
		t.Fatal("no such ID")
	}
	files, err := multidb.ReplicaFiles(t.Context(), rep, tenant, false)
	if err != nil {
		t.Fatal(err)
	}
	levels := map[int]int{}
	var opts []multidb.RestoreOptions
	for _, f := range files {
		levels[f.Level]++
		if f.Level > 0 || rng.IntN(8) == 0 {
			opts = append(opts, multidb.RestoreOptions{TXID: f.MaxTXID})
		}
	}
	if levels[0] == 0 || levels[1] == 0 || levels[litestream.SnapshotLevel] == 0 {
		t.Errorf("files by level: %v", levels)
	}
	for range 10 {
		opts = append(opts, multidb.RestoreOptions{Timestamp: times[rng.IntN(len(times))].Add(500 * time.Millisecond)})
	}
	opts = append(opts, multidb.RestoreOptions{})
	for i, opt := range opts {
		opt.OutputPath, opt.IntegrityCheck = filepath.Join(outDir, fmt.Sprint(i)), multidb.IntegrityQuick
		err := multidb.RestoreFrom(t.Context(), rep, tenant, opt)
		sopt := litestream.NewRestoreOptions()
		sopt.OutputPath, sopt.TXID, sopt.Timestamp = opt.OutputPath+"-stock", ltx.TXID(opt.TXID), opt.Timestamp
		stock := litestream.NewReplicaWithClient(nil, file.NewReplicaClient(filepath.Join(replicaDir, "p/d"))).Restore(t.Context(), sopt)
		if err != nil || stock != nil {
			t.Errorf("%+v: %v; stock %v", opt, err, stock)
			continue
		}
		a, err := os.ReadFile(opt.OutputPath)
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(sopt.OutputPath)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(a, b) {
			t.Errorf("%+v: %d bytes, stock %d, and they differ", opt, len(a), len(b))
		}
		for _, path := range []string{opt.OutputPath, sopt.OutputPath} {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Logf("%d restores, files by level: %v", len(opts), levels)
}

// changeAtRandom commits something.
func changeAtRandom(db *sql.DB, rng *rand.Rand) error {
	var err error
	switch n := rng.IntN(12); {
	case n < 6:
		_, err = db.Exec("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<?) INSERT INTO t(v) SELECT randomblob(?) FROM n", 1+rng.IntN(30), rng.IntN(3000))
	case n < 8:
		_, err = db.Exec("UPDATE t SET v=zeroblob(?) WHERE k%?=0", rng.IntN(2000), 1+rng.IntN(20))
	case n < 10:
		_, err = db.Exec("DELETE FROM t WHERE k%?=0", 1+rng.IntN(6))
	case n < 11:
		_, err = db.Exec("VACUUM")
	default:
		_, err = db.Exec("DELETE FROM t WHERE k > (SELECT avg(k) FROM t)")
	}
	if err == nil { // so that there always is something
		_, err = db.Exec("INSERT INTO t(v) VALUES('one')")
	}
	return err
}
