package torture

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/benbjohnson/litestream"
	"github.com/multidb-go/multidb"
)

// outage is one fault and what it does to three databases: "sick" and "near"
// share a client, whose network it is; "well" has its own, and another bucket. With a
// fleet log all three share the client, and what is wrong with the log concerns each.
type outage struct {
	t      *testing.T
	log    bool
	f      s3Fault
	rng    *rand.Rand
	srv    s3Server
	road   *road
	layer  *httpLayer
	bucket string // of sick and near
	access string // likewise

	root    string
	state   string
	factory *forked
	m       *multidb.Manager
	ev      *events
	maxWAL  int64
	unflap  func()

	sick, near, well *patient
	all              []*patient
	healthy          []*patient // those the fault is none of
	began            time.Time

	restored, during, gets int
	took                   time.Duration
	walMost                int64
}

// forked is two replicas: one for "well", one for the others.
type forked struct{ well, rest *multidb.S3Replica }

func (f *forked) of(db multidb.Database) *multidb.S3Replica {
	if db.ID == "well" {
		return f.well
	}
	return f.rest
}

func (f *forked) ReplicaClient(db multidb.Database) (litestream.ReplicaClient, error) {
	return f.of(db).ReplicaClient(db)
}
func (f *forked) Prefix(db multidb.Database) (string, error)      { return f.of(db).Prefix(db) }
func (f *forked) Objects(dir string) (multidb.ObjectStore, error) { return f.rest.Objects(dir) }
func (f *forked) Dir(db multidb.Database) (string, error)         { return f.of(db).Dir(db) }
func (f *forked) DatabaseAt(dir string) (multidb.Database, error) { return f.rest.DatabaseAt(dir) }
func (f *forked) CloseIdleConnections() {
	f.well.CloseIdleConnections()
	f.rest.CloseIdleConnections()
}

func newOutage(t *testing.T, f s3Fault, srv s3Server, seed uint64, log bool) *outage {
	o := &outage{t: t, log: log, f: f, srv: srv, rng: rand.New(rand.NewPCG(seed, 9)), ev: &events{},
		bucket: fmt.Sprintf("sick-%d-log-%t", seed, log), access: fmt.Sprintf("user%dlog%t", seed, log), maxWAL: 1 << 20}
	dir := t.TempDir()
	o.root, o.state = filepath.Join(dir, "data"), filepath.Join(dir, "state")
	if err := os.Mkdir(o.root, 0o755); err != nil {
		t.Fatal(err)
	}
	if f.maxWAL {
		o.maxWAL = 64 << 10
	}
	other := fmt.Sprintf("well-%d-log-%t", seed, log)
	srv.bucket(t, o.bucket)
	srv.bucket(t, other)
	srv.grant(t, o.access)
	srv.grant(t, "clean")
	upstream := srv.addr()
	if f.http != nil { // no detour for the others: what toxiproxy does arrives as it is
		o.layer = newHTTPLayer(t, srv.handler(t), seed)
		upstream = o.layer.srv.Listener.Addr().String()
	}
	o.road = newRoad(t, upstream)
	timeout := 2 * time.Second // so that silence is noticed soon
	if f.slow {
		timeout = 10 * time.Second
	}
	o.factory = &forked{
		well: o.replica(place{url: "http://" + srv.addr(), bucket: other, access: "clean", timeout: 30 * time.Second}),
		rest: o.replica(place{url: o.road.url(), bucket: o.bucket, access: o.access, timeout: timeout}),
	}
	if log {
		o.factory.well.CloseIdleConnections()
		o.factory.well = o.factory.rest
	}
	for i, name := range []multidb.ID{"sick", "near", "well"} {
		b := o.bucket
		if name == "well" && !log {
			b = other
		}
		o.all = append(o.all, &patient{t: t, o: o, id: name, l: ledger{seed*3 + uint64(i)},
			clean: place{url: "http://" + srv.addr(), bucket: b, log: log, access: "clean", timeout: 30 * time.Second}})
	}
	o.sick, o.near, o.well = o.all[0], o.all[1], o.all[2]
	o.healthy = o.all[2:]
	if f.http != nil {
		o.healthy = o.all[1:]
	}
	if log {
		o.healthy = nil
	}
	return o
}

