package torture

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/superfly/ltx"
)

// killPoints are the places at which the child kills itself.
var killPoints = []string{
	"ship.put.before", "ship.put.after", "seal.checkpoint.before", "seal.checkpoint.after",
	"seal.truncate.before", "seal.truncate.after", "snapshot.put.before", "snapshot.put.after",
	"resync.dump.after", "compact.put.before", "compact.put.after", "retain.delete.before",
	"retain.delete.after", "catalog.commit.before", "catalog.commit.after",
	"restore.link.before", "restore.link.after",
	"file.publish.before", "file.link.after", "file.delete.after",
	"relieve.truncate.before", "relieve.truncate.after",
	"evict.delete.before", "evict.delete-wal.after", "evict.delete.after", "catalog.notes.before", "catalog.notes.after",
	"life.remove.noted", "life.remove.vacated", "life.remove.entombed", "life.undelete.unmarked",
	"life.fork.begun", "life.fork.copied", "life.fork.served", "life.erase.marked", "life.erase.erased",
}

// logPoints are those of a fleet log.
var logPoints = []string{
	"fleetlog.put.before", "fleetlog.put.after", "fleetlog.seal.before", "fleetlog.seal.after",
	"fleetlog.map.before", "fleetlog.map.after", "fleetlog.large.before", "fleetlog.large.after",
	"fleetlog.unpack.before", "fleetlog.unpack.after", "fleetlog.finish.before", "fleetlog.finish.after",
	"fleetlog.delete.before", "fleetlog.delete.after",
}

// TestNothingSyncedIsLostByKill9 kills a process with a Manager and several
// writing applications, at random moments and at named places, and checks after
// each kill what the replica and the machine have. P1 to P3, and P5. Lines that
// keep them, each seen red when removed: Ship.Verify in activate (replicate/maintain.go),
// without which a kill between a file's write and its note in the catalog ends
// all replication (P3), and Seen in Listed (internal/fleet/found.go), without which nobody
// looks at what was written while the process was down (P3).
func TestNothingSyncedIsLostByKill9(t *testing.T) {
	t.Parallel() // all that it looks at is its children's
	bin := buildChild(t)
	perArena := 75 // 300 kills
	if testing.Short() {
		perArena = 10
	}
	sum := &tally{at: map[string]int{}}
	withAndWithoutLog(t, func(t *testing.T, log bool) { kills(t, bin, log, perArena, sum) })
	t.Logf("%s", sum)
}

func kills(t *testing.T, bin string, log bool, perArena int, sum *tally) {
	if log && longForm(t) == 0 {
		perArena /= 2
	}
	eachSeed(t, 4, 4, func(t *testing.T, seed uint64) {
		a := newArena(t, bin, seed, log)
		for i := 0; i < perArena && !t.Failed(); i++ {
			a.cycle()
		}
		if !t.Failed() {
			a.checkHistories()
		}
		if t.Failed() {
			t.Logf("the child's last words:\n%s", a.tail())
		}
		sum.add(a.sum)
	})
}

// tally is what was done, for docs/RELIABILITY.md.
type tally struct {
	mu                                            sync.Mutex // for add
	kills, startup, restores, outages, recoveries int
	slowest                                       time.Duration // to recover
	commits, syncs                                int
	at                                            map[string]int // kills by place, and (what happened between)
}

func (s *tally) add(o *tally) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kills, s.startup, s.restores = s.kills+o.kills, s.startup+o.startup, s.restores+o.restores
	s.outages, s.recoveries = s.outages+o.outages, s.recoveries+o.recoveries
	s.commits, s.syncs, s.slowest = s.commits+o.commits, s.syncs+o.syncs, max(s.slowest, o.slowest)
	for k, v := range o.at {
		s.at[k] += v
	}
}

