package multidbtest

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/benbjohnson/litestream"
	"github.com/superfly/ltx"

	"github.com/multidb-go/multidb"
)

// suiteTimeout bounds each subtest of a conformance suite.
const suiteTimeout = 2 * time.Minute

// ReplicaOption says what TestReplicaFactory may expect.
type ReplicaOption func(*replicaSuite)

// CreateOnly says whether a write of a level leaves an existing file alone and
// fails with fs.ErrExist. Default true, and false only for litestream's own
// clients, which overwrite: such a backend does not protect against two
// writers.
func CreateOnly(on bool) ReplicaOption {
	return func(s *replicaSuite) { s.createOnly = on }
}

// TestReplicaFactory proves that a multidb.ReplicaFactory, and the clients it
// makes, do what multidb relies on.
//
// newFactory is called once per subtest and returns a factory of a storage
// that has nothing yet below its prefixes; it may use t.Cleanup. The factory
// gets databases with the variables project and database, and IDs made of
// both ("project0/db1"), of which it must make distinct prefixes.
func TestReplicaFactory(t *testing.T, newFactory func(t *testing.T) multidb.ReplicaFactory, opts ...ReplicaOption) {
	suite := replicaSuite{newFactory: newFactory, createOnly: true}
	for _, opt := range opts {
		opt(&suite)
	}
	for _, test := range []struct {
		name string
		run  func(*replicaTest)
	}{
		{"what is written is read back byte for byte at every level", testRoundTrip},
		{"a range of a file can be read", testRange},
		{"a file that is not there is fs.ErrNotExist", testMissing},
		{"an empty prefix lists nothing", testEmpty},
		{"a listing is in order of TXID and starts at seek", testListing},
		{"levels are apart", testLevels},
		{"two databases never see each other's files", testIsolation},
		{"two clients of one database see the same files", testTwoClients},
		{"a prefix is stable and distinct", testPrefix},
		{"timestamps are those of the LTX header", testTimestamps},
		{"a level 0 write never overwrites", testCreateOnly},
		{"of concurrent writers of one level 0 file exactly one wins", testCreateOnlyRace},
		{"a write above level 0 never overwrites", testCreateOnlyAbove},
		{"deleting removes what it is given and minds nothing missing", testDelete},
		{"deleting all leaves other databases alone", testDeleteAll},
		{"erasing a prefix leaves nothing of it, and other databases alone", testErase},
		{"the size of a prefix is that of all its objects", testSize},
		{"a file is copied with its time, and never over another", testCopy},
		{"a failing reader leaves nothing behind", testFailingReader},
		{"what is not an LTX file is refused", testGarbage},
		{"an ended context ends every call", testContext},
		{"a context that ends during a write leaves nothing behind", testContextDuringWrite},
		{"concurrent writers of different files all succeed", testConcurrentWriters},
		{"Init may be called again", testInit},
		{"a file of several megabytes is read back", testLargeFile},
		{"metadata is read back and belongs to one database", testMetadata},
		{"AllLTXFiles is the union of the levels", testAllFiles},
		{"stock litestream compacts and restores", testRestore},
	} {
		t.Run(test.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), suiteTimeout)
			defer cancel()
			test.run(&replicaTest{T: t, ctx: ctx, suite: &suite, factory: newFactory(t)})
		})
	}
}

type replicaSuite struct {
	newFactory func(t *testing.T) multidb.ReplicaFactory
	createOnly bool
}

// replicaTest is one subtest: a factory, and helpers.
type replicaTest struct {
	*testing.T
	ctx     context.Context
	suite   *replicaSuite
	factory multidb.ReplicaFactory
}

func testDatabase(project, database string) multidb.Database {
	return multidb.Database{
		ID:      multidb.ID(project + "/" + database),
		Path:    "/data/" + project + "/databases/" + database + ".db",
		RelPath: project + "/databases/" + database + ".db",
		Vars:    []multidb.Var{{Name: "project", Value: project}, {Name: "database", Value: database}},
	}
}

// client returns an initialized client of a database of project0.
func (t *replicaTest) client(database string) litestream.ReplicaClient {
	t.Helper()
	return t.clientOf(testDatabase("project0", database))
}

func (t *replicaTest) clientOf(db multidb.Database) litestream.ReplicaClient {
	t.Helper()
	c, err := t.factory.ReplicaClient(db)
	if err != nil {
		t.Fatalf("ReplicaClient(%s): %v", db.ID, err)
	}
	if err := c.Init(t.ctx); err != nil {
		t.Fatalf("Init of %s: %v", db.ID, err)
	}
	return c
}