func (o *outage) replica(p place) *multidb.S3Replica {
	f, err := p.open()
	if err != nil {
		o.t.Fatal(err)
	}
	return f.(*multidb.S3Replica)
}

func (o *outage) start() {
	opts := append(place{log: o.log}.logged(fast(o.root, o.factory, o.ev.observe)...), multidb.WithMaxWALSize(o.maxWAL), multidb.WithStateDir(o.state))
	m, err := multidb.New(opts...)
	if err != nil {
		o.t.Fatal(err)
	}
	if err := m.Start(o.t.Context()); err != nil {
		o.t.Fatal(err)
	}
	o.m = m
}

// restart closes the Manager, which cannot ship everything, and starts another.
func (o *outage) restart() {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	if err := o.m.Close(ctx); err == nil {
		o.t.Error("Close says that all is durable")
	} else if !errors.Is(err, multidb.ErrNotDurable) || ctx.Err() != nil {
		o.t.Errorf("close: %v", err)
	}
	o.start()
	o.began = time.Now() // a Manager does not know since when another was behind
}

func (o *outage) run() {
	o.start()
	defer func() { closeManager(o.t, o.m) }()
	for _, p := range o.all {
		p.write(8)
		p.sync()
	}
	o.begin()
	ended := false
	end := func() {
		if !ended {
			ended = true
			o.end()
		}
	}
	defer end() // before Close, which is to work
	for i := range 10 {
		for _, p := range o.all {
			if p != o.near || i < 3 { // goes cold, for which its files are compacted
				p.write(2)
			}
		}
		for _, p := range o.healthy {
			p.sync() // the others flow
		}
		o.bounded()
		if i == 5 && o.f.again {
			o.restart()
		}
		pause(100 * time.Millisecond)
	}
	if o.f.slow {
		o.sick.sync()
	}
	o.tells()
	o.promises()
	if o.f.maxWAL {
		o.relieved()
	}
	o.restoreMeanwhile()
	o.bounded()
	end()
	if o.t.Failed() {
		return
	}
	over := time.Now()
	for _, p := range o.all {
		eventually(o.t, 60*time.Second, func() string {
			st := p.status()
			if st.Lag > 0 || st.Err != nil || st.SyncedAt.Before(p.last) {
				return fmt.Sprintf("%s: %+v, last commit at %v", p.id, st, p.last)
			}
			return ""
		})
	}
	o.took = time.Since(over)
	for _, p := range o.all {
		o.restored += p.check() // what the status says is true: everything is there now
		if n := o.ev.count(multidb.EventFenced, p.id); n > 0 {
			o.t.Errorf("%s was fenced, and nobody else writes", p.id)
		}
	}
	o.gets = int(o.factory.rest.RequestStats().Get)
}

func (o *outage) begin() {
	o.began = time.Now()
	if o.f.http != nil {
		o.layer.fault.Store(&o.f.http)
	} else {
		o.f.on(o)
	}
}

func (o *outage) end() {
	if o.layer != nil {
		o.layer.fault.Store(nil)
	}
	o.road.clear()
	if o.f.off != nil {
		o.f.off(o)
	}
}

// flap takes the network down and up until unflap.
func (o *outage) flap() {
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(150 * time.Millisecond)
		defer tick.Stop()
		for {
			o.road.down()
			select {
			case <-tick.C:
			case <-stop:
				o.road.up()
				return
			}
			o.road.up()
			select {
			case <-tick.C:
			case <-stop:
				return
			}
		}
	}()
	o.unflap = func() { close(stop); <-stopped }
}

