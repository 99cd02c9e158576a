package multidbtest

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"slices"

	"github.com/benbjohnson/litestream"
	"github.com/superfly/ltx"

	"github.com/multidb-go/multidb"
)

func testErase(t *replicaTest) {
	dbs := neighbours()
	victim, ok := t.clientOf(dbs[0]).(multidb.PrefixEraser)
	if !ok {
		t.Skip("the client is no multidb.PrefixEraser")
	}
	erase := func(want int64, bytes int64) {
		t.Helper()
		done, err := victim.ErasePrefix(t.ctx)
		if err != nil {
			t.Fatal(err)
		}
		if done.Objects != want || done.Bytes != bytes || done.Versions != 0 || len(done.Left) != 0 {
			t.Errorf("erased %+v, want %d objects of %d bytes and nothing left", done, want, bytes)
		}
	}
	erase(0, 0) // of nothing
	var objects, size int64
	for _, db := range dbs {
		c := t.clientOf(db)
		objects, size = 0, 0
		for _, level := range []int{0, 1, litestream.SnapshotLevel} {
			size += int64(len(t.put(c, level, 1, 1)))
			objects++
		}
		if m, ok := c.(multidb.MetadataStore); ok {
			if err := m.WriteMetadata(t.ctx, []byte("tells whose it is")); err != nil {
				t.Fatal(err)
			}
			objects, size = objects+1, size+int64(len("tells whose it is"))
		}
	}
	erase(objects, size)
	erase(0, 0) // again
	c := t.clientOf(dbs[0])
	for level := range litestream.SnapshotLevel + 1 {
		t.wantFiles(c, level, 0)
	}
	for _, db := range dbs[1:] {
		c := t.clientOf(db)
		for _, level := range []int{0, 1, litestream.SnapshotLevel} {
			if got := ranges(t.list(c, level, 0, false)); !slices.Equal(got, []string{"1-1"}) {
				t.Errorf("erasing %s changed level %d of %s: %v", dbs[0].ID, level, db.ID, got)
			}
		}
		if m, ok := c.(multidb.MetadataStore); ok {
			if _, err := m.ReadMetadata(t.ctx); err != nil {
				t.Errorf("erasing %s changed the metadata of %s: %v", dbs[0].ID, db.ID, err)
			}
		}
	}
	if m, ok := c.(multidb.MetadataStore); ok {
		if _, err := m.ReadMetadata(t.ctx); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("metadata after erasing: error is %v, want fs.ErrNotExist", err)
		}
	}
	t.put(c, 0, 1, 1) // the prefix can be used again
	t.wantFiles(c, 0, 0, "1-1")

	ended, cancel := context.WithCancel(t.ctx)
	cancel()
	if _, err := victim.ErasePrefix(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("with an ended context: error is %v, want context.Canceled", err)
	}
	t.wantFiles(c, 0, 0, "1-1")
}

func testSize(t *replicaTest) {
	c := t.client("db1")
	s, ok := c.(multidb.PrefixSizer)
	if !ok {
		t.Skip("the client is no multidb.PrefixSizer")
	}
	want := func(objects, size int64) {
		t.Helper()
		n, b, err := s.PrefixSize(t.ctx)
		if err != nil {
			t.Fatal(err)
		}
		if n != objects || b != size {
			t.Errorf("%d objects of %d bytes, want %d of %d", n, b, objects, size)
		}
	}
	want(0, 0)
	t.put(t.client("db10"), 0, 1, 1) // of another
	size := int64(len(t.put(c, 0, 1, 1)) + len(t.put(c, 3, 1, 1)))
	want(2, size)
	if m, ok := c.(multidb.MetadataStore); ok {
		if err := m.WriteMetadata(t.ctx, []byte("{}")); err != nil {
			t.Fatal(err)
		}
		want(3, size+2)
	}
}

func testCopy(t *replicaTest) {
	from, to := t.client("db1"), t.clientOf(testDatabase("project1", "dé&b+#1?"))
	copier, ok := to.(multidb.LTXCopier)
	if !ok {
		t.Skip("the client is no multidb.LTXCopier")
	}
	for _, level := range []int{0, 2, litestream.SnapshotLevel} {
		data := t.put(from, level, 1, 3)
		info := t.list(from, level, 0, true)[0]
		for range 2 { // the second time it is there, as after a crash
			if err := copier.CopyLTXFile(t.ctx, from, info); err != nil {
				t.Fatalf("copy %s: %v", name(level, 1, 3), err)
			}
			t.wantBytes(to, level, 1, 3, data)
			t.wantFiles(to, level, 0, "1-3")
		}
		if got := t.list(to, level, 0, true); describe(got) != describe([]*ltx.FileInfo{info}) {
			t.Errorf("level %d lists %s, want %s", level, describe(got), describe([]*ltx.FileInfo{info}))
		}

		// Another file of the same name stays.
		other := ltxFile(t.T, 5, 5, 99)
		t.put(from, level, 5, 5)
		t.write(to, level, 5, 5, other)
		info = &ltx.FileInfo{Level: level, MinTXID: 5, MaxTXID: 5, Size: t.list(from, level, 5, false)[0].Size}
		if err := copier.CopyLTXFile(t.ctx, from, info); !errors.Is(err, fs.ErrExist) {
			t.Errorf("copy over another file: error is %v, want fs.ErrExist", err)
		}
		t.wantBytes(to, level, 5, 5, other)

		missing := &ltx.FileInfo{Level: level, MinTXID: 7, MaxTXID: 7, Size: 100}
		if err := copier.CopyLTXFile(t.ctx, from, missing); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("copy of a missing file: error is %v, want fs.ErrNotExist", err)
		}
		t.wantMissing(to, level, 7, 7)

		// What is copied does not go with what it was copied from.
		if err := from.DeleteLTXFiles(t.ctx, t.list(from, level, 0, false)); err != nil {
			t.Fatal(err)
		}
		t.wantBytes(to, level, 1, 3, data)
	}
	elsewhere, err := NewReplica().ReplicaClient(testDatabase("project0", "db1"))
	if err != nil {
		t.Fatal(err)
	}
	data := ltxFile(t.T, 9, 9, 0)
	info, err := elsewhere.WriteLTXFile(t.ctx, 0, 9, 9, bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	switch err := copier.CopyLTXFile(t.ctx, elsewhere, info); {
	case err == nil: // it was read and written
		t.wantBytes(to, 0, 9, 9, data)
	case !errors.Is(err, errors.ErrUnsupported):
		t.Errorf("copy from another storage: error is %v, want errors.ErrUnsupported", err)
	default:
		t.wantMissing(to, 0, 9, 9)
	}
}
