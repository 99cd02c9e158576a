package torture

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbtest"
	"github.com/superfly/ltx"
)

// harm is a way of breaking the sick one. do returns what mends it.
type harm struct {
	name  string
	want  error // what the status says; nil: any error
	orLag bool  // or that it is late
	write bool  // the application goes on writing meanwhile
	cold  bool  // it is cold and closed before
	do    func(t *testing.T, w *ward, rep *multidbtest.Replica) (mend func())
}

var errRefused = errors.New("refused by the test")

var harms = []harm{
	{name: "its prefix is refused", want: errRefused, write: true, do: func(t *testing.T, w *ward, rep *multidbtest.Replica) func() {
		return rep.Inject(multidbtest.Fault{Prefix: "sick", Err: errRefused}).Clear
	}},
	{name: "its prefix is read only", want: errRefused, write: true, do: func(t *testing.T, w *ward, rep *multidbtest.Replica) func() {
		return rep.Inject(multidbtest.Fault{Prefix: "sick", Op: multidbtest.OpWrite, Err: errRefused}).Clear
	}},
	{name: "its prefix does not answer", orLag: true, write: true, do: func(t *testing.T, w *ward, rep *multidbtest.Replica) func() {
		return rep.Inject(multidbtest.Fault{Prefix: "sick", Hang: true}).Clear
	}},
	{name: "another writer fences it", want: multidb.ErrFenced, write: true, do: func(t *testing.T, w *ward, rep *multidbtest.Replica) func() {
		intrude(t, w, rep)
		return func() { // only somebody who looks can say whose the prefix is
			if err := w.m.TakeOver(t.Context(), "sick"); err != nil {
				t.Error(err)
			}
		}
	}},
	{name: "the header is overwritten", want: multidb.ErrNotDatabase, cold: true, do: func(t *testing.T, w *ward, _ *multidbtest.Replica) func() {
		return overwrite(t, w, `printf 'not a database!!' | dd of="$1" conv=notrunc status=none`)
	}},
	{name: "the file is cut", want: multidb.ErrCorrupt, cold: true, do: func(t *testing.T, w *ward, _ *multidbtest.Replica) func() {
		return overwrite(t, w, `truncate -s 5000 "$1"`)
	}},
	{name: "another process holds the lock", want: multidb.ErrBusy, orLag: true, cold: true, do: func(t *testing.T, w *ward, _ *multidbtest.Replica) func() {
		return lockOut(t, w.path("sick"))
	}},
	{name: "the directory is a file", cold: true, do: func(t *testing.T, w *ward, _ *multidbtest.Replica) func() {
		dir := filepath.Dir(w.path("sick"))
		h, err := w.m.Acquire(t.Context(), "sick") // held: not deleted, but gone
		if err != nil {
			t.Fatal(err)
		}
		kept := filepath.Join(w.dir, "kept") // where it is nobody's
		run(t, "mv", dir, kept)
		run(t, "touch", dir)
		return func() {
			run(t, "rm", dir)
			run(t, "mv", kept, dir)
			h.Release()
		}
	}},
}

// TestHealthyNamesEachBrokenTenantWithinTenSecondsAndIsTrueAgainAfter breaks one
// tenant in each of these ways; the local faults have tests of their own.
func TestHealthyNamesEachBrokenTenantWithinTenSecondsAndIsTrueAgainAfter(t *testing.T) {
	for _, h := range harms {
		t.Run(h.name, func(t *testing.T) {
			t.Parallel()
			rep := multidbtest.NewReplica()
			w := newWard(t)
			w.opts[1] = multidb.WithReplica(rep)
			w.start()
			w.othersFlow()
			w.healthy()
			if h.cold {
				w.quiet()
			}
			mend := h.do(t, w, rep)
			w.named(h.want, h.orLag, func() {
				if h.write {
					w.sick.write(1)
				}
			})
			mend()
			w.healthy()
			w.sick.write(2)
			w.arrived()
			w.rest()
			for _, p := range append([]*tenant{w.sick}, w.well...) {
				w.whole(p)
				c, err := rep.ReplicaClient(multidb.Database{ID: p.id})
				if err != nil {
					t.Fatal(err)
				}
				if p == w.sick && errors.Is(h.want, multidb.ErrFenced) {
					continue // its history has the intruder's
				}
				p.l.checkAll(t, c, p.n)
			}
		})
	}
}

// overwrite harms the file in another process, and mends it with its old bytes.
func overwrite(t *testing.T, w *ward, script string) func() {
	kept := filepath.Join(w.dir, "kept.db")
	run(t, "cp", w.path("sick"), kept)
	run(t, "sh", "-c", script, "sh", w.path("sick"))
	return func() { run(t, "dd", "if="+kept, "of="+w.path("sick"), "conv=notrunc", "status=none") }
}

// lockOut lets another process leave WAL mode, commit, and keep everybody out,
// until it is ended.
func lockOut(t *testing.T, path string) func() {
	if _, err := exec.LookPath("sqlite3"); err != nil {
		t.Skip("no sqlite3")
	}
	cmd := exec.Command("sqlite3", path)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(in, "PRAGMA busy_timeout=5000;\nPRAGMA journal_mode=DELETE;\nPRAGMA user_version=7;\nBEGIN EXCLUSIVE;\nSELECT 'locked';\n")
	var got strings.Builder
	for b := make([]byte, 256); !strings.Contains(got.String(), "locked"); {
		n, err := out.Read(b)
		if err != nil {
			t.Fatalf("%s: %v", got.String(), err)
		}
		got.Write(b[:n])
	}
	if err := os.Chtimes(path, time.Now(), time.Now()); err != nil { // as a commit of it would be seen
		t.Fatal(err)
	}
	return func() {
		_ = in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("sqlite3: %v", err)
		}
	}
}

// intrude writes the next transactions of the sick one's prefix, as another machine.
func intrude(t *testing.T, w *ward, rep *multidbtest.Replica) {
	c, err := rep.ReplicaClient(multidb.Database{ID: "sick"})
	if err != nil {
		t.Fatal(err)
	}
	for range 100 {
		files, err := listFiles(c)
		if err != nil || len(files) == 0 {
			t.Fatalf("%v, %v", files, err)
		}
		next := files[len(files)-1].MaxTXID + 1
		_, err = c.WriteLTXFile(t.Context(), 0, next, next, strings.NewReader(foreignLTX(t, next)))
		if err == nil {
			return
		}
	}
	t.Fatal("the prefix moved on at every attempt")
}

// foreignLTX is a transaction that somebody else made.
func foreignLTX(t *testing.T, txid ltx.TXID) string {
	var b strings.Builder
	enc, err := ltx.NewEncoder(&b)
	if err != nil {
		t.Fatal(err)
	}
	err = enc.EncodeHeader(ltx.Header{Version: ltx.Version, Flags: ltx.HeaderFlagNoChecksum, PageSize: 4096, Commit: 1,
		MinTXID: txid, MaxTXID: txid, Timestamp: time.Now().UnixMilli(), NodeID: 7})
	if err == nil {
		err = enc.EncodePage(ltx.PageHeader{Pgno: 1}, make([]byte, 4096))
	}
	if err == nil {
		err = enc.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}
