package store_test

import (
	"bytes"
	"errors"
	"io/fs"
	"testing"

	"github.com/benbjohnson/litestream"
	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/internal/store"
	"github.com/multidb-go/multidb/multidbtest"
	"github.com/superfly/ltx"
)

// plain hides what a client can do beside litestream's interface.
type plain struct{ litestream.ReplicaClient }

func client(t *testing.T, r *multidbtest.Replica, id multidb.ID) litestream.ReplicaClient {
	t.Helper()
	c, err := r.ReplicaClient(multidb.Database{ID: id})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func put(t *testing.T, c litestream.ReplicaClient, level int, txid ltx.TXID, what byte) *ltx.FileInfo {
	t.Helper()
	var b bytes.Buffer
	enc, err := ltx.NewEncoder(&b)
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(
		enc.EncodeHeader(ltx.Header{Version: ltx.Version, Flags: ltx.HeaderFlagNoChecksum, PageSize: 512, Commit: 1, MinTXID: txid, MaxTXID: txid, Timestamp: 1}),
		enc.EncodePage(ltx.PageHeader{Pgno: 1}, bytes.Repeat([]byte{what}, 512)), enc.Close())
	if err != nil {
		t.Fatal(err)
	}
	info, err := c.WriteLTXFile(t.Context(), level, txid, txid, &b)
	if err != nil {
		t.Fatal(err)
	}
	return info
}

func TestAClientThatCannotEraseDeletesWhatItKnowsOfAndSaysThatMoreMayBeLeft(t *testing.T) {
	r := multidbtest.NewReplica()
	c := client(t, r, "a")
	size := put(t, c, 0, 1, 'x').Size + put(t, c, 9, 1, 'y').Size
	n, bytes, err := store.Size(t.Context(), plain{c})
	if err != nil || n != 2 || bytes != size {
		t.Errorf("%d objects of %d bytes, %v", n, bytes, err)
	}
	done, err := store.Erase(t.Context(), plain{c})
	if err != nil || done.Objects != 2 || done.Bytes != size || !done.Versioned || len(done.Left) != 1 || !errors.Is(done.Left[0].Err, store.ErrVersionsUnknown) {
		t.Errorf("%+v, %v", done, err)
	}
	if files := r.Files("a"); len(files) != 0 {
		t.Errorf("%d files are left", len(files))
	}
}

func TestAFileIsStreamedWhereTheStoreCannotCopyIt(t *testing.T) {
	one, two := multidbtest.NewReplica(), multidbtest.NewReplica()
	for name, to := range map[string]litestream.ReplicaClient{
		"other store":  client(t, two, "b"),
		"plain client": plain{client(t, one, "b")},
	} {
		from := client(t, one, "a"+multidb.ID(name[:1]))
		info := put(t, from, 0, 1, name[0])
		for range 2 { // the second time it is there
			if err := store.CopyFile(t.Context(), from, to, info); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if same, err := store.SameFile(t.Context(), from, to, info); err != nil || !same {
			t.Errorf("%s: same %v, %v", name, same, err)
		}
		put(t, to, 0, 2, 'x')
		if err := store.CopyFile(t.Context(), from, to, put(t, from, 0, 2, 'y')); !errors.Is(err, fs.ErrExist) {
			t.Errorf("%s: over another file: %v", name, err)
		}
		missing := &ltx.FileInfo{MinTXID: 3, MaxTXID: 3, Size: 10}
		if err := store.CopyFile(t.Context(), from, to, missing); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: of a missing file: %v", name, err)
		}
	}
}

func TestAFileThatBreaksOffIsNotCopied(t *testing.T) {
	r, other := multidbtest.NewReplica(), multidbtest.NewReplica()
	from, to := client(t, r, "a"), client(t, other, "b")
	info := put(t, from, 0, 1, 'x')
	if err := r.Corrupt("a", 0, 1, 1, func(b []byte) []byte { return b[:len(b)-10] }); err != nil {
		t.Fatal(err)
	}
	if err := store.CopyFile(t.Context(), from, to, info); err == nil {
		t.Error("a file that is shorter than it was listed was copied")
	}
	if files := other.Files("b"); len(files) != 0 {
		t.Errorf("there is %d", len(files))
	}
}

func TestThePrefixOfAnotherDatabaseIsFoundByItsOwnObjects(t *testing.T) {
	const file = "0000000000000001-0000000000000001.ltx"
	var o store.Others
	for _, name := range []string{"0000/" + file, "ltx/9/" + file, "metadata.json", "generations/0/wal/1.wal", "notes", "x/y/z", "sub/0001/" + file, "deep/er/metadata.json", "disk/ltx/0/" + file} {
		o.See(name)
	}
	for name, want := range map[string]bool{
		"0000/" + file: false, "ltx/9/" + file: false, "metadata.json": false, "x/y/z": false, "notes": false, "sub.txt": false, "subs/0001/" + file: false, "deep/x": false,
		"sub/0001/" + file: true, "sub/notes": true, "deep/er/a/b": true, "disk/ltx/0/" + file: true, "disk/x": true,
	} {
		if o.Has(name) != want {
			t.Errorf("%s: %v", name, !want)
		}
	}
	if left := o.Left("p/"); len(left) != 3 || left[0].Name != "p/deep/er/" || left[1].Name != "p/disk/" || left[2].Name != "p/sub/" {
		t.Errorf("%+v", left)
	}
}
