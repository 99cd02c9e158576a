package catalog

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

// helperDir, in the environment, makes the test binary hold that directory's
// catalog until it is killed.
const helperDir = "MULTIDB_CATALOG_HELPER_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(helperDir); dir != "" {
		holdUntilKilled(dir)
	}
	goleak.VerifyTestMain(m)
}

func holdUntilKilled(dir string) {
	c, err := Open(context.Background(), dir, Options{})
	if err == nil {
		for i := range 100 {
			c.Put(record(i))
		}
		err = c.Flush(context.Background())
	}
	fmt.Println("ready", err)
	select {}
}

func open(t *testing.T, dir string) *Catalog {
	t.Helper()
	c, err := Open(t.Context(), dir, Options{OnError: func(err error) { t.Errorf("OnError: %v", err) }})
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	t.Cleanup(func() {
		if err := c.Abandon(); err != nil { // nothing if the test closed it
			t.Errorf("Abandon: %v", err)
		}
	})
	return c
}

// pending is how many records are put or deleted, but not flushed. No Flush runs.
func pending(c *Catalog) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.queue)
}

func flush(t *testing.T, c *Catalog) {
	t.Helper()
	if err := c.Flush(t.Context()); err != nil {
		t.Fatalf("Flush: %v", err)
	}
	if n := pending(c); n != 0 {
		t.Fatalf("%d records pending after Flush", n)
	}
}

func mustClose(t *testing.T, c *Catalog) {
	t.Helper()
	if err := c.Close(t.Context()); err != nil {
		t.Fatalf("Close: %v", err)
	}
}

func load(t *testing.T, c *Catalog) map[string]Record {
	t.Helper()
	all := make(map[string]Record)
	for r, err := range c.Load(t.Context()) {
		if err != nil {
			t.Fatalf("Load: %v", err)
		}
		if _, twice := all[r.ID]; twice {
			t.Errorf("Load gave %q twice", r.ID)
		}
		r.State, r.Files = slices.Clone(r.State), slices.Clone(r.Files)
		all[r.ID] = r
	}
	return all
}

func expect(t *testing.T, c *Catalog, want ...Record) {
	t.Helper()
	got := load(t, c)
	if len(got) != len(want) {
		t.Errorf("%d records, want %d", len(got), len(want))
	}
	for _, w := range want {
		if g := got[w.ID]; !reflect.DeepEqual(g, w) {
			t.Errorf("loaded %+v\n  want %+v", g, w)
		}
	}
}

func TestRecordsComeBackAsTheyWerePut(t *testing.T) {
	dir := t.TempDir()
	c := open(t, dir)
	want := []Record{
		record(1),
		{ID: "zero"},
		{
			ID: "extreme ☃\x00'\"", Path: "/ü/ \n", Vars: []Var{{"\x00", ""}, {"", "\xff"}, {"a", "ü"}}, RelPath: "\xff/", Dev: math.MaxUint64, Ino: 1 << 63,
			LastWrite: math.MinInt64, TXID: math.MaxUint64, State: []byte{1, 0, 2}, Files: make([]byte, 100_000),
			Prefix: "p", Flags: math.MaxUint32,
		},
	}
	for _, r := range want {
		c.Put(r)
	}
	node := c.nodeID
	if node == 0 {
		t.Error("the node ID is zero")
	}
	mustClose(t, c)
	c = open(t, dir)
	expect(t, c, want...)
	if c.nodeID != node {
		t.Error("the node ID changed")
	}
	if err := c.Recovered(); err != nil {
		t.Errorf("Recovered: %v", err)
	}
	if other := open(t, t.TempDir()); other.nodeID == node {
		t.Error("two directories have one node ID")
	}
}

func TestPutCopiesTheRecord(t *testing.T) {
	c := open(t, t.TempDir())
	r := Record{ID: "a", Vars: []Var{{"project", "p"}}, State: []byte("state"), Files: []byte("files")}
	c.Put(r)
	r.Vars[0] = Var{"x", "x"}
	copy(r.State, "xxxxx")
	copy(r.Files, "xxxxx")
	flush(t, c)
	expect(t, c, Record{ID: "a", Vars: []Var{{"project", "p"}}, State: []byte("state"), Files: []byte("files")})
}

