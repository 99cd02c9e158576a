package torture

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/test/torture/clusternode"
)

// machineGrace is how long the machines keep level 0 files; half of it is the
// window in which they take the end of a prefix for known.
const machineGrace = 600 * time.Millisecond

// TestNoProcessLosesWhatAnotherPromised runs two or three processes that share a
// replica, each with a disk of its own. They are stopped and go on, are killed,
// copied, lose their state or everything, and hand over. After every life the
// newest restore has all for which any Sync returned nil, unless an operator chose
// the other history.
func TestNoProcessLosesWhatAnotherPromised(t *testing.T) {
	bin := buildChild(t)
	var mu sync.Mutex
	total := map[string]int{}
	withAndWithoutLog(t, func(t *testing.T, log bool) {
		lives(t, bin, log, total, &mu)
	})
	t.Logf("%v; restored by, so far: %s", total, turnsTaken())
}

func lives(t *testing.T, bin string, log bool, total map[string]int, mu *sync.Mutex) {
	n := 4
	if log {
		n = 2
	}
	eachSeed(t, n, 2, func(t *testing.T, seed uint64) {
		w := newProcesses(t, bin, seed, log)
		for range 60 {
			if w.step(); t.Failed() {
				break
			}
		}
		w.end()
		mu.Lock()
		defer mu.Unlock()
		total["lives"]++
		for k, v := range w.tally {
			total[k] += v
		}
	})
}

type processes struct {
	t        *testing.T
	rng      *rand.Rand
	bin, dir string
	place    place
	restorer map[string]*restorer
	tenants  []string
	machines []*machine

	mu       sync.Mutex // what follows: the readers of the machines' pipes
	before   map[string]string
	promised map[string]map[string]string // tenant, head: by whom
	trace    []string
	tally    map[string]int
	lives    int
	given    map[string]bool // tenant and head: an operator chose a history without it
}

// machine is a disk, and the process on it, if there is one.
type machine struct {
	w       *processes
	i       int
	cfg     machineConfig
	cmd     *exec.Cmd // nil: it is down
	in      io.WriteCloser
	answers chan string   // what came of a command; closed when the process ended
	ended   chan struct{} // its process was waited for
	owes    int           // answers that are outstanding
	stopped bool
	last    string // the last answer
	took    string // the head with which its TakeOver began
	errs    strings.Builder
}

func newProcesses(t *testing.T, bin string, seed uint64, log bool) *processes {
	w := &processes{t: t, rng: rand.New(rand.NewPCG(seed, 11)), bin: bin, dir: t.TempDir(), place: filePlace(t),
		tenants: []string{"one", "two"}, restorer: map[string]*restorer{}, before: map[string]string{},
		given: map[string]bool{}, promised: map[string]map[string]string{}, tally: map[string]int{}}
	if seed%2 == 1 {
		w.place = newFakeS3(t).place
		if g := newGatewayServer(t); g != nil {
			g.bucket(t, bucket)
			g.grant(t, "key")
			w.place = place{url: "http://" + g.addr()}
		}
	}
	w.place.log = log
	for _, name := range w.tenants {
		w.restorer[name] = newRestorer(t, w.place, name)
		w.promised[name] = map[string]string{}
	}
	onOpen := w.rng.IntN(3) > 0
	for i := range 2 + w.rng.IntN(2) {
		dir := filepath.Join(w.dir, fmt.Sprint("m", i))
		m := &machine{w: w, i: i, cfg: machineConfig{Root: filepath.Join(dir, "data"), State: filepath.Join(dir, "state"),
			Dir: w.place.dir, URL: w.place.url, FleetLog: log, OnOpen: onOpen}}
		w.machines = append(w.machines, m)
		t.Cleanup(m.kill)
	}
	return w
}

func (w *processes) log(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.trace = append(w.trace, time.Now().Format("05.000 ")+fmt.Sprintf(format, args...))
}

func (w *processes) fail(format string, args ...any) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.t.Errorf("%s\n%s", fmt.Sprintf(format, args...), strings.Join(w.trace[max(0, len(w.trace)-150):], "\n"))
}

func (w *processes) count(what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tally[what]++
}

