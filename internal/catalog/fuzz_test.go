package catalog

import (
	"context"
	"fmt"
	"slices"
	"testing"
)

// FuzzRecord: a record of any values comes back as it was.
func FuzzRecord(f *testing.F) {
	f.Add("p/d", "/data/p/d.db", "x/p/d", "project", "p", "p/d.db", []byte{2}, []byte{3}, uint64(1<<63), uint64(7), int64(-1), uint64(9), uint32(1<<31))
	f.Add("\xff\x00", "\x00", "", "", "\xff", "\x00", []byte{}, []byte{0}, uint64(0), uint64(0), int64(0), uint64(1<<64-1), uint32(0))
	c, err := Open(f.Context(), f.TempDir(), Options{})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		if err := c.Close(context.Background()); err != nil {
			f.Error(err)
		}
	})
	f.Fuzz(func(t *testing.T, id, path, prefix, name, value, rel string, state, files []byte, dev, ino uint64, written int64, txid uint64, flags uint32) {
		if id == "" {
			return
		}
		want := Record{ID: id, Path: path, Prefix: prefix, Vars: []Var{{name, value}, {value, name}}, RelPath: rel, State: noEmpty(state), Files: noEmpty(files),
			Dev: dev, Ino: ino, LastWrite: written, TXID: txid, Flags: flags}
		c.Put(want)
		if err := c.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		found := false
		for r, err := range c.Load(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			if r.ID == id {
				found = true
				if got := fmt.Sprintf("%+v", r); got != fmt.Sprintf("%+v", want) {
					t.Fatalf("%+v came back as %s", want, got)
				}
			}
		}
		if !found {
			t.Fatalf("%+v was not kept", want)
		}
		c.Delete(id)
		if err := c.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzVars: whatever bytes are taken for the values of a database, those that can be
// read come back as they were.
func FuzzVars(f *testing.F) {
	good := Record{RelPath: "p/d.db", Vars: []Var{{"project", "p"}, {"database", "d"}}}
	f.Add(good.packVars())
	f.Add([]byte{0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01})
	f.Add([]byte{3, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		var r, again Record
		if r.unpackVars(b) != nil {
			return
		}
		if len(r.Vars) > len(b) {
			t.Fatalf("%d values of %d bytes", len(r.Vars), len(b))
		}
		if err := again.unpackVars(r.packVars()); err != nil || again.RelPath != r.RelPath || !slices.Equal(again.Vars, r.Vars) {
			t.Fatalf("%v, %q became %v, %q, %v", r.Vars, r.RelPath, again.Vars, again.RelPath, err)
		}
	})
}
