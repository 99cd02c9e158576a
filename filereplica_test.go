package multidb_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/benbjohnson/litestream"
	"github.com/superfly/ltx"

	"github.com/multidb-go/multidb"
)

var acme = multidb.Database{
	ID:   "acme/main",
	Path: "/data/acme/databases/main.db",
	Vars: []multidb.Var{{Name: "project", Value: "acme"}, {Name: "database", Value: "main"}},
}

// ltxBytes is an LTX file of one page of zeros.
func ltxBytes(t *testing.T, txid ltx.TXID, at time.Time) []byte {
	t.Helper()
	var buf bytes.Buffer
	_, err := (&ltx.FileSpec{
		Header: ltx.Header{Version: ltx.Version, Flags: ltx.HeaderFlagNoChecksum, PageSize: 512, Commit: 1, MinTXID: txid, MaxTXID: txid, Timestamp: at.UnixMilli()},
		Pages:  []ltx.PageSpec{{Header: ltx.PageHeader{Pgno: 1}, Data: make([]byte, 512)}},
	}).WriteTo(&buf)
	if err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func fileReplica(t *testing.T, dir, template string) *multidb.FileReplica {
	t.Helper()
	r, err := multidb.NewFileReplica(dir, template)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func replicaClient(t *testing.T, f multidb.ReplicaFactory, db multidb.Database) litestream.ReplicaClient {
	t.Helper()
	c, err := f.ReplicaClient(db)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func putLTX(t *testing.T, c litestream.ReplicaClient, level int, txid ltx.TXID) {
	t.Helper()
	if _, err := c.WriteLTXFile(t.Context(), level, txid, txid, bytes.NewReader(ltxBytes(t, txid, time.UnixMilli(1000)))); err != nil {
		t.Fatal(err)
	}
}

// tree lists what is below dir, directories with a slash at the end.
func tree(t *testing.T, dir string) []string {
	t.Helper()
	var paths []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if d.IsDir() {
			rel += "/"
		}
		paths = append(paths, rel)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

func TestAFileReplicaIsRefusedWithoutAPlace(t *testing.T) {
	for _, args := range [][2]string{{"", "{{project}}"}, {"/backup\x00", "{{project}}"}, {"/backup", ""}, {"/backup", "{{project"}} {
		if _, err := multidb.NewFileReplica(args[0], args[1]); !errors.Is(err, multidb.ErrInvalidOption) {
			t.Errorf("%q: error is %v, want ErrInvalidOption", args, err)
		}
	}
}

func TestAFileReplicaDoesNoIOBeforeTheFirstWrite(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "deep", "backup")
	r := fileReplica(t, dir, "litestream/{{project}}/{{database}}/")
	prefix, err := r.Prefix(acme)
	if err != nil || prefix != filepath.Join(dir, "litestream/acme/main") {
		t.Errorf("prefix %q, %v", prefix, err)
	}
	if got := r.Vars(); !slices.Equal(got, []string{"project", "database"}) {
		t.Errorf("vars %v", got)
	}
	c := replicaClient(t, r, acme)
	if _, err := c.LTXFiles(t.Context(), 0, 0, false); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Dir(dir)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the directory was made: %v", err)
	}
	putLTX(t, c, 0, 1)
	want := []string{".multidb-replica", "litestream/", "litestream/acme/", "litestream/acme/main/", "litestream/acme/main/ltx/", "litestream/acme/main/ltx/0/",
		"litestream/acme/main/ltx/0/0000000000000001-0000000000000001.ltx"}
	if got := tree(t, dir); !slices.Equal(got, want) {
		t.Errorf("the directory has %q, want %q", got, want)
	}
}

func TestARelativeFileReplicaStaysWhereItWas(t *testing.T) {
	t.Chdir(t.TempDir())
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	r := fileReplica(t, "backup", "{{project}}")
	t.Chdir(t.TempDir())
	if prefix, err := r.Prefix(acme); err != nil || prefix != filepath.Join(here, "backup/acme") {
		t.Errorf("prefix %q, %v", prefix, err)
	}
}

func TestADatabaseWithoutTheVariableHasNoPlaceInAFileReplica(t *testing.T) {
	r := fileReplica(t, t.TempDir(), "{{tenant}}")
	if _, err := r.ReplicaClient(acme); !errors.Is(err, multidb.ErrInvalidOption) {
		t.Errorf("error is %v, want ErrInvalidOption", err)
	}
}

func TestStockLitestreamReadsAFileReplicaByURL(t *testing.T) {
	r := fileReplica(t, t.TempDir(), "{{project}}/{{database}}")
	putLTX(t, replicaClient(t, r, acme), 0, 1)
	prefix, err := r.Prefix(acme)
	if err != nil {
		t.Fatal(err)
	}
	stock, err := litestream.NewReplicaClientFromURL("file://" + prefix)
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "out.db")
	if err := litestream.NewReplicaWithClient(nil, stock).Restore(t.Context(), litestream.RestoreOptions{OutputPath: out}); err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(out); err != nil || len(data) != 512 {
		t.Errorf("restored %d bytes, %v; want 512", len(data), err)
	}
}

func TestWhatACrashLeftIsNotListedAndSweptWhenOld(t *testing.T) {
	r := fileReplica(t, t.TempDir(), "{{project}}")
	putLTX(t, replicaClient(t, r, acme), 0, 1)
	prefix, err := r.Prefix(acme)
	if err != nil {
		t.Fatal(err)
	}
	level := filepath.Join(prefix, "ltx/0")
	temp := func(age time.Duration) string {
		name := "0000000000000002-0000000000000002.ltx." + strconv.FormatInt(time.Now().Add(-age).Unix(), 10) + ".123.tmp"
		path := filepath.Join(level, name)
		// A time of long ago, as that of the LTX header may be: it must not count.
		if err := errors.Join(os.WriteFile(path, []byte("half a file"), 0o600), os.Chtimes(path, time.Unix(1, 0), time.Unix(1, 0))); err != nil {
			t.Fatal(err)
		}
		return path
	}
	young, old := temp(time.Minute), temp(48*time.Hour)

	c := replicaClient(t, r, acme) // as after a restart
	infos, err := c.(multidb.FileLister).AllLTXFiles(t.Context(), false)
	if err != nil || len(infos) != 1 {
		t.Errorf("%d files listed, %v; want 1", len(infos), err)
	}
	putLTX(t, c, 0, 2)
	if _, err := os.Stat(old); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the old temporary file is still there: %v", err)
	}
	if _, err := os.Stat(young); err != nil {
		t.Errorf("a temporary file that a writer may be at is gone: %v", err)
	}
	if err := c.DeleteAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(prefix); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("deleting all left the prefix: %v", err)
	}
}

