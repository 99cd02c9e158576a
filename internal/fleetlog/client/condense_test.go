package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/benbjohnson/litestream"
	"github.com/multidb-go/multidb/internal/restore"
	"github.com/multidb-go/multidb/internal/ship"
	"github.com/multidb-go/multidb/internal/store"
	"github.com/superfly/ltx"
)

// update changes one of twenty rows and ships it.
func (te *tenant) update(n int) {
	te.w.t.Helper()
	te.exec("UPDATE t SET v = randomblob(300) WHERE rowid = ?", n%20+1)
	if _, err := te.shipper.Step(te.w.t.Context(), &te.db); err != nil {
		te.w.t.Fatal(err)
	}
}

// condensed ships n commits, and merges what is durable. It fails unless something was merged.
func (te *tenant) condensed(n int) {
	te.w.t.Helper()
	te.ship(n)
	te.w.log.condense(te.prefix)
	for _, f := range te.w.log.tail(te.prefix) {
		if f.merged != nil {
			return
		}
	}
	te.w.t.Fatal("nothing was merged")
}

// forget drops from memory what is durable.
func (w *world) forget() {
	w.log.mu.Lock()
	defer w.log.mu.Unlock()
	for _, f := range w.log.durable {
		w.log.forgetLocked(f)
	}
}

// sameBytes compares what a restore through a client gives with the file of the tenant,
// which cannot be shipped afterwards.
func (te *tenant) sameBytes(client litestream.ReplicaClient) {
	t := te.w.t
	t.Helper()
	te.exec("PRAGMA wal_checkpoint(TRUNCATE)")
	want, err := os.ReadFile(te.db.Path)
	if err != nil {
		t.Fatal(err)
	}
	ours := filepath.Join(t.TempDir(), "ours.db")
	if err := restore.Newest(t.Context(), client, restore.Options{Output: ours}); err != nil {
		t.Fatal(err)
	}
	stock := filepath.Join(t.TempDir(), "stock.db")
	opt := litestream.NewRestoreOptions()
	opt.OutputPath = stock
	if err := litestream.NewReplicaWithClient(nil, client).Restore(t.Context(), opt); err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{"our restore": ours, "litestream's": stock} {
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s has other pages than the database", name)
		}
	}
}

// counted counts the requests at a store of objects.
type counted struct {
	store.Objects
	opens atomic.Int64
}

func (c *counted) Open(ctx context.Context, name string, offset, size int64) (io.ReadCloser, error) {
	c.opens.Add(1)
	return c.Objects.Open(ctx, name, offset, size)
}

// countedPrefix counts the requests at a prefix.
type countedPrefix struct {
	litestream.ReplicaClient
	writes, others int
}

func (c *countedPrefix) WriteLTXFile(ctx context.Context, level int, minTXID, maxTXID ltx.TXID, r io.Reader) (*ltx.FileInfo, error) {
	c.writes++
	return c.ReplicaClient.WriteLTXFile(ctx, level, minTXID, maxTXID, r)
}

func (c *countedPrefix) LTXFiles(ctx context.Context, level int, seek ltx.TXID, useMetadata bool) (ltx.FileIterator, error) {
	c.others++
	return c.ReplicaClient.LTXFiles(ctx, level, seek, useMetadata)
}

func (c *countedPrefix) OpenLTXFile(ctx context.Context, level int, minTXID, maxTXID ltx.TXID, offset, size int64) (io.ReadCloser, error) {
	c.others++
	return c.ReplicaClient.OpenLTXFile(ctx, level, minTXID, maxTXID, offset, size)
}