// tells: the status of the sick one says within 10 s that it is behind, since
// when, and why if anything is known; Healthy names it, and nobody who is well.
func (o *outage) tells() {
	names := func(worst []multidb.Status, id multidb.ID) bool {
		return slices.ContainsFunc(worst, func(s multidb.Status) bool { return s.ID == id })
	}
	if !o.f.slow && !o.f.leaky {
		eventually(o.t, 10*time.Second, func() string {
			o.sick.write(1)
			st := o.sick.status()
			_, worst := o.m.Healthy(500 * time.Millisecond)
			switch {
			case st.Lag == 0:
				return fmt.Sprintf("the status says that nothing is behind: %v", st.Err)
			case st.Err == nil && !o.f.silent:
				return fmt.Sprintf("the status does not say why it is %v behind", st.Lag)
			case !names(worst, "sick"):
				return "Healthy does not name it"
			case time.Since(o.began)-st.Lag > 10*time.Second:
				return fmt.Sprintf("it has been behind for %v, and the status says %v", time.Since(o.began), st.Lag)
			case st.Lag > time.Since(o.sick.synced):
				o.t.Errorf("all was synced %v ago, and the status says that it has been behind for %v", time.Since(o.sick.synced), st.Lag)
			}
			return ""
		})
	}
	for _, p := range o.healthy {
		p.sync()
	}
	eventually(o.t, 10*time.Second, func() string {
		_, worst := o.m.Healthy(5 * time.Second)
		for _, p := range o.healthy {
			if names(worst, p.id) {
				return fmt.Sprintf("Healthy names %s: %+v", p.id, p.status())
			}
		}
		return ""
	})
}

// promises: at this instant each prefix restores to a commit, none older than
// what Sync promised or the status claims.
func (o *outage) promises() {
	hidden := o.f.name == "the bucket gone"
	for _, p := range o.all {
		if hidden && (o.log || p != o.well) {
			continue // there is nobody to ask
		}
		least, why := p.promised, "Sync promised"
		n := p.n
		if st := p.status(); st.Err == nil && st.Lag == 0 && !st.SyncedAt.Before(p.last) {
			least, why = n, "the status claims"
		}
		got, err := p.restore(0)
		if err != nil {
			o.t.Errorf("%s does not restore: %v", p.id, err)
		} else if got < least {
			o.t.Errorf("%s restores to transaction %d, %s %d", p.id, got, why, least)
		}
		o.restored++
		o.during++
	}
}

// restoreMeanwhile restores through the fault: to the truth, or not at all.
func (o *outage) restoreMeanwhile() {
	limit := 3 * time.Second
	if o.f.slow {
		limit = 60 * time.Second
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	out := filepath.Join(o.t.TempDir(), "restored.db")
	began := time.Now()
	err := o.m.Restore(ctx, "sick", multidb.RestoreOptions{OutputPath: out})
	if d := time.Since(began); d > limit+10*time.Second {
		o.t.Errorf("a restore took %v, it had %v", d, limit)
	}
	switch _, statErr := os.Stat(out); {
	case err != nil && statErr == nil:
		o.t.Errorf("a restore failed, and left a file: %v", err)
	case err != nil && o.f.slow:
		o.t.Errorf("a restore failed: %v", err)
	case errors.Is(err, multidb.ErrNoBackup):
		o.t.Errorf("a restore says that there is no backup: %v", err)
	case err == nil:
		if n, err := o.sick.l.verifyFile(o.t, out); err != nil || n < o.sick.promised {
			o.t.Errorf("a restore made transaction %d, Sync promised %d: %v", n, o.sick.promised, err)
		}
		o.restored++
		o.during++
	}
}

// relieved: the WAL limit is passed, told, and kept.
func (o *outage) relieved() {
	eventually(o.t, 60*time.Second, func() string {
		// One attempt at a store that does not answer takes as long as it takes, and
		// the limit is looked at when it ends.
		if !o.f.silent || o.sick.wal() < 4*o.maxWAL {
			o.sick.write(2)
		}
		o.bounded()
		pause(50 * time.Millisecond)
		if o.ev.count(multidb.EventWALLimit, "sick") == 0 && !o.log { // which has taken all of it
			return "the WAL limit was not told"
		}
		return ""
	})
	eventually(o.t, 60*time.Second, func() string {
		if n := o.sick.wal(); n > o.maxWAL {
			return fmt.Sprintf("the WAL has %d bytes", n)
		}
		return ""
	})
}

// What a WAL may have above its limit: what the application writes while one
// attempt is under way, two large transactions of a ledger included.
const walSlack = 4 << 20

// stateLimit is for the catalog, its WAL, and the hashes of pages.
const stateLimit = 8 << 20

func (o *outage) bounded() {
	for _, p := range o.all {
		n := p.wal()
		o.walMost = max(o.walMost, n)
		if n > o.maxWAL+walSlack && !o.t.Failed() {
			o.t.Errorf("%s: the WAL has %d bytes, the limit is %d", p.id, n, o.maxWAL)
		}
	}
	state := int64(0)
	err := filepath.WalkDir(o.state, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return ignoreGone(err)
		}
		fi, err := d.Info()
		if err == nil {
			state += fi.Size()
		}
		return ignoreGone(err)
	})
	if err != nil {
		o.t.Error(err)
	}
	if state > stateLimit {
		o.t.Errorf("the state directory has %d bytes", state)
	}
}