func TestNoWriteLeavesATemporaryFile(t *testing.T) {
	dir := t.TempDir()
	c := replicaClient(t, fileReplica(t, dir, "{{project}}"), acme)
	for _, level := range []int{0, 1} {
		putLTX(t, c, level, 1)
		data := ltxBytes(t, 2, time.UnixMilli(0))
		if _, err := c.WriteLTXFile(t.Context(), level, 2, 2, io.MultiReader(bytes.NewReader(data[:150]), errReader{})); err == nil {
			t.Error("the reader's error was swallowed")
		}
	}
	if _, err := c.WriteLTXFile(t.Context(), 0, 1, 1, bytes.NewReader(ltxBytes(t, 1, time.UnixMilli(0)))); !errors.Is(err, fs.ErrExist) {
		t.Errorf("error is %v, want fs.ErrExist", err)
	}
	for _, path := range tree(t, dir) {
		if strings.HasSuffix(path, ".tmp") {
			t.Errorf("left behind: %s", path)
		}
	}
}

type errReader struct{}

func (errReader) Read([]byte) (int, error) { return 0, errors.New("read failed") }

func TestDeletingAllLeavesADatabaseBelowThePrefixAlone(t *testing.T) {
	dir := t.TempDir()
	r := fileReplica(t, dir, "{{path}}")
	above := replicaClient(t, r, multidb.Database{ID: "a", Path: "/a"})
	below := replicaClient(t, r, multidb.Database{ID: "a/ltx/0", Path: "/a/ltx/0"})
	putLTX(t, above, 0, 1)
	putLTX(t, below, 0, 1)
	if err := above.DeleteAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, want := tree(t, dir), []string{".multidb-replica", "a/", "a/ltx/", "a/ltx/0/", "a/ltx/0/ltx/", "a/ltx/0/ltx/0/", "a/ltx/0/ltx/0/0000000000000001-0000000000000001.ltx"}; !slices.Equal(got, want) {
		t.Errorf("left %q, want %q", got, want)
	}
}

