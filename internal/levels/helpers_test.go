package levels_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/benbjohnson/litestream"
	"github.com/superfly/ltx"
	"go.uber.org/goleak"

	"github.com/multidb-go/multidb/internal/levels"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	ctx       = context.Background()
	discard   = slog.New(slog.DiscardHandler)
	errBefore = errors.New("failed before it was done")
	errAfter  = errors.New("failed after it was done")
)

type object struct {
	info ltx.FileInfo
	data []byte
}

type name struct {
	level    int
	min, max ltx.TXID
}

// bucket is one prefix in memory: a replica client that counts and fails.
type bucket struct {
	objects map[name]object
	lists   int
	gets    atomic.Int64 // a restore opens many at once
	puts    int
	deletes int
	// fault is asked before each get, put and delete; nil for none.
	fault func(op string) error
	rng   *rand.Rand // which half of a failed deletion is done
}

func newBucket() *bucket { return &bucket{objects: make(map[name]object)} }

// failOn fails every operation of a kind.
func failOn(op string, err error) func(string) error {
	return func(o string) error {
		if o == op {
			return err
		}
		return nil
	}
}

func (b *bucket) failing(op string) error {
	if b.fault == nil {
		return nil
	}
	return b.fault(op)
}

func (b *bucket) Type() string               { return "memory" }
func (b *bucket) Init(context.Context) error { return nil }
func (b *bucket) SetLogger(*slog.Logger)     {}

func (b *bucket) LTXFiles(_ context.Context, level int, seek ltx.TXID, _ bool) (ltx.FileIterator, error) {
	b.lists++
	var infos []*ltx.FileInfo
	for _, o := range b.objects {
		if o.info.Level == level && o.info.MinTXID >= seek {
			infos = append(infos, &o.info)
		}
	}
	return ltx.NewFileInfoSliceIterator(infos), nil
}

func (b *bucket) OpenLTXFile(_ context.Context, level int, minTXID, maxTXID ltx.TXID, offset, size int64) (io.ReadCloser, error) {
	b.gets.Add(1)
	o, ok := b.objects[name{level, minTXID, maxTXID}]
	err := b.failing("get")
	if errors.Is(err, errBefore) {
		return nil, err
	}
	if !ok {
		return nil, fmt.Errorf("get: %w", fs.ErrNotExist)
	}
	data := o.data[offset:]
	if size > 0 {
		data = data[:min(size, int64(len(data)))]
	}
	if err != nil {
		return io.NopCloser(io.MultiReader(bytes.NewReader(data[:len(data)/2]), failingReader{err})), nil
	}
	return io.NopCloser(bytes.NewReader(data)), nil
}

type failingReader struct{ err error }

func (r failingReader) Read([]byte) (int, error) { return 0, r.err }

func (b *bucket) WriteLTXFile(_ context.Context, level int, minTXID, maxTXID ltx.TXID, r io.Reader) (*ltx.FileInfo, error) {
	b.puts++
	data, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("put: %w", err)
	}
	err = b.failing("put")
	if errors.Is(err, errBefore) {
		return nil, err
	}
	dec := ltx.NewDecoder(bytes.NewReader(data))
	if err := dec.Verify(); err != nil {
		return nil, fmt.Errorf("put: %w", err)
	}
	hdr := dec.Header()
	if hdr.MinTXID != minTXID || hdr.MaxTXID != maxTXID {
		return nil, fmt.Errorf("put %s-%s: holds %s-%s", minTXID, maxTXID, hdr.MinTXID, hdr.MaxTXID)
	}
	if _, ok := b.objects[name{level, minTXID, maxTXID}]; ok {
		return nil, fmt.Errorf("put: %w", fs.ErrExist)
	}
	info := ltx.FileInfo{Level: level, MinTXID: minTXID, MaxTXID: maxTXID, Size: int64(len(data)), CreatedAt: time.UnixMilli(hdr.Timestamp).UTC()}
	b.objects[name{level, minTXID, maxTXID}] = object{info, data}
	return &info, err
}

func (b *bucket) DeleteLTXFiles(_ context.Context, infos []*ltx.FileInfo) error {
	b.deletes++
	if len(infos) > 1000 {
		return errors.New("more than S3 takes")
	}
	err := b.failing("delete")
	if errors.Is(err, errBefore) {
		return err
	}
	for _, info := range infos {
		if err == nil || b.rng == nil || b.rng.IntN(2) == 0 {
			delete(b.objects, name{info.Level, info.MinTXID, info.MaxTXID})
		}
	}
	return err
}

