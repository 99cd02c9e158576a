package levels_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/benbjohnson/litestream"
	"github.com/superfly/ltx"

	"github.com/multidb-go/multidb/internal/levels"
)

// model runs random steps against an oracle: a copy of every file ever written,
// from which nothing is deleted but what level 0 retention may give up.
type model struct {
	*tenant
	p      levels.Policy
	oracle levels.Inventory
	jumps  bool      // the clock goes back now and then
	latest time.Time // the latest that retention was ever told
	cache  *levels.Cache
	seen   struct{ compactions, deleted, faults, retained, kept int }
}

func TestRandomCompactionAndRetentionNeverLoseAPointInTime(t *testing.T) {
	seeds := uint64(10)
	if testing.Short() {
		seeds = 4
	}
	var seen struct{ compactions, deleted, faults, retained, kept int }
	for seed := range seeds {
		m := newModel(t, seed)
		func() {
			defer func() {
				if t.Failed() {
					t.Logf("seed %d", seed)
				}
			}()
			m.run(300)
		}()
		seen.compactions += m.seen.compactions
		seen.deleted += m.seen.deleted
		seen.faults += m.seen.faults
		seen.retained += m.seen.retained
		seen.kept += m.seen.kept
	}
	t.Logf("%+v", seen)
	if seen.compactions == 0 || seen.deleted == 0 || seen.faults == 0 || seen.retained == 0 || seen.kept == 0 {
		t.Fatal("something never happened")
	}
}

func newModel(t *testing.T, seed uint64) *model {
	m := &model{tenant: newTenant(t, seed)}
	m.p = levels.Policy{
		L0Files: 2 + m.rng.IntN(8), Fanout: 2 + m.rng.IntN(4), MaxLevel: 1 + m.rng.IntN(4),
		L0Retention: time.Duration(1+m.rng.IntN(300)) * time.Second,
		Retention:   time.Duration(10+m.rng.IntN(300)) * time.Minute,
	}
	m.p.SnapshotInterval = time.Duration(1 + m.rng.Int64N(int64(2*m.p.Retention)))
	if m.rng.IntN(2) == 0 {
		m.p.Granularity = time.Duration(1+m.rng.IntN(600)) * time.Second
	}
	m.jumps = m.rng.IntN(4) == 0
	if m.rng.IntN(2) == 0 {
		m.p.Grace = time.Duration(1+m.rng.IntN(600)) * time.Second
	}
	if seed%3 > 0 { // some of it is kept, or all
		m.cache = levels.NewCache([]int64{0, 3000, 1 << 20}[seed%3])
		m.v.UseCache(m.cache)
	}
	rate := m.rng.IntN(3) * 10 // of failures, in percent
	m.b.rng = rand.New(rand.NewPCG(seed, 1))
	m.b.fault = func(string) error {
		if m.b.rng.IntN(100) >= rate {
			return nil
		}
		m.seen.faults++
		return []error{errBefore, errAfter}[m.b.rng.IntN(2)]
	}
	return m
}

func (m *model) run(steps int) {
	m.t.Helper()
	m.commit()
	for range steps {
		m.now = m.now.Add(time.Duration(1+m.rng.IntN(120_000)) * time.Millisecond)
		switch n := m.rng.IntN(100); {
		case n < 60:
			m.commit()
		case n < 62:
			m.now = m.now.Add(time.Duration(m.rng.Int64N(int64(m.p.Retention))))
		case n < 64 && !m.jumps: // a time would no longer tell the page size
			m.changePageSize()
		case n < 66:
			m.reload()
		case n < 67 && m.jumps:
			m.now = m.now.Add(-time.Duration(m.rng.Int64N(int64(m.p.Retention))))
		case n < 72 && m.v.SnapshotDue(m.p, m.now):
			m.trySnapshot()
		case n < 90:
			all := m.rng.IntN(4) == 0
			due := m.v.CompactionDue(m.p)
			m.note()
			rep, err := levels.Compact(ctx, m.b, m.v, m.p, all, discard)
			m.injected(err)
			m.seen.compactions += rep.Compactions
			if err == nil && (due && rep.Compactions == 0 || !due && !all && rep.Compactions > 0) {
				m.t.Fatalf("due %v, but %+v\n%s", due, rep, m.dump())
			}
			if err == nil && m.v.CompactionDue(m.p) {
				m.t.Fatalf("still due\n%s", m.dump())
			}
		default:
			m.tryRetain()
		}
		m.note()
		if m.rng.IntN(4) == 0 {
			m.check()
		}
	}
	m.b.fault = nil
	m.compact(m.p, true)
	m.note()
	m.tryRetain()
	m.check()
	m.v.Reset(m.b.infos())
	m.wantSame()
}

// note shows the oracle what was written.
func (m *model) note() {
	for info := range m.v.All() {
		m.oracle.Add(info)
	}
}

// injected fails the test unless err is one of ours.
func (m *model) injected(err error) {
	m.t.Helper()
	if err != nil && !errors.Is(err, errBefore) && !errors.Is(err, errAfter) {
		m.t.Fatalf("%v\n%s", err, m.dump())
	}
}

func (m *model) trySnapshot() {
	data := m.file(1, m.txid(), m.allPages())
	info, err := m.b.WriteLTXFile(ctx, litestream.SnapshotLevel, 1, m.txid(), bytes.NewReader(data))
	if errors.Is(err, fs.ErrExist) { // an attempt that failed was done all the same
		info, err = &ltx.FileInfo{Level: litestream.SnapshotLevel, MinTXID: 1, MaxTXID: m.txid(), Size: int64(len(data)), CreatedAt: m.now}, nil
	}
	m.injected(err)
	if err != nil {
		m.v.MarkStray(litestream.SnapshotLevel, 1, m.txid())
		return
	}
	m.v.Add(info)
}

