package replicate

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/multidb-go/multidb/internal/fsid"
	"github.com/multidb-go/multidb/internal/ship"
)

func TestALogIsRecalledWithThePositionOfItsFile(t *testing.T) {
	pos := ship.State{TXID: 7, PageSize: 4096, Commit: 3, Ino: 11, Salt1: 5, Salt2: 6, Offset: 32}
	bare, err := pos.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	beside := func(main uint64) fsid.Files {
		return fsid.Files{Main: fsid.Fingerprint{Ino: main}, WAL: fsid.Fingerprint{Ino: 12}}
	}
	for name, test := range map[string]struct {
		note func(*Logs)
		log  []byte // what follows the position
	}{
		"no log":              {func(*Logs) {}, nil},
		"a log":               {func(l *Logs) { l.note("a", beside(11), 5, true) }, []byte{12, 0, 0, 0, 0, 0, 0, 0}},
		"of another file":     {func(l *Logs) { l.note("a", beside(10), 5, true) }, nil},
		"nothing read of it":  {func(l *Logs) { l.Note("a", beside(11)) }, nil},
		"of another database": {func(l *Logs) { l.note("b", beside(11), 5, true) }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			l := NewLogs(time.Now)
			test.note(l)
			b, err := l.Position("a", pos)
			if err != nil || !slices.Equal(b, append(slices.Clone(bare), test.log...)) {
				t.Fatalf("%x, %v; want %x and then %x", b, err, bare, test.log)
			}
			later := NewLogs(time.Now)
			got, err := later.Recall("a", b)
			if err != nil || got != pos {
				t.Fatalf("%+v, %v; want %+v", got, err, pos)
			}
			if want := (logOf{11, 12, 5, true}); test.log != nil && later.logs["a"] != want || test.log == nil && len(later.logs) != 0 {
				t.Errorf("recalled %+v", later.logs)
			}
		})
	}
	for _, b := range [][]byte{nil, {1, 2, 3}, bare[:len(bare)-1], append(slices.Clone(bare), 1)} {
		l := NewLogs(time.Now)
		if _, err := l.Recall("a", b); err == nil || len(l.logs) != 0 {
			t.Errorf("%x is recalled: %+v", b, l.logs)
		}
	}
}

func TestOneOfSeveralCallersSetsAForeignLogAside(t *testing.T) {
	dir := t.TempDir()
	header := make([]byte, 32)
	for i := range 200 {
		path := filepath.Join(dir, fmt.Sprintf("%d.db", i))
		for _, name := range []string{path, path + "-wal"} {
			if err := os.WriteFile(name, header, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		f, err := fsid.StatFiles(path, fsid.StatWith)
		if err != nil {
			t.Fatal(err)
		}
		l := NewLogs(time.Now)
		old := f
		old.Main.Ino++ // the log was seen beside another file
		l.note("a", old, 0, true)
		var moved atomic.Int32
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				names, err := l.SetAsideForeign("a", path, f)
				if err != nil {
					t.Error(err)
				}
				moved.Add(int32(len(names)))
				// Whoever returns may open the new file, which makes a log.
				if file, err := os.OpenFile(path+"-wal", os.O_CREATE|os.O_EXCL, 0o600); err == nil {
					_ = file.Close()
				}
			})
		}
		wg.Wait()
		if n := moved.Load(); n != 1 {
			t.Fatalf("%d logs were set aside, want 1", n)
		}
	}
}