func (s *tally) String() string {
	return fmt.Sprintf("%d kills (%d before serving, %d in an outage), %d commits and %d syncs acknowledged, %d restores compared, %d recoveries without help, the slowest %v; by place and what came between: %v",
		s.kills, s.startup, s.outages, s.commits, s.syncs, s.restores, s.recoveries, s.slowest.Round(time.Millisecond), s.at)
}

// buildChild builds this package with failpoints.
func buildChild(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "child")
	out, err := exec.Command("go", "test", "-c", "-tags", "failpoint", "-o", bin, ".").CombinedOutput()
	if err != nil {
		t.Fatalf("build with failpoints: %v\n%s", err, out)
	}
	return bin
}

// arena is a machine on which processes die.
type arena struct {
	t     *testing.T
	rng   *rand.Rand
	bin   string
	dir   string
	cfg   childConfig
	place place
	s3    *fakeS3 // nil: a file replica
	sum   *tally

	offset    int64 // in the log
	committed map[string]int
	synced    map[string]int
	floors    map[string]map[ltx.TXID]int
	cycles    int
}

func newArena(t *testing.T, bin string, seed uint64, log bool) *arena {
	a := &arena{t: t, rng: rand.New(rand.NewPCG(seed, 2)), bin: bin, dir: t.TempDir(), sum: &tally{at: map[string]int{}},
		committed: map[string]int{}, synced: map[string]int{}, floors: map[string]map[ltx.TXID]int{}}
	a.place = filePlace(t)
	if seed%2 == 1 {
		a.s3 = newFakeS3(t)
		a.place = a.s3.place
	}
	a.place.log = log
	a.cfg = childConfig{
		Root: filepath.Join(a.dir, "data"), Dir: a.place.dir, URL: a.place.url, FleetLog: log,
		Log: filepath.Join(a.dir, "log"), Restored: filepath.Join(a.dir, "restored"),
		Ledgers: map[string]uint64{}, MaxWAL: 256 << 10, Retain: 3 * time.Second,
	}
	for i := range 3 {
		name := fmt.Sprintf("db%d", i)
		a.cfg.Ledgers[name] = seed*10 + uint64(i)
		a.floors[name] = map[ltx.TXID]int{}
	}
	for _, dir := range []string{a.cfg.Root, a.cfg.Restored} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return a
}

func (a *arena) path(name string) string { return filepath.Join(a.cfg.Root, name+".db") }

func (a *arena) names() []string { return slices.Sorted(maps.Keys(a.cfg.Ledgers)) }

// cycle starts the child, kills it, and checks what is left.
func (a *arena) cycle() {
	a.meanwhile()
	local := a.checkLocal()
	a.cycles++
	a.cfg.Seed = a.rng.Uint64() >> 1
	outage := a.s3 != nil && a.rng.IntN(6) == 0
	point := ""
	if a.rng.IntN(2) == 0 {
		name := pick(a.rng, killPoints...)
		if a.place.log && a.rng.IntN(2) == 0 {
			name = pick(a.rng, logPoints...)
		}
		point = fmt.Sprintf("%s@%d", name, 1+a.rng.IntN(1+a.rng.IntN(12)))
		if strings.HasPrefix(name, "fleetlog.seal") || strings.HasPrefix(name, "fleetlog.map") || strings.HasPrefix(name, "fleetlog.finish") {
			point = name + "@1" // they come at a start
		}
		outage = outage || strings.HasPrefix(point, "relieve") && a.s3 != nil
	}
	if a.s3 != nil {
		a.slowS3(false)
	}
	p := a.spawn(point)
	defer p.end()
	if point == "" && a.rng.IntN(4) == 0 {
		p.kill(time.Duration(a.rng.IntN(120)) * time.Millisecond)
		a.sum.startup++
	} else {
		if point == "" && a.rng.IntN(3) > 0 {
			a.recovers(p, local)
		}
		if outage {
			a.slowS3(true)
			a.sum.outages++
		}
		p.say("go")
		limit := time.Duration(20+a.rng.IntN(350)) * time.Millisecond
		if point != "" {
			limit += 1000 * time.Millisecond
		}
		if p.kill(limit) {
			name, _, _ := strings.Cut(point, "@")
			a.sum.at[name]++
		}
	}
	a.sum.kills++
	if a.t.Failed() {
		return
	}
	if a.s3 != nil {
		a.slowS3(false)
	}
	a.readLog()
	local = a.checkLocal()
	for _, name := range a.names() {
		a.checkNewest(name, local[name])
	}
	a.checkRestored()
	if a.cycles%6 == 0 {
		a.checkHistory(pick(a.rng, a.names()...))
	}
	if a.t.Failed() {
		a.t.Logf("in cycle %d, killed at %q", a.cycles, point)
	}
}

