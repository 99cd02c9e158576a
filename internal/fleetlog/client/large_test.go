package client

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/multidb-go/multidb/internal/fleetlog/format"
	"github.com/multidb-go/multidb/internal/untrusted"
)

// names are those of the objects that begin with a prefix.
func (w *world) names(prefix string) (names []string) {
	w.t.Helper()
	for o, err := range w.objects.List(w.t.Context(), prefix, "") {
		if err != nil {
			w.t.Fatal(err)
		}
		names = append(names, o.Name)
	}
	return names
}

// large commits more than an object of the log takes, and ships it.
func (te *tenant) large() {
	te.w.t.Helper()
	te.exec("INSERT INTO t VALUES (randomblob(3000000))")
	te.rows++
	if _, err := te.shipper.Step(te.w.t.Context(), &te.db); err != nil {
		te.w.t.Fatal(err)
	}
}

// TestALargeFileGoesBesideTheLog, by itself to the prefix, and away with the log.
func TestALargeFileGoesBesideTheLog(t *testing.T) {
	w := newWorld(t)
	te := w.tenant("litestream/a")
	te.commit()
	te.large()
	te.commit()
	te.commit()
	w.await(te.prefix, te.db.State.TXID)
	if names := w.names(format.LargeDir); len(names) != 1 || names[0] != format.LargeName(1, 1) {
		t.Fatalf("large files: %q", names)
	}
	for o, err := range w.objects.List(t.Context(), format.LogDir(1), "") {
		if err != nil || o.Size > 100_000 {
			t.Errorf("%s has %d bytes: %v", o.Name, o.Size, err)
		}
	}
	w.log.mu.Lock()
	memory := w.log.memory
	w.log.mu.Unlock()
	if memory > 100_000 {
		t.Errorf("%d bytes are in memory", memory)
	}
	if s := w.log.Stats(); s.Bytes < 3_000_000 || s.TailBytes < 3_000_000 {
		t.Errorf("%+v", s)
	}
	if n := w.restored(te.db.Client, 0); n != te.rows {
		t.Errorf("the owner restores %d rows of %d", n, te.rows)
	}
	reader, err := Read(t.Context(), w.objects)
	if err != nil {
		t.Fatal(err)
	}
	if n := w.restored(reader.Client("", te.prefix, w.store.Client(te.prefix)), 0); n != te.rows {
		t.Errorf("a reader restores %d rows of %d", n, te.rows)
	}
	// Nobody has named this one: its writer died before.
	if err := w.objects.Create(t.Context(), format.LargeName(1, 7), []byte("half")); err != nil {
		t.Fatal(err)
	}
	w.close()
	w.begin(2)
	if err := w.log.FinishFormer(t.Context()); err != nil || len(w.names(format.LargeDir)) != 2 {
		t.Fatalf("before it is unpacked: %q, %v", w.names(format.LargeDir), err)
	}
	infos, err := w.log.Unpack(t.Context(), te.prefix, w.store.Client(te.prefix), true)
	if err != nil || ranges(infos) != "1-1 2-2 3-3 4-4" {
		t.Fatalf("unpacked %s, %v", ranges(infos), err)
	}
	if err := w.log.FinishFormer(t.Context()); err != nil {
		t.Fatal(err)
	}
	if names := w.names(format.LargeDir); len(names) > 0 {
		t.Errorf("after it was finished: %q", names)
	}
	if n := w.restored(w.store.Client(te.prefix), 0); n != te.rows {
		t.Errorf("the prefix alone has %d rows of %d", n, te.rows)
	}
}

// TestADamagedFileIsNotUnpacked, neither one of an object nor a large one.
func TestADamagedFileIsNotUnpacked(t *testing.T) {
	for name, large := range map[string]bool{"in an object": false, "large": true} {
		t.Run(name, func(t *testing.T) {
			w := newWorldOf(t, 1)
			te := w.tenant("litestream/a")
			te.commit()
			if large {
				te.large()
			} else {
				te.commit()
			}
			w.await(te.prefix, te.db.State.TXID)
			object := w.log.tail(te.prefix)[1].name()
			path := filepath.Join(w.store.Path("fleet"), filepath.FromSlash(object))
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			data[200] ^= 1
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
			infos, err := w.log.Unpack(t.Context(), te.prefix, w.store.Client(te.prefix), true)
			if !errors.Is(err, untrusted.ErrDamaged) || strings.Contains(ranges(infos), "2") {
				t.Errorf("unpacked %s: %v", ranges(infos), err)
			}
			if tail := w.log.Tail(te.prefix); tail.Files != 2 {
				t.Errorf("the tail is %+v", tail)
			}
		})
	}
}