// TestATenantThatStaysHotCostsMemoryForThePagesThatItChanges, and its unpacking is one
// request, however many commits it had.
func TestATenantThatStaysHotCostsMemoryForThePagesThatItChanges(t *testing.T) {
	w := newWorld(t)
	objects := &counted{Objects: w.objects}
	w.log.cfg.Objects = objects
	idle := w.tenant("litestream/idle")
	idle.ship(1)
	te := w.tenant("litestream/a")
	te.ship(20)
	w.unpack(w.log, te, "1-1 2-19 20-20")
	const commits = 1000
	var taken int64
	for n := range commits {
		te.update(n)
		w.journal.Hurry() // an object has one file of a tenant
		if n%100 == 99 {
			w.await(te.prefix, te.db.State.TXID)
		}
		taken += w.log.tail(te.prefix)[len(w.log.tail(te.prefix))-1].size
	}
	te.update(commits) // which merges what is durable by now
	last := te.db.State.TXID
	w.await(te.prefix, last)

	files := len(w.log.tail(te.prefix))
	tail := w.log.Tail(te.prefix)
	if files > 40 || tail.Bytes > 100<<10 || tail.Bytes > taken/5 {
		t.Errorf("the tail has %d files of %d bytes after %d commits of %d", files, tail.Bytes, commits, taken)
	}
	if tail.Files != commits+1 || tail.Min != 21 || tail.Max != last || !tail.Durable {
		t.Errorf("the tail is %+v", tail)
	}
	w.log.mu.Lock()
	kept, listed, memory := w.log.kept, len(w.log.durable), w.log.memory
	var held int64
	for _, tail := range w.log.tails {
		for _, f := range tail {
			held += int64(cap(f.data))
		}
	}
	w.log.mu.Unlock()
	if sum := w.log.Stats().TailBytes; kept != files+1 || listed > 200 || memory != sum || held > memory*5/4+4<<10 {
		t.Errorf("%d files of %d are listed, %d in the tails; %d bytes are counted, %d held, %d in the tails", kept, listed, files+1, memory, held, sum)
	}

	prefix := &countedPrefix{ReplicaClient: w.store.Client(te.prefix)}
	infos, err := w.log.Unpack(t.Context(), te.prefix, prefix, false)
	if err != nil || ranges(infos) != fmt.Sprintf("21-%d", last-1) {
		t.Errorf("unpacked %s: %v", ranges(infos), err)
	}
	if n := objects.opens.Load(); n != 0 || prefix.writes != 1 || prefix.others != 0 {
		t.Errorf("it cost %d reads of objects, %d writes and %d other requests at the prefix", n, prefix.writes, prefix.others)
	}
	if s := w.log.Stats(); s.Pending != 2 || s.Tails != 2 || s.TailBytes != w.log.Tail(idle.prefix).Bytes+w.log.Tail(te.prefix).Bytes || w.log.kept != 2 {
		t.Errorf("%+v", s)
	}
	w.unpack(w.log, idle, "1-1")
	te.ship(1)
	te.ship(1) // of which an object says that all before is unpacked
	reader, err := Read(t.Context(), w.objects)
	if err != nil {
		t.Fatal(err)
	}
	if n := reader.Tail(te.prefix).Files; n > 3 {
		t.Errorf("for a reader %d files are not unpacked", n)
	}
	if n := w.restored(w.store.Client(te.prefix), 0); n != te.rows-2 {
		t.Errorf("the prefix alone has %d rows of %d", n, te.rows-2)
	}
	w.unpack(w.log, te, fmt.Sprintf("%d-%d %[3]d-%[3]d", last, last+1, last+2))
	te.sameBytes(w.store.Client(te.prefix))
}

// TestWhatIsMergedCanBeHadAsItWasTaken, also when it is no longer in memory.
func TestWhatIsMergedCanBeHadAsItWasTaken(t *testing.T) {
	for _, c := range []struct {
		name      string
		forgotten bool
	}{{"in memory", false}, {"dropped", true}} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			te := w.tenant("litestream/a")
			te.condensed(60)
			want := map[ltx.TXID][]byte{}
			reader, err := ReadTenant(t.Context(), w.objects, te.prefix, false)
			if err != nil {
				t.Fatal(err)
			}
			read := func(client litestream.ReplicaClient, minTXID, maxTXID ltx.TXID) []byte {
				t.Helper()
				rc, err := client.OpenLTXFile(t.Context(), 0, minTXID, maxTXID, 0, 0)
				if err != nil {
					t.Fatalf("%s-%s: %v", minTXID, maxTXID, err)
				}
				defer func() { _ = rc.Close() }()
				data, err := io.ReadAll(rc)
				if err != nil {
					t.Fatal(err)
				}
				return data
			}
			stored := reader.Client("", te.prefix, w.store.Client(te.prefix))
			for txid := ltx.TXID(1); txid <= 60; txid++ {
				want[txid] = read(stored, txid, txid)
			}
			tail, err := w.log.wholes(t.Context(), te.prefix)
			if err != nil {
				t.Fatal(err)
			}
			if c.forgotten {
				w.forget()
			}
			for _, txid := range []ltx.TXID{1, 2, 17, 30, 60} {
				if got := read(te.db.Client, txid, txid); !bytes.Equal(got, want[txid]) {
					t.Errorf("transaction %s is another file than was taken", txid)
				}
			}
			for _, f := range tail {
				if got := read(te.db.Client, f.min, f.max); !bytes.Equal(got, f.data) {
					t.Errorf("%s-%s is another file", f.min, f.max)
				}
			}
			listed, err := te.db.Client.LTXFiles(t.Context(), 0, 0, false)
			if err != nil {
				t.Fatal(err)
			}
			for listed.Next() {
				if f := listed.Item(); f.Size != int64(len(read(te.db.Client, f.MinTXID, f.MaxTXID))) {
					t.Errorf("%s-%s is listed with %d bytes", f.MinTXID, f.MaxTXID, f.Size)
				}
			}
			if err := errors.Join(listed.Err(), listed.Close()); err != nil {
				t.Error(err)
			}
			if n := w.restored(te.db.Client, 0); n != te.rows {
				t.Errorf("the owner restores %d rows of %d", n, te.rows)
			}
			if n := w.restored(stored, 33); n != 33 {
				t.Errorf("a reader restores %d rows of transaction 33", n)
			}
			w.unpack(w.log, te, "1-1 2-59 60-60")
			te.sameBytes(w.store.Client(te.prefix))
		})
	}
}

