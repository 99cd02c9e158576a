package multidbtest

import (
	"bytes"
	"errors"
	"io/fs"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/benbjohnson/litestream"
	"github.com/superfly/ltx"

	"github.com/multidb-go/multidb"
)

func testRoundTrip(t *replicaTest) {
	c := t.client("db1")
	if c.Type() == "" {
		t.Error("Type is empty")
	}
	for level := range litestream.SnapshotLevel + 1 {
		minTXID, maxTXID := ltx.TXID(1+level), ltx.TXID(1+2*level)
		data := ltxFile(t.T, minTXID, maxTXID, uint64(level))
		info := t.write(c, level, minTXID, maxTXID, data)
		if info == nil {
			t.Fatalf("level %d: the write returned no FileInfo", level)
		}
		if info.Level != level || info.MinTXID != minTXID || info.MaxTXID != maxTXID || info.Size != int64(len(data)) {
			t.Errorf("level %d: the write returned %+v for %d bytes", level, info, len(data))
		}
		t.wantBytes(c, level, minTXID, maxTXID, data)

		listed := t.list(c, level, 0, false)
		if len(listed) != 1 || listed[0].Level != level || listed[0].Size != int64(len(data)) {
			t.Errorf("level %d: the listing of one file of %d bytes is %s", level, len(data), describe(listed))
		}
	}
}

func testRange(t *replicaTest) {
	c := t.client("db1")
	data := t.put(c, 0, 1, 1)
	n := int64(len(data))
	for _, r := range []struct{ offset, size int64 }{
		{0, 0}, {0, 1}, {0, ltx.HeaderSize}, {0, n}, {0, n + 100},
		{1, 0}, {n / 2, 0}, {n - 1, 0}, {n / 2, 7}, {n - 1, 1}, {n - 3, 100},
	} {
		want := data[r.offset:]
		if r.size > 0 && r.size < int64(len(want)) {
			want = want[:r.size]
		}
		if got := t.read(c, 0, 1, 1, r.offset, r.size); !bytes.Equal(got, want) {
			t.Errorf("offset %d, size %d: %d bytes that are not the %d of the file there", r.offset, r.size, len(got), len(want))
		}
	}
}

func testMissing(t *replicaTest) {
	c := t.client("db1")
	t.wantMissing(c, 0, 1, 1) // nothing at the prefix at all
	t.put(c, 0, 1, 1)
	t.wantMissing(c, 0, 2, 2)
	t.wantMissing(c, 0, 1, 2)
	t.wantMissing(c, 1, 1, 1)
	if _, err := readFile(t.ctx, c, 0, 2, 2, 10, 10); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a range of a missing file: error is %v, want fs.ErrNotExist", err)
	}
}

func testEmpty(t *replicaTest) {
	c := t.client("db1")
	for _, level := range []int{0, 1, litestream.SnapshotLevel} {
		t.wantFiles(c, level, 0)
	}
}

func testListing(t *replicaTest) {
	c := t.client("db1")
	// Out of order, and with TXIDs whose decimal and hexadecimal order differ.
	for _, txid := range []ltx.TXID{300, 2, 10, 1, 0x10, 9, 0xa00} {
		t.put(c, 0, txid, txid)
	}
	t.wantFiles(c, 0, 0, "1-1", "2-2", "9-9", "10-10", "16-16", "300-300", "2560-2560")
	t.wantFiles(c, 0, 1, "1-1", "2-2", "9-9", "10-10", "16-16", "300-300", "2560-2560")
	t.wantFiles(c, 0, 9, "9-9", "10-10", "16-16", "300-300", "2560-2560")
	t.wantFiles(c, 0, 11, "16-16", "300-300", "2560-2560")
	t.wantFiles(c, 0, 2560, "2560-2560")
	t.wantFiles(c, 0, 2561)

	// seek compares with the first TXID of a file, not with the last.
	t.put(c, 1, 1, 9)
	t.put(c, 1, 10, 20)
	t.put(c, 1, 21, 21)
	t.wantFiles(c, 1, 1, "1-9", "10-20", "21-21")
	t.wantFiles(c, 1, 9, "10-20", "21-21")
	t.wantFiles(c, 1, 15, "21-21")
}

