package catalog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// closedCatalog makes a directory with a catalog of 500 records and returns the
// file's name and content.
func closedCatalog(t testing.TB) (name string, content []byte) {
	t.Helper()
	dir := t.TempDir()
	c, err := Open(context.Background(), dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 500 {
		c.Put(record(i))
	}
	if err := c.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	name = filepath.Join(dir, "catalog.db")
	content, err = os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return name, content
}

func write(t testing.TB, name string, content []byte) {
	t.Helper()
	if err := os.WriteFile(name, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// foreign returns the content of a database that an SQL script makes.
func foreign(t testing.TB, script string) []byte {
	t.Helper()
	name := filepath.Join(t.TempDir(), "foreign.db")
	db, err := openDB(name)
	if err != nil {
		t.Fatal(err)
	}
	_, err = db.Exec(script)
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// expectRecovery opens the catalog, which holds damaged, and expects a new one.
func expectRecovery(t *testing.T, name string, damaged []byte) {
	t.Helper()
	c := open(t, filepath.Dir(name))
	var damage *DamagedError
	if !errors.As(c.Recovered(), &damage) {
		t.Fatalf("Recovered: %v", c.Recovered())
	}
	kept, err := os.ReadFile(damage.MovedTo)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(kept, damaged) {
		t.Errorf("%s is not what was found damaged", damage.MovedTo)
	}
	if c.ClosedCleanly() || c.nodeID == 0 {
		t.Errorf("the new catalog: clean %v, node %d", c.ClosedCleanly(), c.nodeID)
	}
	expect(t, c)
	c.Put(record(1))
	mustClose(t, c)
	c = open(t, filepath.Dir(name))
	if err := c.Recovered(); err != nil {
		t.Errorf("the new catalog is damaged as well: %v", err)
	}
	expect(t, c, record(1))
	mustClose(t, c)
}

func TestADamagedFileIsMovedAsideAndReplaced(t *testing.T) {
	name, good := closedCatalog(t)
	flipped := func(from, to int) []byte {
		b := bytes.Clone(good)
		for i := from; i < to; i++ {
			b[i] ^= 0xff
		}
		return b
	}
	const ours = "PRAGMA application_id = 0x6d646263; PRAGMA user_version = 1;"
	cases := map[string][]byte{
		"an empty file":            {},
		"a text":                   []byte("not a database at all\n"),
		"zeros":                    make([]byte, 8192),
		"the first 50 bytes":       good[:50],
		"the header alone":         good[:100],
		"the first page":           good[:4096],
		"all but the last page":    good[:len(good)-4096],
		"a broken header":          flipped(0, 16),
		"an unknown write format":  flipped(18, 19),
		"an unknown schema format": flipped(47, 48),
		"a broken schema page":     flipped(100, 120),
		"a broken page of a table": flipped(len(good)/2/4096*4096, len(good)/2/4096*4096+16),
		"another program's":        foreign(t, "CREATE TABLE t (x)"),
		"another program's in WAL": foreign(t, "PRAGMA journal_mode = WAL; CREATE TABLE t (x)"),
		"no tables":                foreign(t, ours),
		"no node ID":               foreign(t, "BEGIN;"+schema+ours+"COMMIT"),
		"format 0":                 foreign(t, "BEGIN;"+schema+"COMMIT; PRAGMA application_id = 0x6d646263"),
		"a missing column": foreign(t, "BEGIN;"+schema+ours+
			"INSERT INTO meta VALUES ('node_id', 1), ('clean', 0); ALTER TABLE databases DROP COLUMN sum; COMMIT"),
	}
	for what, content := range cases {
		t.Run(what, func(t *testing.T) {
			write(t, name, content)
			expectRecovery(t, name, content) // within a second of each other: no name is used twice
		})
	}
}

func TestAWALWithoutItsDatabaseIsNotReplayedIntoANewOne(t *testing.T) {
	dir := t.TempDir()
	c := open(t, dir)
	c.Put(record(1))
	flush(t, c)
	lost := copyDir(t, dir)
	if err := os.Remove(filepath.Join(lost, "catalog.db")); err != nil {
		t.Fatal(err)
	}
	after := open(t, lost)
	expect(t, after)
	if after.Recovered() == nil || after.nodeID == c.nodeID {
		t.Errorf("recovered %v, node ID kept %v", after.Recovered(), after.nodeID == c.nodeID)
	}
}

func TestADamagedWALTailLosesOnlyWhatFollowsIt(t *testing.T) {
	dir := t.TempDir()
	c := open(t, dir)
	c.Put(record(1))
	flush(t, c)
	kept := copyDir(t, dir)
	wal := filepath.Join(kept, "catalog.db-wal")
	info, err := os.Stat(wal)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(wal, info.Size()-1); err != nil { // the last commit is cut
		t.Fatal(err)
	}
	after := open(t, kept)
	expect(t, after)
	if after.Recovered() != nil || after.nodeID != c.nodeID || after.ClosedCleanly() {
		t.Errorf("recovered %v, node %v, clean %v", after.Recovered(), after.nodeID, after.ClosedCleanly())
	}
}

func TestANewerFormatIsRefusedAndLeftAlone(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "catalog.db")
	content := foreign(t, fmt.Sprintf("PRAGMA application_id = %d; PRAGMA user_version = %d; CREATE TABLE later (x)",
		applicationID, formatVersion+1))
	write(t, name, content)
	for range 2 { // the second one is not locked out
		if _, err := Open(t.Context(), dir, Options{}); !errors.Is(err, ErrNewerFormat) {
			t.Fatalf("Open: %v", err)
		}
	}
	after, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(after, content) {
		t.Error("the file was changed")
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) != 2 {
		t.Errorf("files: %v, %v; want lock and catalog.db", files, err)
	}
}

func TestACrashWhileTheFileIsCreatedIsNoDamage(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "catalog.db.new"), []byte("half"))
	write(t, filepath.Join(dir, "catalog.db.new-journal"), []byte("half"))
	c := open(t, dir)
	if err := c.Recovered(); err != nil {
		t.Errorf("Recovered: %v", err)
	}
	c.Put(record(1))
	flush(t, c)
}

func TestAnOpenThatIsCancelledDamagesNothing(t *testing.T) {
	name, good := closedCatalog(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Open(ctx, filepath.Dir(name), Options{}); !errors.Is(err, context.Canceled) {
		t.Fatalf("Open: %v", err)
	}
	if after, err := os.ReadFile(name); err != nil || !bytes.Equal(after, good) {
		t.Errorf("the file was changed: %v", err)
	}
	c := open(t, filepath.Dir(name))
	if n := len(load(t, c)); n != 500 || c.Recovered() != nil {
		t.Errorf("%d records, recovered %v", n, c.Recovered())
	}
}

// FuzzAnyFileCanBeOpened damages a good catalog at one place. Open either takes
// the file, moves it aside or calls it newer; it never fails otherwise, and the
// catalog can be read and written after it.
func FuzzAnyFileCanBeOpened(f *testing.F) {
	_, good := closedCatalog(f)
	f.Add(uint32(0), []byte("SQLite"), uint32(len(good)))
	f.Add(uint32(18), []byte{2, 2}, uint32(8192))
	f.Add(uint32(60), []byte{0, 0, 0, 9}, uint32(len(good)))
	f.Add(uint32(4096), []byte{13, 0, 0, 0, 255}, uint32(len(good)))
	f.Add(uint32(100), []byte{5, 255, 255}, uint32(5000))
	f.Fuzz(func(t *testing.T, at uint32, patch []byte, size uint32) {
		b := bytes.Clone(good)
		copy(b[int(at)%len(b):], patch)
		b = b[:int(size)%(len(b)+1)]
		dir := t.TempDir()
		write(t, filepath.Join(dir, "catalog.db"), b)
		c, err := Open(t.Context(), dir, Options{})
		if errors.Is(err, ErrNewerFormat) {
			return
		}
		if err != nil {
			t.Fatalf("Open: %v", err)
		}
		for _, err := range c.Load(t.Context()) {
			if err != nil {
				t.Fatalf("Load: %v", err)
			}
		}
		c.Put(record(1))
		mustClose(t, c)
	})
}