// meanwhile is what may happen while no Manager runs: the state directory is lost
// or an old copy of it put back, and somebody else writes a database.
func (a *arena) meanwhile() {
	state, old := filepath.Join(a.cfg.Root, ".multidb"), filepath.Join(a.dir, "old-state")
	switch a.rng.IntN(8) {
	case 0:
		if err := os.RemoveAll(state); err != nil {
			a.t.Fatal(err)
		}
		a.sum.at["(state lost)"]++
	case 1:
		if _, err := os.Stat(old); err == nil {
			if err := errors.Join(os.RemoveAll(state), os.CopyFS(state, os.DirFS(old))); err != nil {
				a.t.Fatal(err)
			}
			a.sum.at["(old state)"]++
		}
	case 2:
		if _, err := os.Stat(state); err == nil {
			if err := errors.Join(os.RemoveAll(old), os.CopyFS(old, os.DirFS(state))); err != nil {
				a.t.Fatal(err)
			}
		}
	case 3:
		name := pick(a.rng, a.names()...)
		if _, err := os.Stat(a.path(name)); err != nil {
			return // it is not here
		}
		db := foreignDB(a.t, a.path(name))
		defer db.Close()
		l := ledger{a.cfg.Ledgers[name]}
		n, err := l.last(context.Background(), db)
		if err == nil && n > 0 {
			for range 1 + a.rng.IntN(5) {
				n++
				if err = l.apply(context.Background(), db, n, true); err != nil {
					break
				}
				a.committed[name] = n
			}
			a.sum.at["(written while down)"]++
		}
		if err != nil {
			a.t.Errorf("a writer while the Manager is down: %v", err)
		}
	}
}

// slowS3 delays writes by a random time, so that some arrive after their writer
// is dead; down makes every request fail.
func (a *arena) slowS3(down bool) {
	var mu sync.Mutex
	rng := rand.New(rand.NewPCG(a.rng.Uint64(), 3))
	f := faultFunc(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if down {
			http.Error(w, "down", http.StatusServiceUnavailable)
			return
		}
		mu.Lock()
		d := time.Duration(rng.IntN(1+rng.IntN(60))) * time.Millisecond
		mu.Unlock()
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // the writer died before it had sent everything
		}
		r.Body = io.NopCloser(strings.NewReader(string(body)))
		if r.Method == http.MethodPut {
			pause(d)
			r = r.WithContext(context.WithoutCancel(r.Context()))
		}
		next.ServeHTTP(w, r)
	})
	a.s3.fault.Store(&f)
}

// checkLocal is P5: the application's own database is whole and has everything
// that was acknowledged to it. It returns how far each is.
func (a *arena) checkLocal() map[string]int {
	local := map[string]int{}
	for _, name := range a.names() {
		if _, err := os.Stat(a.path(name)); errors.Is(err, os.ErrNotExist) {
			local[name] = evicted
			continue
		}
		n, err := ledger{a.cfg.Ledgers[name]}.verifyCopy(a.t, a.path(name))
		if err != nil {
			a.t.Errorf("%s after the kill: %v", name, err)
		}
		if n < a.committed[name] {
			a.t.Errorf("%s: the application's own database ends at %d, %d were acknowledged", name, n, a.committed[name])
		}
		local[name] = n
	}
	return local
}

