package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/benbjohnson/litestream"
	"github.com/multidb-go/multidb/internal/levels"
	"github.com/multidb-go/multidb/internal/ltxfile"
	"github.com/multidb-go/multidb/internal/restore"
	"github.com/multidb-go/multidb/internal/ship"
	"github.com/multidb-go/multidb/internal/store"
	"github.com/multidb-go/multidb/internal/untrusted"
	"github.com/superfly/ltx"
)

// level0 are the transactions of the files of level 0 in a prefix.
func (w *world) level0(prefix string) string {
	w.t.Helper()
	files, err := store.Files(w.t.Context(), w.store.Client(prefix), false)
	if err != nil {
		w.t.Fatal(err)
	}
	var infos []*ltx.FileInfo
	for _, f := range files {
		if f.Level == 0 {
			infos = append(infos, f)
		}
	}
	return ranges(infos)
}

// unpack unpacks a tenant through a log.
func (w *world) unpack(log *Log, te *tenant, want string) {
	w.t.Helper()
	infos, err := log.Unpack(w.t.Context(), te.prefix, w.store.Client(te.prefix), true)
	if err != nil || ranges(infos) != want {
		w.t.Fatalf("unpacked %q, want %q: %v", ranges(infos), want, err)
	}
}

// ship commits and waits until it is durable.
func (te *tenant) ship(n int) {
	te.w.t.Helper()
	for range n {
		te.commit()
	}
	te.w.await(te.prefix, te.db.State.TXID)
}

// foreign writes one transaction to the prefix of a tenant without the log, as a writer
// that knows of it up to a state.
func (te *tenant) foreign(from ship.State) {
	te.w.t.Helper()
	other := te.w.tenant(te.prefix)
	other.shipper = ship.New(ship.Config{SpoolDir: te.w.t.TempDir(), Node: 2, Session: 7})
	other.db.Client, other.db.Fenced = te.w.store.Client(te.prefix), true
	other.db.State = ship.State{TXID: from.TXID, PageSize: from.PageSize, Commit: from.Commit}
	other.commit()
}

// TestAForeignFileInThePrefixIsNotTakenForTheLogs: a writer without the log has slept since
// before the log was begun.
func TestAForeignFileInThePrefixIsNotTakenForTheLogs(t *testing.T) {
	for name, c := range map[string]struct {
		unpacked, tail int // transactions
		again          bool
	}{
		"in an empty prefix":                   {0, 3, false},
		"of the last transaction":              {0, 1, false},
		"behind what was unpacked, at a start": {3, 3, true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			te := w.tenant("litestream/a")
			if c.unpacked > 0 {
				te.ship(c.unpacked)
				w.unpack(w.log, te, "1-1 2-2 3-3")
			}
			at := te.db.State
			te.ship(c.tail)
			te.foreign(at)
			before := w.level0(te.prefix)
			if c.again {
				w.close()
				w.begin(2)
			}
			tail := func() int {
				if err := w.log.begin(t.Context()); err != nil {
					t.Fatal(err)
				}
				return w.log.Tail(te.prefix).Files
			}
			n := tail()
			for range 2 {
				infos, err := w.log.Unpack(t.Context(), te.prefix, w.store.Client(te.prefix), true)
				if !errors.Is(err, ship.ErrFenced) || len(infos) > 0 {
					t.Errorf("unpacked %s: %v", ranges(infos), err)
				}
			}
			if got := w.level0(te.prefix); got != before || tail() != n || n < c.tail {
				t.Errorf("the prefix has %s, it had %s; the tail has %d files of %d", got, before, tail(), n)
			}
			reader, err := Read(t.Context(), w.objects)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := reader.Unpack(t.Context(), te.prefix, w.store.Client(te.prefix), true); !errors.Is(err, ship.ErrFenced) {
				t.Errorf("another process unpacked: %v", err)
			}
		})
	}
}

// meanwhile is a prefix in which something happens before each write.
type meanwhile struct {
	litestream.ReplicaClient
	before func()
}