// TestAPrefixThatEndsInsideOfAMergedFileIsTheSameHistory: the command has unpacked beside the
// owner, whose first unpacking this is.
func TestAPrefixThatEndsInsideOfAMergedFileIsTheSameHistory(t *testing.T) {
	for _, compacted := range []bool{false, true} {
		for _, forgotten := range []bool{false, true} {
			w := newWorld(t)
			te := w.tenant("litestream/a")
			te.ship(10)
			command, err := Read(t.Context(), w.objects)
			if err != nil {
				t.Fatal(err)
			}
			te.condensed(30)
			w.unpack(command, te, "1-1 2-9 10-10")
			want := "1-1 2-9 10-10 11-11 12-39 40-40"
			if compacted {
				w.compact(te.prefix)
				for _, f := range []struct{ min, max ltx.TXID }{{1, 1}, {2, 9}, {10, 10}} {
					if err := w.store.Client(te.prefix).DeleteLTXFiles(t.Context(), []*ltx.FileInfo{{MinTXID: f.min, MaxTXID: f.max}}); err != nil {
						t.Fatal(err)
					}
				}
				want = "11-11 12-39 40-40"
			}
			if forgotten {
				w.forget()
			}
			w.unpack(w.log, te, want)
			if tail := w.log.Tail(te.prefix); tail.Files != 0 || w.log.Stats().Pending != 0 {
				t.Errorf("the tail is %+v", tail)
			}
			te.condensed(20)
			if forgotten {
				w.forget()
			}
			w.unpack(w.log, te, "41-59 60-60")
			te.sameBytes(w.store.Client(te.prefix))
		}
	}
}

// lost is a prefix that takes a file and does not say so.
type lost struct {
	litestream.ReplicaClient
	err error
}

func (l *lost) WriteLTXFile(ctx context.Context, level int, minTXID, maxTXID ltx.TXID, r io.Reader) (*ltx.FileInfo, error) {
	info, err := l.ReplicaClient.WriteLTXFile(ctx, level, minTXID, maxTXID, r)
	if err == nil {
		err = l.err
	}
	return info, err
}

// TestWhereFilesOverlapWhatIsMergedIsUnpackedBehindThem: behind those that follow each
// other, the first as it was taken.
func TestWhereFilesOverlapWhatIsMergedIsUnpackedBehindThem(t *testing.T) {
	w := newWorld(t)
	te := w.tenant("litestream/a")
	te.ship(5)
	w.unpack(w.log, te, "1-1 2-4 5-5")
	te.ship(5)
	command, err := Read(t.Context(), w.objects)
	if err != nil {
		t.Fatal(err)
	}
	te.condensed(20)
	w.unpack(command, te, "6-6 7-9 10-10")
	away := errors.New("no answer")
	if _, err := w.log.Unpack(t.Context(), te.prefix, &lost{w.store.Client(te.prefix), away}, true); !errors.Is(err, away) {
		t.Fatal(err)
	}
	te.condensed(20)
	w.unpack(w.log, te, "6-6 6-29 7-9 10-10 11-11 12-49 50-50")
	w.compact(te.prefix)
	te.sameBytes(w.store.Client(te.prefix))
}

// TestAForeignFileThatEndsInsideOfAMergedFileIsFound.
func TestAForeignFileThatEndsInsideOfAMergedFileIsFound(t *testing.T) {
	w := newWorld(t)
	te := w.tenant("litestream/a")
	te.ship(5)
	from := te.db.State
	te.condensed(30)
	te.foreign(from)
	before := w.level0(te.prefix)
	if infos, err := w.log.Unpack(t.Context(), te.prefix, w.store.Client(te.prefix), true); !errors.Is(err, ship.ErrFenced) {
		t.Errorf("unpacked %s: %v", ranges(infos), err)
	}
	if got := w.level0(te.prefix); got != before || before != "6-6" {
		t.Errorf("the prefix has %s, it had %s", got, before)
	}
}