// evicted is how far a database is that has no local file: the replica has all of it.
const evicted = -1

// newest restores the newest state; 0 if the prefix is empty.
func (a *arena) newest(name string) (int, error) {
	client := a.place.client(a.t, name)
	files, err := listFiles(client)
	if err != nil || len(files) == 0 {
		return 0, err
	}
	return a.restored(name, 0)
}

func (a *arena) restored(name string, txid ltx.TXID) (int, error) {
	path, err := restoreFile(a.place.client(a.t, name), a.dir, txid)
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(filepath.Dir(path))
	a.sum.restores++
	n, err := ledger{a.cfg.Ledgers[name]}.verifyFile(a.t, path)
	if err != nil {
		err = fmt.Errorf("TXID %s is no state of the source: %w", txid, err)
	}
	return n, err
}

// checkNewest is P1 and P2 right after a kill.
func (a *arena) checkNewest(name string, local int) {
	n, err := a.newest(name)
	switch {
	case err != nil:
		a.t.Errorf("%s: %v", name, err)
	case n < a.synced[name]:
		a.t.Errorf("%s: the replica ends at %d, Sync had returned for %d", name, n, a.synced[name])
	case local == evicted && n < a.committed[name]:
		a.t.Errorf("%s: it has no local file, and the replica ends at %d of %d that were acknowledged", name, n, a.committed[name])
	case local != evicted && n > local:
		a.t.Errorf("%s: the replica has %d, the source only %d", name, n, local)
	}
}

// recovers is P3: without help, what was committed before the crash arrives.
func (a *arena) recovers(p *process, local map[string]int) {
	began := time.Now()
	left := a.names()
	ok := eventually(a.t, 30*time.Second, func() string {
		if p.dead() {
			return ""
		}
		for len(left) > 0 {
			name := left[0]
			n, err := a.newest(name)
			if err != nil {
				return fmt.Sprintf("%s: %v", name, err) // retention may delete under a restore
			}
			if want := local[name]; want != evicted && n != want || want == evicted && n < a.committed[name] {
				return fmt.Sprintf("%s: the replica is at %d, the source at %d", name, n, local[name])
			}
			left = left[1:]
		}
		return ""
	})
	if ok && !p.dead() {
		a.sum.recoveries++
		a.sum.slowest = max(a.sum.slowest, time.Since(began))
	}
}

// checkRestored looks at what Manager.Restore published: whole, or not there.
func (a *arena) checkRestored() {
	files, err := filepath.Glob(filepath.Join(a.cfg.Restored, "*.db"))
	if err != nil {
		a.t.Fatal(err)
	}
	for _, path := range files {
		name, _, _ := strings.Cut(filepath.Base(path), "-")
		if _, err := (ledger{a.cfg.Ledgers[name]}).verifyFile(a.t, path); err != nil {
			a.t.Errorf("published by Restore: %s: %v", path, err)
		}
		a.sum.restores++
		if err := os.Remove(path); err != nil {
			a.t.Error(err)
		}
	}
}

// checkHistory restores every TXID of a database: P2 for each of them.
func (a *arena) checkHistory(name string) {
	began := time.Now()
	files, err := listFiles(a.place.client(a.t, name))
	if err != nil {
		a.t.Error(err)
		return
	}
	before := 0
	for i, f := range files {
		if i+1 < len(files) && files[i+1].MaxTXID == f.MaxTXID {
			continue
		}
		n, err := a.restored(name, f.MaxTXID)
		if err != nil {
			if i+1 < len(files) && (began.Sub(f.CreatedAt) > a.cfg.Retain || inside(files, f.MaxTXID)) {
				continue // older than what is kept, or inside what was compacted
			}
			a.t.Errorf("%s: %v; files: %s", name, err, listing(files))
			return
		}
		if n < before {
			a.t.Errorf("%s: TXID %s is at %d, one before it at %d", name, f.MaxTXID, n, before)
		}
		before = n
		for txid, floor := range a.floors[name] {
			if txid <= f.MaxTXID && n < floor {
				a.t.Errorf("%s: TXID %s is at %d, Sync had returned %s for %d", name, f.MaxTXID, n, txid, floor)
			}
		}
	}
}