func testLevels(t *replicaTest) {
	c := t.client("db1")
	zero, one := t.put(c, 0, 1, 1), t.put(c, 1, 1, 1)
	t.wantBytes(c, 0, 1, 1, zero)
	t.wantBytes(c, 1, 1, 1, one)
	t.wantFiles(c, 0, 0, "1-1")
	t.wantFiles(c, 1, 0, "1-1")
	t.wantFiles(c, 2, 0)
	if err := c.DeleteLTXFiles(t.ctx, t.list(c, 0, 0, false)); err != nil {
		t.Fatal(err)
	}
	t.wantFiles(c, 0, 0)
	t.wantBytes(c, 1, 1, 1, one)
}

// neighbours are databases whose names are easily confused.
func neighbours() []multidb.Database {
	return []multidb.Database{
		testDatabase("project0", "db1"),
		testDatabase("project0", "db10"), // db1 is a string prefix of it
		testDatabase("project0", "db"),
		testDatabase("project1", "db1"),
		testDatabase("project", "db1"),
		testDatabase("project0", "DB1"),
		testDatabase("project0", "db 1"),
		testDatabase("project0", "db+1"),
		testDatabase("project0", "db%201"),
		testDatabase("project0", "dé&b#1?"),
	}
}

func testIsolation(t *replicaTest) {
	var clients []litestream.ReplicaClient
	for _, db := range neighbours() {
		clients = append(clients, t.clientOf(db))
	}
	var written [][]byte
	for i, c := range clients {
		data := ltxFile(t.T, 1, 1, 1000+uint64(i))
		t.write(c, 0, 1, 1, data)
		t.put(c, 0, ltx.TXID(10+i), ltx.TXID(10+i))
		written = append(written, data)
	}
	for i, c := range clients {
		db := neighbours()[i]
		if got := t.read(c, 0, 1, 1, 0, 0); !bytes.Equal(got, written[i]) {
			t.Errorf("%s reads another database's file", db.ID)
		}
		listed := t.list(c, 0, 0, false)
		if len(listed) != 2 || listed[1].MinTXID != ltx.TXID(10+i) {
			t.Errorf("%s lists %s", db.ID, describe(listed))
		}
	}
}

func testTwoClients(t *replicaTest) {
	a, b := t.client("db1"), t.client("db1")
	data := t.put(a, 0, 1, 1)
	t.wantBytes(b, 0, 1, 1, data)
	t.wantFiles(b, 0, 0, "1-1")
}

func testPrefix(t *replicaTest) {
	p, ok := t.factory.(multidb.ReplicaPrefixer)
	if !ok {
		t.Skip("the factory is no multidb.ReplicaPrefixer")
	}
	owner := make(map[string]multidb.ID)
	for _, db := range neighbours() {
		first, err := p.Prefix(db)
		if err != nil {
			t.Fatalf("%s: %v", db.ID, err)
		}
		second, err := p.Prefix(db)
		if err != nil || first != second || first == "" {
			t.Errorf("%s has prefix %q, then %q, %v", db.ID, first, second, err)
		}
		if other, taken := owner[first]; taken {
			t.Errorf("%s and %s share the prefix %q", db.ID, other, first)
		}
		owner[first] = db.ID
	}
}

func testTimestamps(t *replicaTest) {
	c := t.client("db1")
	for level := range litestream.SnapshotLevel + 1 {
		for txid := ltx.TXID(1); txid <= 3; txid++ {
			info := t.write(c, level, txid, txid, ltxFile(t.T, txid, txid, 0))
			t.wantTime(info, "returned by the write")
		}
		for _, info := range t.list(c, level, 0, true) {
			t.wantTime(info, "listed with useMetadata")
		}
	}
}

func (t *replicaTest) wantTime(info *ltx.FileInfo, how string) {
	t.Helper()
	if want := timestamp(info.MaxTXID); !info.CreatedAt.Equal(want) {
		t.Errorf("%s, %s: created at %s, want %s", name(info.Level, info.MinTXID, info.MaxTXID), how,
			info.CreatedAt.Format(time.RFC3339Nano), want.Format(time.RFC3339Nano))
	}
}

