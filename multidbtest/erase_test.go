package multidbtest

import (
	"errors"
	"fmt"
	"io/fs"
	"testing"

	"github.com/multidb-go/multidb"
)

func TestAnErasureThatFailsKeepsTheMetadataAndGoesOn(t *testing.T) {
	for _, lost := range []bool{false, true} {
		for _, op := range []Op{OpList, OpDelete, OpDeleteAll} {
			r := NewReplica()
			c := newClient(t, r)
			if err := errors.Join(ship(t, t.Context(), c, 1), c.(multidb.MetadataStore).WriteMetadata(t.Context(), []byte("{}"))); err != nil {
				t.Fatal(err)
			}
			r.Inject(Fault{Op: op, Times: 1, LostAnswer: lost})
			if !lost {
				r.ClearFaults()
				r.Inject(Fault{Op: op, Times: 1, Err: ErrInjected})
			}
			if _, err := c.(multidb.PrefixEraser).ErasePrefix(t.Context()); !errors.Is(err, ErrInjected) {
				t.Errorf("%s: error is %v", op, err)
			}
			if there := r.Metadata(prefix) != nil; there != (op != OpDeleteAll || !lost) {
				t.Errorf("%s, answer lost %v: metadata is there: %v", op, lost, there)
			}
			if _, err := c.(multidb.PrefixEraser).ErasePrefix(t.Context()); err != nil {
				t.Errorf("%s: again: %v", op, err)
			}
			if n, _, err := c.(multidb.PrefixSizer).PrefixSize(t.Context()); n != 0 || err != nil || len(r.Prefixes()) != 0 {
				t.Errorf("%s: %d objects are left, %v", op, n, err)
			}
		}
	}
}

func TestWhatMayNotBeErasedIsLeftAndNamed(t *testing.T) {
	r := NewReplica()
	c := newClient(t, r)
	if err := errors.Join(ship(t, t.Context(), c, 1), c.(multidb.MetadataStore).WriteMetadata(t.Context(), []byte("{}"))); err != nil {
		t.Fatal(err)
	}
	locked := fmt.Errorf("object lock: %w", fs.ErrPermission)
	in := r.Inject(Fault{Op: OpDelete, Err: locked})
	done, err := c.(multidb.PrefixEraser).ErasePrefix(t.Context())
	if err != nil || done.Objects != 0 || len(done.Left) != 1 || !errors.Is(done.Left[0].Err, locked) {
		t.Errorf("%+v, %v", done, err)
	}
	if r.Metadata(prefix) == nil {
		t.Error("metadata is gone while a file is left")
	}
	in.Clear()
	if done, err := c.(multidb.PrefixEraser).ErasePrefix(t.Context()); err != nil || done.Objects != 2 || len(done.Left) != 0 {
		t.Errorf("%+v, %v", done, err)
	}
}