func TestTheLastChangeOfAnIDWins(t *testing.T) {
	c := open(t, t.TempDir())
	c.Put(Record{ID: "put twice", TXID: 1})
	c.Put(Record{ID: "put twice", TXID: 2})
	c.Put(Record{ID: "deleted"})
	c.Delete("deleted")
	c.Delete("put again")
	c.Put(Record{ID: "put again"})
	c.Put(Record{ID: "changed later", TXID: 1, State: []byte("old")})
	c.Put(Record{ID: "deleted later"})
	c.Delete("never there")
	flush(t, c)
	c.Put(Record{ID: "changed later", TXID: 3})
	c.Delete("deleted later")
	expect(t, c, Record{ID: "put twice", TXID: 2}, Record{ID: "put again"},
		Record{ID: "changed later", TXID: 1, State: []byte("old")}, Record{ID: "deleted later"})
	flush(t, c)
	expect(t, c, Record{ID: "put twice", TXID: 2}, Record{ID: "put again"}, Record{ID: "changed later", TXID: 3})
}

func TestASecondOpenIsRefusedUntilTheFirstIsClosed(t *testing.T) {
	dir := t.TempDir()
	c := open(t, dir)
	_, err := Open(t.Context(), dir, Options{})
	if !errors.Is(err, ErrLocked) {
		t.Fatalf("Open: %v", err)
	}
	for _, part := range []string{dir, fmt.Sprintf("process %d)", os.Getpid())} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not name %q", err, part)
		}
	}
	mustClose(t, c)
	mustClose(t, open(t, dir))
}

func TestAKilledProcessLeavesItsFlushedRecordsAndNoLock(t *testing.T) {
	dir := t.TempDir()
	helper := exec.Command(os.Args[0])
	helper.Env = append(os.Environ(), helperDir+"="+dir)
	helper.Stderr = os.Stderr
	out, err := helper.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := helper.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != "ready <nil>\n" {
		t.Errorf("helper: %q, %v", line, err)
	}
	_, err = Open(t.Context(), dir, Options{})
	if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), fmt.Sprintf("process %d)", helper.Process.Pid)) {
		t.Errorf("Open beside another process: %v", err)
	}
	if err := helper.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := helper.Wait(); err == nil {
		t.Error("the helper was not killed")
	}
	c := open(t, dir)
	if got := load(t, c); len(got) != 100 || !reflect.DeepEqual(got[record(42).ID], record(42)) {
		t.Errorf("%d records, want 100", len(got))
	}
	if c.ClosedCleanly() || c.Recovered() != nil {
		t.Errorf("clean %v, recovered %v after a kill", c.ClosedCleanly(), c.Recovered())
	}
}

// copyDir copies the files of a directory, as a crash would leave them.
func copyDir(t *testing.T, from string) string {
	t.Helper()
	to := t.TempDir()
	for _, name := range []string{"catalog.db", "catalog.db-wal"} {
		src, err := os.Open(filepath.Join(from, name))
		if err != nil {
			t.Fatal(err)
		}
		dst, err := os.Create(filepath.Join(to, name))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(dst, src); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(src.Close(), dst.Close()); err != nil {
			t.Fatal(err)
		}
	}
	return to
}

func TestACopyOfAnOpenCatalogHasAllThatWasFlushed(t *testing.T) {
	dir := t.TempDir()
	c := open(t, dir)
	c.Put(record(1))
	mustClose(t, c)
	c = open(t, dir) // closed cleanly once, so that the note must be taken back
	c.Put(record(2))
	flush(t, c)
	c.Put(record(3))
	after := open(t, copyDir(t, dir))
	expect(t, after, record(1), record(2))
	if after.ClosedCleanly() || after.Recovered() != nil {
		t.Errorf("clean %v, recovered %v", after.ClosedCleanly(), after.Recovered())
	}
}

func TestOnlyACloseThatSucceedsIsClean(t *testing.T) {
	dir := t.TempDir()
	c := open(t, dir)
	if c.ClosedCleanly() {
		t.Error("a new catalog was closed cleanly")
	}
	mustClose(t, c)
	if c = open(t, dir); !c.ClosedCleanly() {
		t.Error("a closed catalog was not closed cleanly")
	}
	c.Put(record(1))
	if err := c.Abandon(); err != nil {
		t.Fatal(err)
	}
	c = open(t, dir)
	if c.ClosedCleanly() {
		t.Error("an abandoned catalog was closed cleanly")
	}
	expect(t, c)
}

func TestAFailedCloseKeepsEverythingForTheNext(t *testing.T) {
	dir := t.TempDir()
	c := open(t, dir)
	c.Put(record(1))
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Close(ended); !errors.Is(err, context.Canceled) {
		t.Fatalf("Close: %v", err)
	}
	if _, err := Open(t.Context(), dir, Options{}); !errors.Is(err, ErrLocked) {
		t.Errorf("a failed Close freed the directory: %v", err)
	}
	c.Put(record(2))
	mustClose(t, c)
	mustClose(t, c)
	expect(t, open(t, dir), record(1), record(2))
}