func (m *model) tryRetain() {
	m.t.Helper()
	if m.now.After(m.latest) {
		m.latest = m.now
	}
	if m.v.Strays() > 0 { // whoever retains lists first
		if !m.v.RetentionDue(m.p, m.now) {
			m.t.Fatal("strays are not due")
		}
		m.v.Reset(m.b.infos())
		m.note()
	}
	m.v.MarkSeen(m.now, m.p.Grace)
	due := m.v.RetentionDue(m.p, m.now)
	before := m.b.deletes
	rep, err := levels.Retain(ctx, m.b, m.v, m.p, m.now)
	m.injected(err)
	m.seen.deleted += rep.Deleted
	m.seen.retained++
	if due != (m.b.deletes > before) {
		m.t.Fatalf("due %v, %d requests\n%s", due, m.b.deletes-before, m.dump())
	}
	if m.v.RetentionDue(m.p, m.now) != (err != nil) {
		m.t.Fatalf("still due after error %v\n%s", err, m.dump())
	}
	m.giveUp()
}

// giveUp forgets the level 0 files that the policy lets go before their time,
// by the plainest reading of it.
func (m *model) giveUp() {
	old := m.now.Add(-m.p.L0Retention)
	for f := range m.oracle.Files(0) {
		for level := 1; level <= 8; level++ {
			for c := range m.oracle.Files(level) {
				if !c.CreatedAt.Before(old) {
					continue
				}
				fine := m.p.Granularity == 0 || c.CreatedAt.Sub(f.CreatedAt) <= m.p.Granularity
				if fine && c.MinTXID <= f.MinTXID && f.MaxTXID <= c.MaxTXID {
					defer m.oracle.Remove(f)
				}
			}
		}
	}
}

// reload takes the inventory through its encoding.
func (m *model) reload() {
	b := encode(m.t, m.v)
	m.v.DropCached()
	m.v = new(levels.Inventory)
	m.v.UseCache(m.cache)
	if err := m.v.UnmarshalBinary(b); err != nil {
		m.t.Fatal(err)
	}
}

// check compares what stock litestream makes of the bucket with the oracle.
func (m *model) check() {
	m.t.Helper()
	if m.b.lists > 0 {
		m.t.Fatalf("%d listings", m.b.lists)
	}
	m.seen.kept += m.wantKept()
	m.wantState(m.plan(0, time.Time{}), m.txid())
	if m.rng.IntN(50) == 0 { // which also syncs files: slower
		m.wantLatest()
	}
	window := m.now.Add(-m.p.Retention)
	for i := range 12 {
		at := window.Add(time.Duration(m.rng.Int64N(int64(m.p.Retention) + 1)))
		switch i {
		case 0:
			at = window
		case 1:
			at = m.now
		case 2, 3, 4, 5: // right at and after a commit
			at = m.times[1+m.rng.IntN(len(m.times)-1)].Add(time.Duration(m.rng.IntN(2)))
		}
		if at.Before(m.latest.Add(-m.p.Retention)) || at.Before(window) {
			continue
		}
		want, err := m.oracle.RestorePlan(ctx, 0, at)
		if err != nil {
			continue // before the first file
		}
		got := m.plan(0, at)
		w, g := want[len(want)-1].MaxTXID, got[len(got)-1].MaxTXID
		if g < w || !m.jumps && !m.times[g].Before(at) {
			m.t.Fatalf("restore to %v leads to %d, without any retention to %d\n%s", at, g, w, m.dump())
		}
		m.wantState(got, g)
		if m.rng.IntN(100) == 0 {
			m.wantRestore(litestream.RestoreOptions{Timestamp: at}, g)
		}
	}
	if m.jumps {
		return // a snapshot from before the window may hold TXIDs from within
	}
	for range 8 {
		txid := ltx.TXID(1 + m.rng.IntN(int(m.txid())))
		if at := m.times[txid]; at.Before(m.latest.Add(-m.p.Retention)) || at.Before(window) {
			continue
		}
		if _, err := m.oracle.RestorePlan(ctx, txid, time.Time{}); err != nil {
			continue // given up
		}
		m.wantState(m.plan(txid, time.Time{}), txid)
		if m.rng.IntN(100) == 0 {
			m.wantRestore(litestream.RestoreOptions{TXID: txid}, txid)
		}
	}
}

// plan is litestream's for the bucket.
func (m *model) plan(txid ltx.TXID, at time.Time) []*ltx.FileInfo {
	m.t.Helper()
	infos, err := litestream.CalcRestorePlan(ctx, m.b.stock(), txid, at, discard)
	if err != nil {
		m.t.Fatalf("restore to TXID %d, time %v: %v\n%s", txid, at, err, m.dump())
	}
	return infos
}

// wantState checks what a plan restores, as litestream does but in memory.
func (m *model) wantState(infos []*ltx.FileInfo, want ltx.TXID) {
	m.t.Helper()
	var rdrs []io.Reader
	for _, info := range infos {
		rdrs = append(rdrs, bytes.NewReader(m.b.objects[name{info.Level, info.MinTXID, info.MaxTXID}].data))
	}
	var merged, got bytes.Buffer
	c, err := ltx.NewCompactor(&merged, rdrs)
	if err == nil {
		c.HeaderFlags = ltx.HeaderFlagNoChecksum
		err = c.Compact(ctx)
	}
	if err == nil {
		err = ltx.NewDecoder(&merged).DecodeDatabaseTo(&got)
	}
	if err != nil || !bytes.Equal(got.Bytes(), m.states[want]) {
		m.t.Fatalf("restore to TXID %d: error %v, same %v\n%s", want, err, bytes.Equal(got.Bytes(), m.states[want]), m.dump())
	}
}