func (b *bucket) DeleteAll(context.Context) error { return errors.New("never asked for") }

// stock is the bucket as litestream sees it: nothing is counted, nothing fails.
func (b *bucket) stock() *bucket { return &bucket{objects: b.objects} }

// infos lists the bucket by level and TXID.
func (b *bucket) infos() []*ltx.FileInfo {
	var infos []*ltx.FileInfo
	for _, o := range b.objects {
		infos = append(infos, &o.info)
	}
	ltx.NewFileInfoSliceIterator(infos) // sorts
	return infos
}

// tenant is a database that is written and shipped.
type tenant struct {
	t        testing.TB
	b        *bucket
	v        *levels.Inventory
	rng      *rand.Rand
	now      time.Time
	pageSize int
	pages    [][]byte
	states   [][]byte    // by TXID, from 1
	times    []time.Time // by TXID, from 1
}

func newTenant(t testing.TB, seed uint64) *tenant {
	return &tenant{
		t: t, b: newBucket(), v: new(levels.Inventory), pageSize: 512,
		rng: rand.New(rand.NewPCG(seed, 0)), now: time.UnixMilli(1_700_000_000_000).UTC(),
		states: make([][]byte, 1), times: make([]time.Time, 1),
	}
}

func (d *tenant) txid() ltx.TXID { return ltx.TXID(len(d.states) - 1) }

// file encodes an LTX file of the given pages, numbered from 1.
func (d *tenant) file(minTXID, maxTXID ltx.TXID, pgnos []uint32) []byte {
	d.t.Helper()
	var buf bytes.Buffer
	enc, err := ltx.NewEncoder(&buf)
	if err == nil {
		err = enc.EncodeHeader(ltx.Header{
			Version: ltx.Version, Flags: ltx.HeaderFlagNoChecksum, PageSize: uint32(d.pageSize), Commit: uint32(len(d.pages)),
			MinTXID: minTXID, MaxTXID: maxTXID, Timestamp: d.now.UnixMilli(),
		})
	}
	for _, pgno := range pgnos {
		if err == nil {
			err = enc.EncodePage(ltx.PageHeader{Pgno: pgno}, d.pages[pgno-1])
		}
	}
	if err == nil {
		err = enc.Close()
	}
	if err != nil {
		d.t.Fatal(err)
	}
	return buf.Bytes()
}

func (d *tenant) allPages() []uint32 {
	var pgnos []uint32
	for i := range d.pages {
		pgnos = append(pgnos, uint32(i+1))
	}
	return pgnos
}

// put stores a file and adds it to the inventory, whatever fault is set.
func (d *tenant) put(level int, minTXID, maxTXID ltx.TXID, data []byte) {
	d.t.Helper()
	info, err := d.b.stock().WriteLTXFile(ctx, level, minTXID, maxTXID, bytes.NewReader(data))
	if err != nil {
		d.t.Fatal(err)
	}
	d.v.Wrote(info, data)
}

// commit changes some pages and ships them as the next level 0 file.
func (d *tenant) commit() {
	d.t.Helper()
	dirty := map[uint32]bool{}
	switch n := len(d.pages); {
	case n > 3 && d.rng.IntN(8) == 0:
		d.pages = d.pages[:n-1-d.rng.IntN(2)]
	case n < 4 || n < 12 && d.rng.IntN(4) == 0:
		for range 1 + d.rng.IntN(3) {
			d.pages = append(d.pages, nil)
			dirty[uint32(len(d.pages))] = true
		}
	}
	for range 1 + d.rng.IntN(2) {
		dirty[uint32(1+d.rng.IntN(len(d.pages)))] = true
	}
	d.ship(dirty)
}

func (d *tenant) ship(dirty map[uint32]bool) {
	d.t.Helper()
	d.shipWith(dirty, 8)
}

// shipWith fills so many bytes of each page with noise.
func (d *tenant) shipWith(dirty map[uint32]bool, noise int) {
	d.t.Helper()
	var pgnos []uint32
	for pgno := range dirty {
		pgnos = append(pgnos, pgno)
	}
	slices.Sort(pgnos)
	for _, pgno := range pgnos {
		page := make([]byte, d.pageSize)
		for i := range noise {
			page[i] = byte(d.rng.Uint32())
		}
		d.pages[pgno-1] = page
	}
	d.states = append(d.states, bytes.Join(d.pages, nil))
	d.times = append(d.times, time.UnixMilli(d.now.UnixMilli()).UTC()) // as LTX keeps it
	d.put(0, d.txid(), d.txid(), d.file(d.txid(), d.txid(), pgnos))
}