// step is the next thing that happens to one of the machines.
func (w *processes) step() {
	m, other := pick(w.rng, w.machines...), pick(w.rng, w.machines...)
	tenant := pick(w.rng, w.tenants...)
	m.collect(0)
	switch k := w.rng.IntN(100); {
	case m.cmd == nil && k < 70:
		m.start()
	case k < 35:
		m.run(fmt.Sprintf("write %s %d", tenant, 1+w.rng.IntN(4)), true)
	case k < 58:
		m.run(fmt.Sprintf("sync %s 0", tenant), w.rng.IntN(3) > 0)
	case k < 68:
		if m.cmd != nil && !m.stopped {
			w.log("m%d is stopped", m.i)
			w.count("sleeps")
			m.signal(syscall.SIGSTOP)
			m.stopped = true
		}
	case k < 76:
		m.wake()
	case k < 80:
		pause(time.Duration(w.rng.Int64N(int64(2 * machineGrace))))
	case k < 84:
		m.kill()
		w.check()
	case k < 86:
		m.closeDown()
		w.check()
	case k < 89:
		m.cloneTo(other)
	case k < 91:
		m.kill()
		w.count("states lost")
		w.log("m%d loses its state", m.i)
		m.must(os.RemoveAll(m.cfg.State))
	case k < 92 && m.cfg.OnOpen:
		m.kill()
		w.count("all lost")
		w.log("m%d loses everything", m.i)
		m.must(os.RemoveAll(filepath.Dir(m.cfg.Root)))
	case k < 95:
		if m.run(fmt.Sprintf("handover %s 0", tenant), true) && m.last == "<nil>" {
			w.count("hand-overs")
		}
	case k < 99:
		if m.run(fmt.Sprintf("adopt %s 0", tenant), true) && m.last == "<nil>" {
			w.count("adoptions")
		}
	default:
		w.takeOver(m, tenant)
	}
}

// start starts the process of a machine, and waits until it serves.
func (m *machine) start() {
	w := m.w
	m.must(m.cfg.makeDirs())
	w.lives++
	m.cfg.Life = fmt.Sprintf("m%d-%d", m.i, w.lives)
	job, err := json.Marshal(m.cfg)
	m.must(err)
	cmd := exec.Command(w.bin)
	cmd.Env = append(os.Environ(), machineEnv+"="+string(job), "MULTIDB_GRACE="+machineGrace.String())
	m.errs.Reset()
	cmd.Stderr = &m.errs
	m.in, err = cmd.StdinPipe()
	m.must(err)
	out, w2, err := os.Pipe()
	m.must(err)
	cmd.Stdout = w2
	m.must(cmd.Start())
	_ = w2.Close()
	m.cmd, m.answers, m.ended, m.stopped, m.owes = cmd, make(chan string, 1000), make(chan struct{}), false, 1
	answers, ended := m.answers, m.ended
	go func() {
		defer close(ended)
		defer close(answers)
		for in := bufio.NewScanner(out); in.Scan(); {
			m.heard(in.Text(), answers)
		}
		_ = out.Close()
		_ = cmd.Wait() // how it ended is known by who ended it
	}()
	w.log("m%d starts as %s", m.i, m.cfg.Life)
	w.count("starts")
	if !m.collect(20*time.Second) && !w.t.Failed() {
		w.fail("m%d does not start: %s", m.i, m.errs.String())
	}
}

// heard takes in a line of a machine.
func (m *machine) heard(line string, answers chan<- string) {
	w := m.w
	f := strings.Fields(line)
	w.log("m%d: %s", m.i, line)
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case f[0] == "B" && len(f) == 4:
		w.before[f[3]] = f[2]
	case f[0] == "C" && len(f) == 3:
		w.tally["commits"]++
	case f[0] == "S" && len(f) == 3:
		w.tally["promises"]++
		w.promised[f[1]][f[2]] = m.cfg.Life
	case f[0] == "T" && len(f) == 3:
		m.took = f[2]
	case f[0] == "D":
		if strings.Contains(line, multidb.ErrFenced.Error()) {
			w.tally["refused"]++
		}
		answers <- strings.TrimPrefix(line, "D ")
	}
}

// collect takes in the answers that are there, and waits for those that are not.
// It reports whether none is outstanding.
func (m *machine) collect(limit time.Duration) bool {
	if m.cmd == nil {
		return true
	}
	timeout := time.After(limit)
	for m.owes > 0 {
		select {
		case a, ok := <-m.answers:
			if !ok {
				m.w.fail("m%d ended by itself: %s", m.i, m.errs.String())
				return false
			}
			m.owes--
			m.last = a
		case <-timeout:
			return false
		}
	}
	return true
}

// run gives a machine a command, if it is up and idle. It reports whether it is done.
func (m *machine) run(command string, wait bool) bool {
	if m.cmd == nil || m.stopped || !m.collect(0) {
		return false
	}
	m.w.log("m%d is to %s", m.i, command)
	m.owes++
	if _, err := io.WriteString(m.in, command+"\n"); err != nil {
		m.w.fail("m%d: %v: %s", m.i, err, m.errs.String())
		return false
	}
	if !wait {
		return false
	}
	if !m.collect(20 * time.Second) {
		if !m.w.t.Failed() {
			m.w.fail("m%d does not answer to %s", m.i, command)
		}
		return false
	}
	if strings.HasPrefix(command, "write") && strings.Contains(m.last, multidb.ErrFenced.Error()) {
		m.w.fail("m%d: a write is refused: %s", m.i, m.last)
	}
	return true
}

func (m *machine) signal(s syscall.Signal) { _ = m.cmd.Process.Signal(s) }

