package client

import (
	"fmt"
	"testing"

	"github.com/multidb-go/multidb/internal/fleetlog/format"
	"github.com/multidb-go/multidb/internal/ship"
)

// TestAHotTailIsMergedInMemory: it takes the memory of its pages and not of its commits, no
// object is read for it, and what it is made of is unpacked with it.
func TestAHotTailIsMergedInMemory(t *testing.T) {
	w := newWorld(t)
	te := w.tenant("litestream/a")
	te.ship(3)
	w.unpack(w.log, te, "1-1 2-3")
	for i := range 100 {
		te.exec("UPDATE t SET v = ? WHERE rowid = 1", fmt.Sprint(i))
		if _, err := te.shipper.Step(t.Context(), &te.db); err != nil {
			t.Fatal(err)
		}
		if i%5 == 0 {
			w.await(te.prefix, te.db.State.TXID)
		}
	}
	w.await(te.prefix, te.db.State.TXID)
	s := w.log.Stats()
	if tail := w.log.Tail(te.prefix); tail.Files > 2*squeezeFiles || tail.Min != 4 || tail.Max != 103 || !tail.Durable || tail.Bytes != s.TailBytes {
		t.Errorf("the tail is %+v, %+v", tail, s)
	}
	w.log.mu.Lock()
	memory := w.log.memory
	w.log.mu.Unlock()
	if memory != s.TailBytes || memory > 20_000 {
		t.Errorf("%d bytes in memory, of a tail of %d", memory, s.TailBytes)
	}
	if int64(s.Pending) != s.Objects-3 && int64(s.Pending) < 20 {
		t.Errorf("%+v", s)
	}
	// Somebody has unpacked to the middle of what is merged: it is the same history.
	command, err := Read(t.Context(), w.objects)
	if err != nil {
		t.Fatal(err)
	}
	command.tails[te.prefix] = command.tails[te.prefix][:20]
	w.unpack(command, te, "4-4 5-23")
	w.log.mu.Lock()
	delete(w.log.known, te.prefix) // as after an error
	w.log.mu.Unlock()
	infos, err := w.log.Unpack(t.Context(), te.prefix, w.store.Client(te.prefix))
	if err != nil || infos[len(infos)-1].MaxTXID != 103 {
		t.Fatalf("unpacked %s: %v", ranges(infos), err)
	}
	last := infos[len(infos)-1]
	if origin, err := ship.OriginOf(t.Context(), w.store.Client(te.prefix), last); err != nil {
		t.Error(err)
	} else if txid, sum := te.db.Client.(*Client).Merged(); txid != 103 || sum != origin.Sum || origin.Writer != te.db.State.Origin.Writer {
		t.Errorf("merged up to %s with %x, the prefix has %+v", txid, sum, origin)
	}
	if n := w.restored(w.store.Client(te.prefix), 0); n != te.rows {
		t.Errorf("the prefix alone has %d rows of %d in %s", n, te.rows, w.level0(te.prefix))
	}
	s = w.log.Stats()
	w.log.mu.Lock()
	memory = w.log.memory
	w.log.mu.Unlock()
	if s.Pending != 0 || s.Tails != 0 || s.TailBytes != 0 || memory != 0 {
		t.Errorf("after it: %+v, %d bytes in memory", s, memory)
	}
	// The end says that all is packed: nothing is left for the next.
	w.close()
	w.begin(2)
	if err := w.log.begin(t.Context()); err != nil || len(w.log.Tails()) != 0 {
		t.Errorf("the next has %+v: %v", w.log.Tails(), err)
	}
	if names := w.names(format.LogDir(1)); len(names) == 0 {
		t.Error("nothing is left of the log")
	}
}

// TestWhereMemoryIsShortTenantsAreUnpackedSooner.
func TestWhereMemoryIsShortTenantsAreUnpackedSooner(t *testing.T) {
	w := newWorldOf(t, 3000)
	te := w.tenant("litestream/a")
	client := te.db.Client.(*Client)
	te.ship(1)
	if _, size := client.Tail(); size > 3000 {
		t.Errorf("the first is said to have %d bytes", size)
	}
	te.ship(8)
	if files, size := client.Tail(); files != 9 || size < 1<<40 {
		t.Errorf("%d files of %d bytes", files, size)
	}
	w.log.mu.Lock()
	memory := w.log.memory
	w.log.mu.Unlock()
	if memory > 6000 {
		t.Errorf("%d bytes in memory", memory)
	}
	if _, err := w.log.Unpack(t.Context(), te.prefix, w.store.Client(te.prefix)); err != nil {
		t.Fatal(err)
	}
	if n := w.restored(w.store.Client(te.prefix), 0); n != te.rows {
		t.Errorf("%d rows of %d", n, te.rows)
	}
}