// testCreateOnlyAbove: a machine that slept must not overwrite the compaction of a
// machine that took over meanwhile with its own old one.
func testCreateOnlyAbove(t *replicaTest) {
	if !t.suite.createOnly {
		t.Skip("the backend does not claim it")
	}
	c := t.client("db1")
	for _, level := range []int{1, litestream.SnapshotLevel} {
		first := ltxFile(t.T, 1, 5, 1)
		t.write(c, level, 1, 5, first)
		for _, data := range [][]byte{ltxFile(t.T, 1, 5, 2), first} {
			if _, err := c.WriteLTXFile(t.ctx, level, 1, 5, bytes.NewReader(data)); !errors.Is(err, fs.ErrExist) {
				t.Errorf("level %d, second write: error is %v, want fs.ErrExist", level, err)
			}
			t.wantBytes(c, level, 1, 5, first)
		}
		t.wantFiles(c, level, 0, "1-5")
	}
}

func testDelete(t *replicaTest) {
	c := t.client("db1")
	if err := c.DeleteLTXFiles(t.ctx, nil); err != nil {
		t.Errorf("deleting nothing: %v", err)
	}
	for txid := ltx.TXID(1); txid <= 4; txid++ {
		t.put(c, 0, txid, txid)
	}
	t.put(c, 1, 1, 4)
	gone := []*ltx.FileInfo{
		{Level: 0, MinTXID: 1, MaxTXID: 1},
		{Level: 0, MinTXID: 3, MaxTXID: 3},
		{Level: 0, MinTXID: 77, MaxTXID: 77}, // was never there
		{Level: 1, MinTXID: 1, MaxTXID: 4},
		{Level: 5, MinTXID: 1, MaxTXID: 4}, // nor was its level
	}
	for range 2 { // the second time they are all missing
		if err := c.DeleteLTXFiles(t.ctx, gone); err != nil {
			t.Fatalf("delete: %v", err)
		}
		t.wantFiles(c, 0, 0, "2-2", "4-4")
		t.wantFiles(c, 1, 0)
	}
	t.wantMissing(c, 0, 1, 1)
	t.put(c, 0, 1, 1) // a deleted file may be written again
	t.wantFiles(c, 0, 0, "1-1", "2-2", "4-4")
}