// TestWhereMemoryIsShortTheLargestTailsAreUnpackedBeforeAnyIsDropped.
func TestWhereMemoryIsShortTheLargestTailsAreUnpackedBeforeAnyIsDropped(t *testing.T) {
	w := newWorld(t)
	small, large := w.tenant("litestream/a"), w.tenant("litestream/b")
	small.ship(1)
	for range 3 { // too few to be merged
		large.ship(1)
	}
	memory := func() (n int64) {
		w.log.mu.Lock()
		defer w.log.mu.Unlock()
		return w.log.memory
	}
	pressed := func() string {
		return fmt.Sprint(small.db.Client.(*Client).Pressed(), large.db.Client.(*Client).Pressed())
	}
	inMemory := func() (n int) {
		for _, f := range append(w.log.tail(small.prefix), w.log.tail(large.prefix)...) {
			if f.data != nil {
				n++
			}
		}
		return n
	}
	if got := pressed(); got != "false false" {
		t.Errorf("memory is not short: %s", got)
	}
	w.log.cfg.MaxMemory = memory() - 1
	if got := pressed(); got != "false true" || inMemory() != 4 {
		t.Errorf("memory is short: %s; %d files are in memory", got, inMemory())
	}
	large.ship(1)
	if inMemory() != 5 {
		t.Errorf("%d files of 5 are in memory, which has less than twice what it may", inMemory())
	}
	w.log.cfg.MaxMemory = memory()/2 - 1
	large.ship(1) // the oldest is dropped
	if n := inMemory(); n > 5 || w.log.tail(small.prefix)[0].data != nil || memory() > 2*w.log.cfg.MaxMemory {
		t.Errorf("%d files are in memory, of %d bytes", n, memory())
	}
	if got := pressed(); got != "false true" {
		t.Errorf("nothing of the smaller one is in memory: %s", got)
	}
	if _, err := large.db.Client.(*Client).Unpack(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if got := pressed(); got != "false false" || memory() != 0 {
		t.Errorf("after unpacking: %s, %d bytes", got, memory())
	}
}

// TestFilesThatCannotBeOneAreNotMerged: of another page size, large, or not durable.
func TestFilesThatCannotBeOneAreNotMerged(t *testing.T) {
	file := func(txid ltx.TXID, change func(*tailFile)) *tailFile {
		f := &tailFile{min: txid, max: txid, size: 1000, data: []byte{1}, pageSize: 4096, durable: true}
		if change != nil {
			change(f)
		}
		return f
	}
	for name, c := range map[string]struct {
		change func(txid ltx.TXID, f *tailFile)
		want   string
	}{
		"all are alike": {func(ltx.TXID, *tailFile) {}, "2-5"},
		"the first three are dropped": {func(n ltx.TXID, f *tailFile) {
			if n <= 3 {
				f.data = nil
			}
		}, "4-7"},
		"one in the middle is large": {func(n ltx.TXID, f *tailFile) {
			if n == 20 {
				f.large, f.data = 1, nil
			}
		}, "21-24"},
		"the page size changes": {func(n ltx.TXID, f *tailFile) {
			if n >= 22 {
				f.pageSize = 8192
			}
		}, "22-25"},
		"it changes near the end": {func(n ltx.TXID, f *tailFile) {
			if n >= 38 {
				f.pageSize = 8192
			}
		}, ""},
		"the last are not durable": {func(n ltx.TXID, f *tailFile) { f.durable = n <= 18 }, "2-5"},
		"too many are not durable": {func(n ltx.TXID, f *tailFile) { f.durable = n <= 5 }, ""},
		"none is durable":          {func(n ltx.TXID, f *tailFile) { f.durable = false }, ""},
		"two merged ones are alike": {func(n ltx.TXID, f *tailFile) {
			if n >= 5 && n <= 7 {
				f.merged = &parts{}
			}
		}, "6-7"},
		"the older one is far larger": {func(n ltx.TXID, f *tailFile) {
			if n >= 5 && n <= 7 {
				f.merged = &parts{}
			}
			if n == 6 {
				f.size = 4001
			}
		}, "8-11"},
		"they are too large together": {func(n ltx.TXID, f *tailFile) { f.size = pieceBytes / 3 }, "2-4"},
		"each is too large":           {func(n ltx.TXID, f *tailFile) { f.size = pieceBytes }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var tail []*tailFile
			for txid := ltx.TXID(1); txid <= 40; txid++ {
				tail = append(tail, file(txid, func(f *tailFile) { c.change(txid, f) }))
			}
			got := ""
			if files := condensable(tail); len(files) > 0 {
				got = fmt.Sprintf("%d-%d", files[0].min, files[len(files)-1].max)
			}
			if got != c.want {
				t.Errorf("%s are merged, want %s", got, c.want)
			}
		})
	}
}