// inside reports whether a compacted file covers a TXID and goes on after it: once
// the single files before it are deleted, it cannot be restored any more.
func inside(files []*ltx.FileInfo, txid ltx.TXID) bool {
	return slices.ContainsFunc(files, func(f *ltx.FileInfo) bool { return f.MinTXID <= txid && f.MaxTXID > txid })
}

func (a *arena) checkHistories() {
	for _, name := range a.names() {
		a.checkHistory(name)
	}
}

// readLog takes in what the child said before it died.
func (a *arena) readLog() {
	f, err := os.Open(a.cfg.Log)
	if err != nil {
		return // killed before it had said anything
	}
	defer f.Close()
	if _, err := f.Seek(a.offset, io.SeekStart); err != nil {
		a.t.Fatal(err)
	}
	r := bufio.NewReader(f)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		a.offset += int64(len(line))
		var name string
		var n int
		var txid ltx.TXID
		if _, err := fmt.Sscanf(line, "C %s %d", &name, &n); err == nil {
			a.committed[name] = max(a.committed[name], n)
			a.sum.commits++
		} else if _, err := fmt.Sscanf(line, "S %s %d %d", &name, &n, (*uint64)(&txid)); err == nil {
			a.synced[name] = max(a.synced[name], n)
			a.floors[name][txid] = max(a.floors[name][txid], n)
			a.sum.syncs++
		} else if verb, ok := strings.CutSuffix(line, ": <nil>\n"); ok && strings.HasPrefix(verb, "# ") {
			verb, _, _ = strings.Cut(verb[2:], " ")
			a.sum.at["("+verb+")"]++
		} else if strings.HasPrefix(line, "F ") {
			a.t.Errorf("a fork is not what it was made of: %s", line)
		}
	}
}

func (a *arena) tail() string {
	b, err := os.ReadFile(a.cfg.Log)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(string(b), "\n")
	return strings.Join(lines[max(0, len(lines)-60):], "\n")
}

// process is one life of the child.
type process struct {
	t    *testing.T
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  strings.Builder // after done
	done chan struct{}
}

func (a *arena) spawn(point string) *process {
	job, err := json.Marshal(a.cfg)
	if err != nil {
		a.t.Fatal(err)
	}
	// The grace is that of level 0 files, so that they are deleted within a run.
	return newProcess(a.t, a.bin, []string{childEnv + "=" + string(job), "MULTIDB_FAILPOINT=" + point, "MULTIDB_GRACE=1s"}, nil)
}

// newProcess starts a program. out gets what it prints; nil: nobody does.
func newProcess(t *testing.T, bin string, env []string, out *os.File, args ...string) *process {
	p := &process{t: t, cmd: exec.Command(bin, args...), done: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stderr = &p.out
	if out != nil {
		p.cmd.Stdout = out
	}
	var err error
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.done)
		_ = p.cmd.Wait() // the state says how it ended
	}()
	return p
}

func (p *process) say(line string) { _, _ = io.WriteString(p.in, line+"\n") }

func (p *process) dead() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// kill kills the child after a while, unless it has killed itself before, which
// it reports. That it ends in any other way is a failure.
func (p *process) kill(after time.Duration) (byItself bool) {
	select {
	case <-p.done:
		byItself = true
	case <-time.After(after):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
	ws, _ := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	if !ws.Signaled() || ws.Signal() != syscall.SIGKILL {
		p.t.Errorf("the child ended with %v: %s", p.cmd.ProcessState, p.out.String())
	}
	return byItself
}

// end makes sure that nothing is left, also when the test gave up.
func (p *process) end() {
	_ = p.in.Close()
	if !p.dead() {
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}