func (m *meanwhile) WriteLTXFile(ctx context.Context, level int, minTXID, maxTXID ltx.TXID, r io.Reader) (*ltx.FileInfo, error) {
	if f := m.before; f != nil {
		m.before = nil
		f()
	}
	return m.ReplicaClient.WriteLTXFile(ctx, level, minTXID, maxTXID, r)
}

// TestThePrefixOrTheTailHasTheLastTransactionByItself, whatever was unpacked when, and
// wherever a life ended: stock litestream goes on from a file of one transaction only.
func TestThePrefixOrTheTailHasTheLastTransactionByItself(t *testing.T) {
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	w := newWorld(t)
	te := w.tenant("litestream/a")
	inner := w.store.Client(te.prefix)
	life, ranged := byte(1), 0
	for range 60 {
		switch rng.IntN(5) {
		case 0, 1:
			te.ship(1 + rng.IntN(20))
		case 2, 3:
			if _, err := w.log.Unpack(t.Context(), te.prefix, inner, rng.IntN(3) == 0); err != nil {
				t.Fatalf("%v (seed %d)", err, seed)
			}
		case 4:
			life++
			w.close()
			w.begin(life)
			te.db.Client = w.log.Client(te.prefix, te.prefix, inner)
			if err := w.log.begin(t.Context()); err != nil {
				t.Fatalf("%v (seed %d)", err, seed)
			}
		}
		files, err := store.Files(t.Context(), inner, false)
		if err != nil {
			t.Fatal(err)
		}
		tail := w.log.tail(te.prefix)
		if n := len(files); n == 0 || files[n-1].MinTXID == files[n-1].MaxTXID {
			continue
		}
		ranged++
		if last := len(tail) - 1; last < 0 || tail[last].min != tail[last].max || tail[last].min != te.db.State.TXID {
			t.Fatalf("the prefix has %s, the tail %+v (seed %d)", ranges(files), w.log.Tail(te.prefix), seed)
		}
	}
	if _, err := w.log.Unpack(t.Context(), te.prefix, inner, true); err != nil {
		t.Fatalf("%v (seed %d)", err, seed)
	}
	if got := w.level0(te.prefix); !strings.HasSuffix(got, fmt.Sprintf(" %d-%[1]d", te.db.State.TXID)) {
		t.Errorf("the prefix has %s (seed %d)", got, seed)
	}
	if te.sameBytes(inner); ranged == 0 {
		t.Errorf("no file of several transactions was ever the last: this shows nothing (seed %d)", seed)
	}
}

// TestAWriterWithoutTheLogAndTheFirstUnpackingExcludeEachOther, also where it writes
// between the listing and the write.
func TestAWriterWithoutTheLogAndTheFirstUnpackingExcludeEachOther(t *testing.T) {
	w := newWorld(t)
	te := w.tenant("litestream/a")
	te.ship(3)
	inner := &meanwhile{w.store.Client(te.prefix), func() { te.foreign(ship.State{}) }}
	if infos, err := w.log.Unpack(t.Context(), te.prefix, inner, true); !errors.Is(err, ship.ErrFenced) || len(infos) > 0 {
		t.Errorf("unpacked %s: %v", ranges(infos), err)
	}
	if got := w.level0(te.prefix); got != "1-1" || w.log.Tail(te.prefix).Files != 3 {
		t.Errorf("the prefix has %s", got)
	}
}