func (m *machine) wake() {
	if m.cmd != nil && m.stopped {
		m.w.log("m%d goes on", m.i)
		m.signal(syscall.SIGCONT)
		m.stopped = false
	}
}

// kill ends the process, if there is one, and takes in all that it said.
func (m *machine) kill() {
	if m.cmd == nil {
		return
	}
	m.w.log("m%d is killed", m.i)
	m.w.count("kills")
	m.signal(syscall.SIGKILL)
	m.gone()
}

func (m *machine) gone() {
	<-m.ended
	_ = m.in.Close()
	m.cmd, m.stopped, m.owes = nil, false, 0
}

func (m *machine) closeDown() {
	if m.run("close x 0", true) {
		m.w.count("closes")
		m.gone()
	}
}

// cloneTo makes the disk of another machine a copy of this one's, which nobody
// writes meanwhile: its process is stopped.
func (m *machine) cloneTo(to *machine) {
	w := m.w
	if to == m {
		return
	}
	to.kill()
	if m.cmd != nil && !m.stopped {
		m.signal(syscall.SIGSTOP)
		defer m.signal(syscall.SIGCONT)
	}
	if _, err := os.Stat(m.cfg.State); err != nil {
		return
	}
	w.log("m%d is copied to m%d", m.i, to.i)
	w.count("clones")
	from, dir := filepath.Dir(m.cfg.Root), filepath.Dir(to.cfg.Root)
	m.must(os.RemoveAll(dir))
	if out, err := exec.Command("cp", "-a", from, dir).CombinedOutput(); err != nil {
		w.t.Fatalf("copy: %v: %s", err, out)
	}
}

// takeOver is an operator's choice, made while nobody else has anything under way:
// what its history lacks was given up.
func (w *processes) takeOver(m *machine, tenant string) {
	for _, o := range w.machines {
		if o != m && o.cmd != nil {
			o.wake()
			if !o.collect(20 * time.Second) {
				return
			}
		}
	}
	w.mu.Lock()
	m.took = ""
	w.mu.Unlock()
	if !m.run(fmt.Sprintf("takeover %s 0", tenant), true) {
		return
	}
	w.mu.Lock()
	if m.took != "" {
		w.tally["take-overs"]++
		// Also what others will say again of commits that were durable until now.
		for head := range w.before {
			if !w.hasLocked(m.took, head) {
				w.given[tenant+head] = true
			}
		}
	}
	w.mu.Unlock()
	if m.last != "<nil>" {
		m.kill() // or it might be carried out later
	}
}

// hasLocked reports whether the history that ends with a head has another in it.
func (w *processes) hasLocked(head, want string) bool {
	for ; head != want; head = w.before[head] {
		if head == clusternode.NoHead || head == "" {
			return false
		}
	}
	return true
}

// check restores the newest state of each tenant while nobody writes.
func (w *processes) check() {
	for _, name := range w.tenants {
		w.mu.Lock()
		owed := map[string]string{}
		for head, by := range w.promised[name] {
			if !w.given[name+head] {
				owed[head] = by
			}
		}
		w.mu.Unlock()
		// Compactions go on beside it: what a restore has listed may be gone.
		var path string
		var err error
		for range 5 {
			files, lerr := w.restorer[name].files()
			if err = lerr; err == nil && len(files) == 0 {
				if len(owed) > 0 {
					w.fail("%s: nothing is at the replica, %d heads were promised", name, len(owed))
				}
				break
			} else if err == nil {
				path, err = w.restorer[name].restore(w.dir, 0)
			}
			if err == nil {
				break
			}
		}
		if err != nil {
			w.fail("%s: %v", name, err)
		}
		if path == "" {
			continue
		}
		w.count("restores")
		db := openDB(w.t, path, "immutable=1")
		n, head, err := clusternode.Read(context.Background(), db)
		err = errors.Join(err, integrity(db), db.Close(), os.RemoveAll(filepath.Dir(path)))
		if err != nil {
			w.fail("%s restores to no state: %v", name, err)
			return
		}
		w.mu.Lock()
		_, known := w.before[head]
		lost := ""
		for want, by := range owed {
			if !w.hasLocked(head, want) {
				lost = fmt.Sprintf("%s, promised by %s", want, by)
			}
		}
		w.mu.Unlock()
		if !known && n > 0 {
			w.fail("%s restores to %s (%d commits), which nobody committed", name, head, n)
		}
		if lost != "" {
			w.fail("%s restores to %s (%d commits), which lacks %s", name, head, n, lost)
		}
	}
}

// end wakes everybody, lets them finish and looks at what is left.
func (w *processes) end() {
	for _, m := range w.machines {
		m.wake()
		if m.cmd != nil && !m.collect(20*time.Second) && !w.t.Failed() {
			w.fail("m%d does not answer", m.i)
		}
		m.closeDown()
		m.kill()
	}
	w.check()
}

func (m *machine) must(err error) {
	m.w.t.Helper()
	if err != nil {
		m.w.t.Fatalf("m%d: %v", m.i, err)
	}
}