// name is a file's name for messages.
func name(level int, minTXID, maxTXID ltx.TXID) string {
	return fmt.Sprintf("%d/%s", level, ltx.FormatFilename(minTXID, maxTXID))
}

func (t *replicaTest) write(c litestream.ReplicaClient, level int, minTXID, maxTXID ltx.TXID, data []byte) *ltx.FileInfo {
	t.Helper()
	info, err := c.WriteLTXFile(t.ctx, level, minTXID, maxTXID, bytes.NewReader(data))
	if err != nil {
		t.Fatalf("write %s: %v", name(level, minTXID, maxTXID), err)
	}
	return info
}

// put writes a small file with content of its own and returns its bytes.
func (t *replicaTest) put(c litestream.ReplicaClient, level int, minTXID, maxTXID ltx.TXID) []byte {
	t.Helper()
	data := ltxFile(t.T, minTXID, maxTXID, uint64(level))
	t.write(c, level, minTXID, maxTXID, data)
	return data
}

func (t *replicaTest) read(c litestream.ReplicaClient, level int, minTXID, maxTXID ltx.TXID, offset, size int64) []byte {
	t.Helper()
	data, err := readFile(t.ctx, c, level, minTXID, maxTXID, offset, size)
	if err != nil {
		t.Fatalf("read %s (%d bytes at %d): %v", name(level, minTXID, maxTXID), size, offset, err)
	}
	return data
}

func readFile(ctx context.Context, c litestream.ReplicaClient, level int, minTXID, maxTXID ltx.TXID, offset, size int64) ([]byte, error) {
	rc, err := c.OpenLTXFile(ctx, level, minTXID, maxTXID, offset, size)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(rc)
	return data, errors.Join(err, rc.Close())
}

func (t *replicaTest) wantBytes(c litestream.ReplicaClient, level int, minTXID, maxTXID ltx.TXID, want []byte) {
	t.Helper()
	if got := t.read(c, level, minTXID, maxTXID, 0, 0); !bytes.Equal(got, want) {
		t.Errorf("%s: read %d bytes that are not the %d bytes written", name(level, minTXID, maxTXID), len(got), len(want))
	}
}

func (t *replicaTest) wantMissing(c litestream.ReplicaClient, level int, minTXID, maxTXID ltx.TXID) {
	t.Helper()
	if _, err := readFile(t.ctx, c, level, minTXID, maxTXID, 0, 0); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("read %s: error is %v, want fs.ErrNotExist", name(level, minTXID, maxTXID), err)
	}
}

func list(ctx context.Context, c litestream.ReplicaClient, level int, seek ltx.TXID, useMetadata bool) ([]*ltx.FileInfo, error) {
	itr, err := c.LTXFiles(ctx, level, seek, useMetadata)
	if err != nil {
		return nil, err
	}
	var infos []*ltx.FileInfo
	for itr.Next() {
		info := *itr.Item()
		infos = append(infos, &info)
	}
	return infos, errors.Join(itr.Err(), itr.Close())
}

func (t *replicaTest) list(c litestream.ReplicaClient, level int, seek ltx.TXID, useMetadata bool) []*ltx.FileInfo {
	t.Helper()
	infos, err := list(t.ctx, c, level, seek, useMetadata)
	if err != nil {
		t.Fatalf("list level %d from %s: %v", level, seek, err)
	}
	return infos
}

// wantFiles compares a level, listed from seek on, with names such as "1-3".
func (t *replicaTest) wantFiles(c litestream.ReplicaClient, level int, seek ltx.TXID, want ...string) {
	t.Helper()
	if got := ranges(t.list(c, level, seek, false)); !slices.Equal(got, want) {
		t.Errorf("level %d from TXID %d lists %v, want %v", level, seek, got, want)
	}
}

func ranges(infos []*ltx.FileInfo) []string {
	var a []string
	for _, info := range infos {
		a = append(a, fmt.Sprintf("%d-%d", info.MinTXID, info.MaxTXID))
	}
	return a
}

// describe prints a listing for messages and comparisons, with times in milliseconds.
func describe(infos []*ltx.FileInfo) string {
	var b strings.Builder
	for _, info := range infos {
		fmt.Fprintf(&b, "[%s %d bytes %s]", name(info.Level, info.MinTXID, info.MaxTXID), info.Size, ltx.FormatTimestamp(info.CreatedAt))
	}
	return b.String()
}

func compareInfos(a, b *ltx.FileInfo) int {
	return cmp.Or(cmp.Compare(a.Level, b.Level), cmp.Compare(a.MinTXID, b.MinTXID), cmp.Compare(a.MaxTXID, b.MaxTXID))
}