func TestAWriteMakesADirectoryAgainThatWasRemoved(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "backup")
	c := replicaClient(t, fileReplica(t, dir, "{{project}}"), acme)
	putLTX(t, c, 0, 1)
	if err := os.RemoveAll(filepath.Join(dir, "acme")); err != nil {
		t.Fatal(err)
	}
	putLTX(t, c, 0, 2)
}

func TestCheckSaysWhatIsWrongWithTheDirectory(t *testing.T) {
	dir := t.TempDir()
	r := fileReplica(t, filepath.Join(dir, "new"), "{{project}}")
	if err := r.Check(t.Context()); err != nil {
		t.Errorf("a directory that can be made: %v", err)
	}
	if left := tree(t, filepath.Join(dir, "new")); len(left) != 0 {
		t.Errorf("Check left %q", left)
	}

	taken := filepath.Join(dir, "file")
	if err := os.WriteFile(taken, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{taken: "cannot make the directory", filepath.Join(taken, "below"): "cannot make the directory"} {
		err := fileReplica(t, path, "{{project}}").Check(t.Context())
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), taken) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: error is %v, want one line with %q and the path", path, err, want)
		}
	}
	if os.Getuid() == 0 {
		return // root may write anywhere
	}
	if err := os.Chmod(dir, 0o500); err != nil {
		t.Fatal(err)
	}
	if err := fileReplica(t, dir, "{{project}}").Check(t.Context()); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("a read-only directory: error is %v, want fs.ErrPermission", err)
	}
}

func TestAFileReplicaCountsRequests(t *testing.T) {
	r := fileReplica(t, t.TempDir(), "{{project}}")
	c := replicaClient(t, r, acme)
	putLTX(t, c, 0, 1)
	n := int64(len(ltxBytes(t, 1, time.UnixMilli(0))))
	if _, err := c.WriteLTXFile(t.Context(), 0, 1, 1, bytes.NewReader(ltxBytes(t, 1, time.UnixMilli(0)))); !errors.Is(err, fs.ErrExist) {
		t.Fatal(err)
	}
	rc, err := c.OpenLTXFile(t.Context(), 0, 1, 1, 0, 10)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(rc); err != nil {
		t.Fatal(err)
	}
	if err := rc.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.LTXFiles(t.Context(), 0, 0, false); err != nil {
		t.Fatal(err)
	}
	if err := c.DeleteLTXFiles(t.Context(), []*ltx.FileInfo{{MinTXID: 1, MaxTXID: 1}, {MinTXID: 5, MaxTXID: 5}}); err != nil {
		t.Fatal(err)
	}
	want := multidb.RequestStats{Put: 2, Get: 1, List: 1, Delete: 2, BytesOut: 2 * n, BytesIn: 10}
	if got := r.RequestStats(); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if _, err := c.WriteLTXFile(t.Context(), 0, 2, 2, errReader{}); err == nil {
		t.Error("the reader's error was swallowed")
	}
	if got := r.RequestStats().Errors; got != 1 {
		t.Errorf("%d errors, want 1", got)
	}
}

func TestAnOpenFileEndsWithItsContext(t *testing.T) {
	c := replicaClient(t, fileReplica(t, t.TempDir(), "{{project}}"), acme)
	putLTX(t, c, 0, 1)
	ctx, cancel := context.WithCancel(t.Context())
	rc, err := c.OpenLTXFile(ctx, 0, 1, 1, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := io.ReadAll(rc); !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v, want context.Canceled", err)
	}
	if err := rc.Close(); err != nil {
		t.Error(err)
	}
}