func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// patient is a database that an application writes meanwhile.
type patient struct {
	t        *testing.T
	o        *outage
	id       multidb.ID
	l        ledger
	clean    place // its replica, on a way without faults
	direct   litestream.ReplicaClient
	n        int
	last     time.Time // of the last commit
	promised int       // transaction, by Sync
	synced   time.Time
}

// write is P5: no error, and nowhere near the busy timeout of 5 s.
func (p *patient) write(n int) {
	p.t.Helper()
	for range n {
		began := time.Now()
		err := p.o.m.Do(context.Background(), p.id, func(db *sql.DB) error {
			c, err := db.Conn(context.Background())
			if err != nil {
				return err
			}
			defer c.Close()
			return p.l.apply(context.Background(), c, p.n+1, true)
		})
		if err != nil {
			p.t.Errorf("%s: a write failed: %v", p.id, err)
			return
		}
		p.n++
		p.last = time.Now()
		if d := p.last.Sub(began); d > 5*time.Second {
			p.t.Errorf("%s: a write took %v", p.id, d)
		}
	}
}

func (p *patient) sync() {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	n, began := p.n, time.Now()
	if _, err := p.o.m.Sync(ctx, p.id); err != nil {
		p.t.Errorf("%s: sync: %v", p.id, err)
		return
	}
	p.promised, p.synced = n, began
}

func (p *patient) status() multidb.Status {
	st, err := p.o.m.Status(p.id)
	if err != nil {
		p.t.Error(err)
	}
	return st
}

func (p *patient) wal() int64 {
	fi, err := os.Stat(filepath.Join(p.o.root, string(p.id)+".db-wal"))
	if err != nil {
		return 0
	}
	return fi.Size()
}

// client is the replica's, on the way without faults.
func (p *patient) client() litestream.ReplicaClient {
	if p.direct == nil || p.o.log { // which is read once for a client
		p.direct = p.clean.client(p.t, string(p.id))
	}
	return p.direct
}

// restore restores a TXID (0: the newest) on a way without faults, and returns
// its transaction.
func (p *patient) restore(txid multidb.TXID) (int, error) {
	dir := p.t.TempDir()
	path, err := restoreFile(p.client(), dir, txid)
	if err != nil {
		return 0, err
	}
	n, err := p.l.verifyFile(p.t, path)
	return n, errors.Join(err, os.RemoveAll(filepath.Dir(path)))
}

// restoresPerCheck bounds how many TXIDs of a prefix are restored.
const restoresPerCheck = 8

// check restores some TXIDs of the prefix, the newest among them: each is a
// commit, none older than the one before, the newest is the last transaction. It
// returns how many were restored.
func (p *patient) check() int {
	files, err := listFiles(p.client())
	if err != nil || len(files) == 0 {
		p.t.Errorf("%s: %d files: %v", p.id, len(files), err)
		return 0
	}
	var ends []multidb.TXID
	for _, f := range files {
		ends = append(ends, f.MaxTXID)
	}
	ends = slices.Compact(ends)
	newest := ends[len(ends)-1]
	p.o.rng.Shuffle(len(ends), func(i, j int) { ends[i], ends[j] = ends[j], ends[i] })
	ends = append(ends[:min(len(ends), restoresPerCheck-1)], newest)
	slices.Sort(ends)
	before, restored := 0, 0
	for _, txid := range slices.Compact(ends) {
		n, err := p.restore(txid)
		if err != nil && p.o.log && txid != newest {
			if now, err := listFiles(p.client()); err == nil && inside(now, txid) {
				continue // unpacked with others meanwhile
			}
		}
		if err != nil || n < before {
			p.t.Errorf("%s: TXID %s restores to transaction %d, one before it to %d: %v; files: %s", p.id, txid, n, before, err, listing(files))
			return restored
		}
		before = n
		restored++
	}
	if before != p.n {
		p.t.Errorf("%s: the newest TXID restores to transaction %d, the source is at %d", p.id, before, p.n)
	}
	return restored
}