// TestTwoUnpackersAtOnceLeaveARestorablePrefix: the owner and the command, in every order of
// listing and writing.
func TestTwoUnpackersAtOnceLeaveARestorablePrefix(t *testing.T) {
	for _, more := range []int{0, 3} { // what the second has beyond the first
		for _, ownerFirst := range []bool{true, false} {
			for _, compacted := range []bool{false, true} {
				w := newWorld(t)
				te := w.tenant("litestream/a")
				te.ship(4)
				w.unpack(w.log, te, "1-1 2-3 4-4")
				te.ship(5)
				command, err := Read(t.Context(), w.objects)
				if err != nil {
					t.Fatal(err)
				}
				te.ship(more)
				unpack := func(log *Log, inner litestream.ReplicaClient) {
					if _, err := log.Unpack(t.Context(), te.prefix, inner, true); err != nil {
						t.Fatalf("more %d, owner first %v, compacted %v: %v", more, ownerFirst, compacted, err)
					}
					if compacted {
						w.compact(te.prefix)
					}
				}
				first, second := w.log, command
				if !ownerFirst {
					first, second = command, w.log
				}
				unpack(second, &meanwhile{w.store.Client(te.prefix), func() { unpack(first, w.store.Client(te.prefix)) }})
				check := func() {
					t.Helper()
					if n := w.restored(w.store.Client(te.prefix), 0); n != te.rows {
						t.Errorf("more %d, owner first %v, compacted %v: %d rows of %d in %s", more, ownerFirst, compacted, n, te.rows, w.level0(te.prefix))
					}
				}
				check()
				// The owner goes on, and another life, which lists.
				te.ship(2)
				unpack(w.log, w.store.Client(te.prefix))
				check()
				te.ship(2)
				w.close()
				w.begin(2)
				unpack(w.log, w.store.Client(te.prefix))
				check()
				w.compact(te.prefix)
				check()
			}
		}
	}
}

// TestNothingIsReliedOnThatACompactionWouldPassOver: another process has written 5 to 12
// when the owner had written 5 to 9, and compacted that. Nobody compacts 10 to 12 from it.
func TestNothingIsReliedOnThatACompactionWouldPassOver(t *testing.T) {
	w := newWorld(t)
	te := w.tenant("litestream/a")
	te.ship(4)
	w.unpack(w.log, te, "1-1 2-3 4-4")
	te.ship(5)
	short, err := Read(t.Context(), w.objects)
	if err != nil {
		t.Fatal(err)
	}
	te.ship(3)
	long, err := Read(t.Context(), w.objects)
	if err != nil {
		t.Fatal(err)
	}
	inner := &meanwhile{w.store.Client(te.prefix), func() {
		w.unpack(short, te, "5-5 6-8 9-9")
		w.compact(te.prefix)
	}}
	if _, err := long.Unpack(t.Context(), te.prefix, inner, true); err != nil {
		t.Fatal(err)
	}
	w.close()
	w.begin(2)
	te.rows = 12
	w.unpack(w.log, te, "5-5 6-11 9-9 12-12 10-10 11-11 12-12")
	w.compact(te.prefix)
	if n := w.restored(w.store.Client(te.prefix), 0); n != te.rows {
		t.Errorf("%d rows of %d in %s", n, te.rows, w.level0(te.prefix))
	}
}

// compact does what a start, a compaction of all, and the retention an hour later do.
func (w *world) compact(prefix string) {
	w.t.Helper()
	client := w.store.Client(prefix)
	files, err := store.Files(w.t.Context(), client, true)
	if err != nil {
		w.t.Fatal(err)
	}
	var inv levels.Inventory
	inv.Reset(files)
	if _, err := levels.Compact(w.t.Context(), client, &inv, levels.Policy{}, true, nil); err != nil {
		w.t.Fatal(err)
	}
	inv.MarkSeen(time.Now(), time.Minute)
	if _, err := levels.Retain(w.t.Context(), client, &inv, levels.Policy{Grace: time.Minute}, time.Now().Add(time.Hour)); err != nil {
		w.t.Errorf("%s: %v", w.level0(prefix), err)
	}
	if err := inv.Restorable(); err != nil {
		w.t.Errorf("%s: %v", w.level0(prefix), err)
	}
}