// commits ships n commits, a second apart.
func (d *tenant) commits(n int) {
	d.t.Helper()
	for range n {
		d.now = d.now.Add(time.Second)
		d.commit()
	}
}

// snapshot stores the state as a snapshot.
func (d *tenant) snapshot() {
	d.t.Helper()
	d.put(litestream.SnapshotLevel, 1, d.txid(), d.file(1, d.txid(), d.allPages()))
}

// changePageSize is a VACUUM to another page size, as the shipper ships it.
func (d *tenant) changePageSize() {
	d.t.Helper()
	d.v.BeginEpoch(d.txid())
	d.rewrite()
	d.snapshot()
}

// rewrite ships every page in another size.
func (d *tenant) rewrite() {
	d.t.Helper()
	d.pageSize = 512 + 1024 - d.pageSize
	dirty := map[uint32]bool{}
	for _, pgno := range d.allPages() {
		dirty[pgno] = true
	}
	d.ship(dirty)
}

func (d *tenant) compact(p levels.Policy, all bool) levels.Report {
	d.t.Helper()
	rep, err := levels.Compact(ctx, d.b, d.v, p, all, discard)
	if err != nil {
		d.t.Fatal(err)
	}
	return rep
}

func (d *tenant) retain(p levels.Policy) levels.Report {
	d.t.Helper()
	rep, err := levels.Retain(ctx, d.b, d.v, p, d.now)
	if err != nil {
		d.t.Fatal(err)
	}
	return rep
}

// wantRestore restores by stock litestream and compares with the state at want.
func (d *tenant) wantRestore(opt litestream.RestoreOptions, want ltx.TXID) {
	d.t.Helper()
	opt.OutputPath = filepath.Join(d.t.TempDir(), "db")
	if err := litestream.NewReplicaWithClient(nil, d.b.stock()).Restore(ctx, opt); err != nil {
		d.t.Fatalf("restore to txid %s, time %v: %v\n%s", opt.TXID, opt.Timestamp, err, d.dump())
	}
	got, err := os.ReadFile(opt.OutputPath)
	if err != nil {
		d.t.Fatal(err)
	}
	if err := os.Remove(opt.OutputPath); err != nil {
		d.t.Fatal(err)
	}
	if !bytes.Equal(got, d.states[want]) {
		is := slices.IndexFunc(d.states, func(s []byte) bool { return bytes.Equal(s, got) })
		d.t.Fatalf("restore to txid %s, time %v: state of TXID %d (-1: of none), want %d\n%s", opt.TXID, opt.Timestamp, is, want, d.dump())
	}
}

func (d *tenant) wantLatest() {
	d.t.Helper()
	if err := d.v.Restorable(); err != nil {
		d.t.Fatalf("%v\n%s", err, d.dump())
	}
	d.wantRestore(litestream.RestoreOptions{}, d.txid())
}

// wantSame checks that the inventory is what the bucket holds.
func (d *tenant) wantSame() {
	d.t.Helper()
	if n := d.v.Strays(); n > 0 {
		d.t.Fatalf("%d strays", n)
	}
	have, got := d.b.infos(), slices.Collect(d.v.All())
	if !slices.EqualFunc(have, got, func(a, b *ltx.FileInfo) bool { return *a == *b }) {
		d.t.Fatalf("inventory differs from the bucket:\n%s", d.dump())
	}
	if d.b.lists > 0 {
		d.t.Fatalf("%d listings", d.b.lists)
	}
}

// names lists a level's files as "1-60 61-120".
func (d *tenant) names(level int) string {
	var s []byte
	for info := range d.v.Files(level) {
		s = fmt.Appendf(s, " %d-%d", info.MinTXID, info.MaxTXID)
	}
	return string(bytes.TrimPrefix(s, []byte(" ")))
}

func (d *tenant) dump() string {
	var buf bytes.Buffer
	fmt.Fprintf(&buf, "now %v\nbucket:\n", d.now)
	for _, info := range d.b.infos() {
		fmt.Fprintf(&buf, "  %d %d-%d %v\n", info.Level, info.MinTXID, info.MaxTXID, info.CreatedAt)
	}
	fmt.Fprintf(&buf, "inventory:")
	for level := range 10 {
		if s := d.names(level); s != "" {
			fmt.Fprintf(&buf, "\n  %d: %s", level, s)
		}
	}
	return buf.String()
}