func TestAClosedCatalogRefusesAndSaysSo(t *testing.T) {
	var told []error
	c, err := Open(t.Context(), t.TempDir(), Options{OnError: func(err error) { told = append(told, err) }})
	if err != nil {
		t.Fatal(err)
	}
	mustClose(t, c)
	c.Put(record(1))
	c.Delete("x")
	if len(told) != 2 || !errors.Is(told[0], ErrClosed) || !strings.Contains(told[1].Error(), `"x"`) {
		t.Errorf("OnError was told %v", told)
	}
	if err := c.Flush(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("Flush: %v", err)
	}
	for _, err := range c.Load(t.Context()) {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("Load: %v", err)
		}
	}
	if err := c.Abandon(); err != nil {
		t.Errorf("Abandon: %v", err)
	}
}

func TestFilesAreForTheirOwnerOnly(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "state")
	c := open(t, dir)
	c.Put(record(1))
	flush(t, c)
	for name, want := range map[string]os.FileMode{
		".": 0o700 | os.ModeDir, "lock": 0o600, "catalog.db": 0o600, "catalog.db-wal": 0o600, "catalog.db-shm": 0o600,
	} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != want {
			t.Errorf("%s has mode %v, want %v", name, info.Mode(), want)
		}
	}
}

func TestADirectoryThatCannotBeUsedIsNamed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Open(t.Context(), filepath.Join(file, "state"), Options{})
	if err == nil || !strings.Contains(err.Error(), "cannot create the state directory") || !strings.Contains(err.Error(), file) {
		t.Errorf("below a file: %v", err)
	}
	if _, err := os.Stat("/proc/self/fdinfo"); err != nil {
		t.Skip("needs a directory that even root cannot write to")
	}
	_, err = Open(t.Context(), "/proc/self/fdinfo", Options{})
	if err == nil || !strings.Contains(err.Error(), "cannot write in the state directory") {
		t.Errorf("in a read-only directory: %v", err)
	}
}

func TestAnyDirectoryNameWorks(t *testing.T) {
	for _, name := range []string{"a?b=c", "50%41", "sp ace#x", "file:x", "ü;&"} {
		dir := filepath.Join(t.TempDir(), name)
		c := open(t, dir)
		c.Put(record(1))
		mustClose(t, c)
		if _, err := os.Stat(filepath.Join(dir, "catalog.db")); err != nil {
			t.Error(err)
		}
		expect(t, open(t, dir), record(1))
	}
}

func TestConcurrentUseLosesNothing(t *testing.T) {
	dir := t.TempDir()
	c := open(t, dir)
	const writers, each = 8, 200
	finals := make([]map[string]Record, writers)
	var wg sync.WaitGroup
	for w := range writers {
		finals[w] = make(map[string]Record)
		wg.Go(func() {
			for i := range each {
				r := record(w*1000 + i%50) // ours alone
				r.TXID = uint64(i)
				if i%7 == 6 {
					c.Delete(r.ID)
					delete(finals[w], r.ID)
				} else {
					c.Put(r)
					finals[w][r.ID] = r
				}
				if i%40 == 0 {
					if err := c.Flush(context.Background()); err != nil {
						t.Error(err)
					}
				}
				if i%90 == 0 {
					for _, err := range c.Load(context.Background()) {
						if err != nil {
							t.Error(err)
						}
					}
				}
			}
		})
	}
	wg.Wait()
	mustClose(t, c)
	var want []Record
	for _, f := range finals {
		want = slices.AppendSeq(want, maps.Values(f))
	}
	expect(t, open(t, dir), want...)
}

func TestTheLockSaysWhoHeldItLast(t *testing.T) {
	dir := t.TempDir()
	if _, _, err := Holder(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("of no state directory: %v", err)
	}
	c, err := Open(t.Context(), dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for _, when := range []string{"while it is open", "afterwards"} {
		if pid, on, err := Holder(dir); pid != os.Getpid() || on != host || err != nil {
			t.Errorf("%s: process %d on %q, %v", when, pid, on, err)
		}
		if when == "afterwards" {
			break
		}
		if err := c.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for text, want := range map[string]int{"17\n": 17, "": 0, "x\ny\n": 0} { // an older version; half written; damaged
		if err := os.WriteFile(filepath.Join(dir, "lock"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if pid, on, err := Holder(dir); pid != want || on != "" || err != nil {
			t.Errorf("%q: process %d on %q, %v", text, pid, on, err)
		}
	}
}