// TestAReaderFindsInThePrefixWhatTheLogHasNoMore: it was unpacked, and its log finished,
// after the reader had read the log.
func TestAReaderFindsInThePrefixWhatTheLogHasNoMore(t *testing.T) {
	w := newWorld(t)
	te := w.tenant("litestream/a")
	te.ship(5)
	te.large()
	w.await(te.prefix, te.db.State.TXID)
	var clients, listed []litestream.ReplicaClient // listed as a restore does
	for _, history := range []bool{false, true} {
		reader, err := ReadTenant(t.Context(), w.objects, te.prefix, history)
		if err != nil {
			t.Fatal(err)
		}
		client := reader.Client("", te.prefix, w.store.Client(te.prefix))
		l, err := store.RestoreClient(t.Context(), client, false)
		if err != nil {
			t.Fatal(err)
		}
		clients, listed = append(clients, client), append(listed, l)
	}
	w.close()
	w.begin(2)
	w.unpack(w.log, te, "1-1 2-5 6-6")
	if err := w.log.FinishFormer(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i, client := range clients {
		out := filepath.Join(t.TempDir(), "db")
		if _, err := restore.From(t.Context(), client, listed[i], restore.Options{Output: out}); err != nil {
			t.Errorf("history %v: %v", i == 1, err)
		}
		if n := w.restored(client, 0); n != te.rows {
			t.Errorf("history %v: %d rows of %d", i == 1, n, te.rows)
		}
		// There is no such point any more, which is not for trying again.
		if err := restore.Newest(t.Context(), client, restore.Options{Output: out + "3", TXID: 3}); !errors.Is(err, restore.ErrNoBackup) {
			t.Errorf("history %v: the third transaction: %v", i == 1, err)
		}
	}
}

// TestTheLogsHistoryIsFinerThanThePrefixs: after the unpacking a restore still gets each
// transaction, and each time.
func TestTheLogsHistoryIsFinerThanThePrefixs(t *testing.T) {
	w := newWorld(t)
	te := w.tenant("litestream/a")
	clock := time.Now().Add(-time.Hour).UTC().Truncate(time.Second)
	te.shipper = ship.New(ship.Config{SpoolDir: t.TempDir(), Node: 1, Session: 1, Now: func() time.Time { return clock }})
	at := map[int]time.Time{}
	for i := range 12 {
		clock = clock.Add(time.Second)
		te.commit()
		at[i+1] = clock
		if i == 3 || i == 8 {
			w.await(te.prefix, te.db.State.TXID)
			if _, err := w.log.Unpack(t.Context(), te.prefix, w.store.Client(te.prefix), true); err != nil {
				t.Fatal(err)
			}
		}
	}
	w.await(te.prefix, te.db.State.TXID)
	w.compact(te.prefix)
	if got := w.level0(te.prefix); got != "9-9" { // level 1 has 1 to 9
		t.Fatalf("the prefix has %s", got)
	}
	reader, err := ReadTenant(t.Context(), w.objects, te.prefix, true)
	if err != nil {
		t.Fatal(err)
	}
	client := reader.Client("", te.prefix, w.store.Client(te.prefix))
	for txid := 1; txid <= 12; txid++ {
		if n := w.restored(client, ltx.TXID(txid)); n != txid {
			t.Errorf("at transaction %d there are %d rows", txid, n)
		}
		if n := w.restoredAt(client, at[txid].Add(500*time.Millisecond)); n != txid {
			t.Errorf("half a second after transaction %d there are %d rows", txid, n)
		}
	}
	if n := w.restored(client, 0); n != 12 {
		t.Errorf("the newest has %d rows", n)
	}
	newest, err := ReadTenant(t.Context(), w.objects, te.prefix, false)
	if err != nil {
		t.Fatal(err)
	}
	if n := w.restored(newest.Client("", te.prefix, w.store.Client(te.prefix)), 0); n != 12 {
		t.Errorf("without the history the newest has %d rows", n)
	}
}

// TestAReaderStopsAtAGapWhereThePrefixIsEmpty (M2).
func TestAReaderStopsAtAGapWhereThePrefixIsEmpty(t *testing.T) {
	w := newWorld(t)
	te := w.tenant("litestream/a")
	te.ship(5)
	for _, history := range []bool{false, true} {
		reader, err := ReadTenant(t.Context(), w.objects, te.prefix, history)
		if err != nil {
			t.Fatal(err)
		}
		reader.mu.Lock()
		tail := reader.tails[te.prefix]
		reader.mu.Unlock()
		for from, want := range map[int]int{0: 5, 1: 0} {
			reader.mu.Lock()
			reader.tails[te.prefix] = tail[from:]
			reader.mu.Unlock()
			files, err := store.Files(t.Context(), reader.Client("", te.prefix, w.store.Client(te.prefix)), false)
			if err != nil || len(files) != want {
				t.Errorf("history %v: from transaction %d on there are %s: %v", history, from+1, ranges(files), err)
			}
		}
	}
}

// inThirdLife is a world in its third life, with a tenant of which the first log has 1 to 5, and is
// not finished; the second life has unpacked those and its own 6 to 8, and its log says so. 2 to 7 are in one file, as
// versions wrote them that did not keep where a log had ended.
func inThirdLife(t *testing.T) (*world, *tenant) {
	w := newWorld(t)
	te, idle, busy := w.tenant("litestream/a"), w.tenant("litestream/idle"), w.tenant("litestream/busy")
	join := func(x *tenant) { x.db.Client = w.log.Client(x.prefix, x.prefix, w.store.Client(x.prefix)) }
	idle.ship(1) // which keeps the first log
	te.ship(5)
	w.close()
	w.begin(2)
	join(te)
	join(busy)
	te.ship(3)
	w.unpack(w.log, te, "1-1 2-5 6-7 8-8")
	asOne(t, w.store.Client(te.prefix), ltx.FileInfo{MinTXID: 2, MaxTXID: 5}, ltx.FileInfo{MinTXID: 6, MaxTXID: 7})
	busy.shipUntilPacked()
	w.close()
	w.begin(3)
	join(te)
	return w, te
}

// TestWhatALaterOwnerHasUnpackedIsTheSameHistory: three lives, of which the second unpacked
// what the first had left together with its own, and was killed before it had finished the
// first one's log. The third finds only the first part in the logs, and the file of both in
// the prefix.
func TestWhatALaterOwnerHasUnpackedIsTheSameHistory(t *testing.T) {
	w, te := inThirdLife(t)
	if _, err := te.db.Client.LTXFiles(t.Context(), 0, 0, false); err != nil { // which takes the logs over
		t.Fatal(err)
	}
	if tail := w.log.Tail(te.prefix); tail.Min != 1 || tail.Max != 5 {
		t.Fatalf("the logs have %+v; this shows nothing", tail)
	}
	w.unpack(w.log, te, "1-1 2-7 8-8")
	te.ship(2)
	w.unpack(w.log, te, "9-9 10-10")
	te.sameBytes(w.store.Client(te.prefix))
}

// TestTheOwnersCommitsAreUnpackedBehindWhatALaterOwnerHadUnpacked before this one, which
// has written before anything was unpacked.
func TestTheOwnersCommitsAreUnpackedBehindWhatALaterOwnerHadUnpacked(t *testing.T) {
	w, te := inThirdLife(t)
	te.ship(4)
	if tail := w.log.Tail(te.prefix); tail.Min != 1 || tail.Max != 12 {
		t.Fatalf("the logs have %+v; this shows nothing", tail)
	}
	w.unpack(w.log, te, "1-1 2-7 8-8 9-9 10-11 12-12")
	te.sameBytes(w.store.Client(te.prefix))
}

// shipUntilPacked goes on until an object of the log says what was unpacked before.
func (te *tenant) shipUntilPacked() {
	te.w.t.Helper()
	for range 3 {
		te.ship(1)
		if _, err := te.w.log.Unpack(te.w.t.Context(), te.prefix, te.w.store.Client(te.prefix), true); err != nil {
			te.w.t.Fatal(err)
		}
	}
}

// cutShort is a prefix whose unpacker dies before a write.
type cutShort struct {
	litestream.ReplicaClient
	writes int // that it makes before that
}

var errDied = errors.New("died")

// asOne puts one file in the place of several of level 0 that follow each other.
func asOne(t *testing.T, client litestream.ReplicaClient, files ...ltx.FileInfo) {
	t.Helper()
	var parts []io.Reader
	var gone []*ltx.FileInfo
	for i := range files {
		f := &files[i]
		rc, err := client.OpenLTXFile(t.Context(), 0, f.MinTXID, f.MaxTXID, 0, 0)
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(rc)
		if err := errors.Join(err, rc.Close()); err != nil {
			t.Fatal(err)
		}
		parts, gone = append(parts, untrusted.NewLTX(bytes.NewReader(data))), append(gone, f)
	}
	var all bytes.Buffer
	if _, _, err := ltxfile.Merge(&all, parts); err != nil {
		t.Fatal(err)
	}
	if _, err := client.WriteLTXFile(t.Context(), 0, gone[0].MinTXID, gone[len(gone)-1].MaxTXID, &all); err != nil {
		t.Fatal(err)
	}
	if err := client.DeleteLTXFiles(t.Context(), gone); err != nil {
		t.Fatal(err)
	}
}

func (c *cutShort) WriteLTXFile(ctx context.Context, level int, minTXID, maxTXID ltx.TXID, r io.Reader) (*ltx.FileInfo, error) {
	if c.writes--; c.writes < 0 {
		return nil, errDied
	}
	return c.ReplicaClient.WriteLTXFile(ctx, level, minTXID, maxTXID, r)
}

// TestWhatAnUnpackerThatWasCutShortHidesInThePrefixIsUnpackedOnceMore: the first life's log has 2 to 6, and stays.
// Its successor has unpacked those with its own 7 to 9, as 3 to 8, of which its log has let go. Another unpacker had the same
// at hand up to 5, and died when it had written 3 to 4: so no compaction gets from 4 to what the third
// life adds.
func TestWhatAnUnpackerThatWasCutShortHidesInThePrefixIsUnpackedOnceMore(t *testing.T) {
	for _, compacted := range []bool{false, true} {
		w := newWorld(t)
		te, idle, busy := w.tenant("litestream/a"), w.tenant("litestream/idle"), w.tenant("litestream/busy")
		join := func(x *tenant) { x.db.Client = w.log.Client(x.prefix, x.prefix, w.store.Client(x.prefix)) }
		idle.ship(1) // which keeps the first log
		te.ship(1)
		w.unpack(w.log, te, "1-1")
		te.ship(4)
		other, err := Read(t.Context(), w.objects)
		if err != nil {
			t.Fatal(err)
		}
		te.ship(1)
		w.close()
		w.begin(2)
		join(te)
		join(busy)
		te.ship(3)
		inner := &meanwhile{w.store.Client(te.prefix), func() {
			if _, err := other.Unpack(t.Context(), te.prefix, &cutShort{w.store.Client(te.prefix), 2}, true); !errors.Is(err, errDied) {
				t.Fatal(err)
			}
			if compacted {
				w.compact(te.prefix)
			}
		}}
		if _, err := w.log.Unpack(t.Context(), te.prefix, inner, true); err != nil {
			t.Fatal(err)
		}
		asOne(t, w.store.Client(te.prefix), ltx.FileInfo{MinTXID: 3, MaxTXID: 6}, ltx.FileInfo{MinTXID: 7, MaxTXID: 8}) // see inThirdLife
		busy.shipUntilPacked()
		w.close()
		w.begin(3)
		join(te)
		te.ship(1)
		if tail := w.log.Tail(te.prefix); tail.Min != 1 || tail.Max != 10 || tail.Files != 7 {
			t.Fatalf("the logs have %+v; this shows nothing", tail)
		}
		if got := w.level0(te.prefix); !strings.Contains(got, " 3-8") {
			t.Fatalf("the prefix has %s; this shows nothing", got)
		}
		if _, err := w.log.Unpack(t.Context(), te.prefix, w.store.Client(te.prefix), true); err != nil {
			t.Fatalf("compacted %v: %v", compacted, err)
		}
		if got := w.level0(te.prefix); !strings.HasSuffix(got, "3-4 3-8 5-5 6-6 7-8 9-9 10-10") {
			t.Errorf("compacted %v: the prefix has %s", compacted, got)
		}
		te.sameBytes(w.store.Client(te.prefix))
		hidden := []*ltx.FileInfo{{MinTXID: 3, MaxTXID: 8}} // as a compaction passes it over
		if err := w.store.Client(te.prefix).DeleteLTXFiles(t.Context(), hidden); err != nil {
			t.Fatal(err)
		}
		te.sameBytes(w.store.Client(te.prefix))
		te.ship(2)
		if _, err := w.log.Unpack(t.Context(), te.prefix, w.store.Client(te.prefix), true); err != nil {
			t.Fatalf("compacted %v: %v", compacted, err)
		}
		w.compact(te.prefix)
		te.sameBytes(w.store.Client(te.prefix))
	}
}