func testDeleteAll(t *replicaTest) {
	dbs := neighbours()
	victim := t.clientOf(dbs[0])
	if err := victim.DeleteAll(t.ctx); err != nil {
		t.Errorf("deleting all of nothing: %v", err)
	}
	for _, db := range dbs {
		c := t.clientOf(db)
		t.put(c, 0, 1, 1)
		t.put(c, 1, 1, 1)
		t.put(c, litestream.SnapshotLevel, 1, 1)
		if m, ok := c.(multidb.MetadataStore); ok {
			if err := m.WriteMetadata(t.ctx, []byte(db.ID)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := victim.DeleteAll(t.ctx); err != nil {
		t.Fatal(err)
	}
	for _, level := range []int{0, 1, litestream.SnapshotLevel} {
		t.wantFiles(victim, level, 0)
		for _, db := range dbs[1:] {
			if got := ranges(t.list(t.clientOf(db), level, 0, false)); !slices.Equal(got, []string{"1-1"}) {
				t.Errorf("deleting all of %s changed level %d of %s: %v", dbs[0].ID, level, db.ID, got)
			}
		}
	}
	if m, ok := victim.(multidb.MetadataStore); ok {
		if _, err := m.ReadMetadata(t.ctx); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("metadata after deleting all: error is %v, want fs.ErrNotExist", err)
		}
		other, err := t.clientOf(dbs[1]).(multidb.MetadataStore).ReadMetadata(t.ctx)
		if err != nil || string(other) != string(dbs[1].ID) {
			t.Errorf("metadata of %s: %q, %v", dbs[1].ID, other, err)
		}
	}
	t.put(victim, 0, 1, 1) // the prefix can be used again
	t.wantFiles(victim, 0, 0, "1-1")
}

func testLargeFile(t *replicaTest) {
	const pageSize, pages = 4096, 2048
	seed := uint64(8)
	rnd := rand.New(rand.NewPCG(seed, seed))
	content := make(map[uint32][]byte)
	for pgno := uint32(1); pgno <= pages; pgno++ {
		content[pgno] = randomBytes(rnd, pageSize)
	}
	data := encodeLTX(t.T, 1, 1, pageSize, pages, content)
	if len(data) < pageSize*pages {
		t.Fatalf("the file has only %d bytes", len(data))
	}
	c := t.client("db1")
	for _, level := range []int{0, litestream.SnapshotLevel} {
		// Without Seek and length, as a pipe from a compactor has neither.
		info, err := c.WriteLTXFile(t.ctx, level, 1, 1, onlyReader{bytes.NewReader(data)})
		if err != nil {
			t.Fatal(err)
		}
		if info.Size != int64(len(data)) {
			t.Errorf("size %d, want %d", info.Size, len(data))
		}
		t.wantBytes(c, level, 1, 1, data)
		tail := int64(len(data)) - 100_000
		if got := t.read(c, level, 1, 1, tail, 0); !bytes.Equal(got, data[tail:]) {
			t.Error("the end of the file read alone is not what was written")
		}
		index, err := litestream.FetchPageIndex(t.ctx, c, info)
		if err != nil || len(index) != pages {
			t.Errorf("page index has %d pages, %v; want %d", len(index), err, pages)
		}
	}
}

func testMetadata(t *replicaTest) {
	c := t.client("db1")
	m, ok := c.(multidb.MetadataStore)
	if !ok {
		t.Skip("the client is no multidb.MetadataStore")
	}
	if data, err := m.ReadMetadata(t.ctx); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("metadata never written: %q, %v; want fs.ErrNotExist", data, err)
	}
	for _, data := range [][]byte{[]byte(`{"id":"project0/db1"}`), []byte(`{}`), bytes.Repeat([]byte("x"), 70_000)} {
		if err := m.WriteMetadata(t.ctx, data); err != nil {
			t.Fatal(err)
		}
		got, err := m.ReadMetadata(t.ctx)
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("wrote %d bytes of metadata, read %d, %v", len(data), len(got), err)
		}
	}
	for level := range litestream.SnapshotLevel + 1 {
		t.wantFiles(c, level, 0) // metadata is no LTX file
	}
	if _, err := t.client("db10").(multidb.MetadataStore).ReadMetadata(t.ctx); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("db10 reads the metadata of db1: %v", err)
	}
}

func testAllFiles(t *replicaTest) {
	c := t.client("db1")
	lister, ok := c.(multidb.FileLister)
	if !ok {
		t.Skip("the client is no multidb.FileLister")
	}
	all := func(useMetadata bool) []*ltx.FileInfo {
		infos, err := lister.AllLTXFiles(t.ctx, useMetadata)
		if err != nil {
			t.Fatal(err)
		}
		return infos
	}
	if infos := all(false); len(infos) != 0 {
		t.Errorf("an empty prefix lists %s", describe(infos))
	}
	other := t.client("db10")
	t.put(other, 0, 99, 99)
	for level := range litestream.SnapshotLevel + 1 {
		for i := range ltx.TXID(3) {
			first := 300 - 100*i
			t.put(c, level, first, first+ltx.TXID(level))
		}
	}
	if m, ok := c.(multidb.MetadataStore); ok {
		if err := m.WriteMetadata(t.ctx, []byte("{}")); err != nil {
			t.Fatal(err)
		}
	}
	for _, useMetadata := range []bool{false, true} {
		var want []*ltx.FileInfo
		for level := range litestream.SnapshotLevel + 1 {
			want = append(want, t.list(c, level, 0, useMetadata)...)
		}
		got := all(useMetadata)
		if !slices.IsSortedFunc(got, compareInfos) {
			t.Errorf("useMetadata %v: not sorted: %s", useMetadata, describe(got))
		}
		if describe(got) != describe(want) {
			t.Errorf("useMetadata %v: AllLTXFiles has %s\nthe levels have %s", useMetadata, describe(got), describe(want))
		}
		if useMetadata {
			for _, info := range got {
				t.wantTime(info, "listed by AllLTXFiles with useMetadata")
			}
		}
	}
}
