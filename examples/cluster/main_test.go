package main

import (
	"context"
	"database/sql"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/examples/cluster/internal/node"
	"github.com/multidb-go/multidb/examples/internal/bucket"
	"github.com/multidb-go/multidb/examples/internal/process"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	// What a test starts in this process starts this binary again as its nodes. Without the second condition these
	// would run the tests, start nodes, and so on.
	if process.Wanted() || len(os.Args) > 1 && os.Args[1] == node.Command {
		main()
		return
	}
	goleak.VerifyTestMain(m)
}

// pids are the processes of the nodes as they were started first, as the output names them.
func pids(t *testing.T, p *process.Process) (all []int) {
	t.Helper()
	for _, m := range regexp.MustCompile(`(?m)^  n\d+  process (\d+),`).FindAllStringSubmatch(p.Stdout.String(), -1) {
		pid, err := strconv.Atoi(m[1])
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, pid)
	}
	return all
}

// gone fails for nodes that an example has left running, and for files.
func gone(t *testing.T, p *process.Process) {
	t.Helper()
	for _, pid := range pids(t, p) {
		if err := syscall.Kill(pid, 0); err == nil {
			t.Errorf("process %d is still there", pid)
		}
	}
	if left := p.Left(); len(left) > 0 {
		t.Errorf("it left %v", left)
	}
}

func TestNoNoteIsLostWhileOneNodeIsKilledAndAnotherIsDrained(t *testing.T) {
	t.Parallel()
	p := process.Start(t, nil, "-tenants", "12", "-duration", "6s")
	p.Stdout.Await(t, "tenants write and read")
	for _, pid := range pids(t, p) { // as a terminal does for all processes; it is for the parent to decide
		if err := syscall.Kill(pid, syscall.SIGINT); err != nil {
			t.Error(err)
		}
	}
	if code := p.Wait(); code != 0 {
		t.Fatalf("exit code %d\n%s%s", code, &p.Stdout, &p.Stderr)
	}
	out := p.Stdout.String()
	for _, want := range []string{
		`a server inside this program`, `(?m)^3 nodes serve after .*, with a heartbeat of 600ms`,
		`\* kill -9 of n2, which serves \d+ tenant`, `\* all tenants are served again`, `\* n2 has its share again`,
		`\* SIGTERM to n3, which serves \d+ tenant`, `\* n3 has given everything away`, `\* n3 has its share again`,
		`(?m)^  n1 +[1-9][0-9,]* .*%`, `(?m)^  n2 is killed +[0-9.]+m?s +t0`, `planned moves: [0-9.]+m?s at most; the crash: [0-9.]+m?s at most`,
		`[1-9][0-9,]* answered with 200: [1-9]`, `through the service: +all [1-9][0-9,]* notes, of 12 tenants`,
		`restored from the bucket: +all [1-9][0-9,]* notes, of 12 tenants`,
	} {
		if !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("the output lacks %q:\n%s", want, out)
		}
	}
	gone(t, p)
}

// TestTheNodesEndWhenTheirParentIsKilled: nobody can tell them then.
func TestTheNodesEndWhenTheirParentIsKilled(t *testing.T) {
	t.Parallel()
	p := process.Start(t, nil, "-tenants", "1", "-duration", "6s")
	p.Stdout.Await(t, "tenants write and read")
	p.Signal(os.Kill)
	p.Wait()
	urls := regexp.MustCompile(`(?m)^  n\d+  process \d+, http://(.+)$`).FindAllStringSubmatch(p.Stdout.String(), -1)
	if len(urls) != 3 {
		t.Fatalf("%d nodes are named:\n%s", len(urls), &p.Stdout)
	}
	for _, m := range urls {
		for began := time.Now(); ; <-time.After(poll) {
			conn, err := net.Dial("tcp", m[1])
			if err != nil {
				break
			}
			_ = conn.Close()
			if time.Since(began) > 2*node.StopLimit {
				t.Fatalf("%s still takes connections", m[1])
			}
		}
	}
}

func TestAnInterruptInTheMiddleEndsTheNodesAndCleansUp(t *testing.T) {
	t.Parallel()
	for _, moment := range []string{"S3: ", "nodes serve after", "kill -9 of n2"} {
		p := process.Start(t, nil, "-tenants", "5", "-duration", "6s")
		p.Stdout.Await(t, moment)
		p.Signal(os.Interrupt)
		if code := p.Wait(); code != 130 {
			t.Errorf("after %q: exit code %d, want 130\n%s", moment, code, &p.Stderr)
		}
		gone(t, p)
	}
}

func TestDirKeepsTheFilesOfTheNodesAndIsUsedOnce(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "kept here")
	p := process.Start(t, nil, "-nodes", "2", "-tenants", "3", "-duration", "6s", "-dir", dir)
	p.Stdout.Await(t, "tenants write and read")
	p.Signal(os.Interrupt)
	if code := p.Wait(); code != 130 {
		t.Errorf("exit code %d\n%s", code, &p.Stderr)
	}
	for _, name := range []string{"n1.log", "n2.log", "n1/data", "n2/state"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
	p = process.Start(t, nil, "-nodes", "2", "-dir", dir)
	if code, text := p.Wait(), p.Stderr.String(); code != 1 || strings.Count(text, "\n") != 1 || !strings.Contains(text, "-dir") {
		t.Errorf("a second time: exit code %d, stderr %q", code, text)
	}
}

func TestABadEnvironmentGivesOneLine(t *testing.T) {
	t.Parallel()
	p := process.Start(t, []string{"LITESTREAM_S3_BUCKET=b", "LITESTREAM_S3_ENDPOINT=http://127.0.0.1:1",
		"AWS_ACCESS_KEY_ID=key", "AWS_SECRET_ACCESS_KEY=secret"})
	code, text := p.Wait(), p.Stderr.String()
	if code != 1 || strings.Count(text, "\n") != 1 || !strings.Contains(text, "127.0.0.1:1") || len(p.Left()) > 0 {
		t.Errorf("exit code %d, stderr %q, left %v", code, text, p.Left())
	}
}

func TestAWrongCommandLineIsRefused(t *testing.T) {
	ended, cancel := context.WithCancel(t.Context()) // what is not refused ends at once
	cancel()
	for _, args := range [][]string{{"-nodes", "1"}, {"-nodes", "99"}, {"-tenants", "0"}, {"-duration", "1s"}, {"-nosuch"}, {"extra"}} {
		var stdout, stderr strings.Builder
		if code := run(ended, args, &stdout, &stderr); code != 2 || stderr.Len() == 0 {
			t.Errorf("%v: exit code %d, stderr %q", args, code, &stderr)
		}
	}
}

func TestAGapBelongsToThePeriodThatHasMostOfIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tally := newTally(3)
		second := func(n int) { <-time.After(time.Duration(n) * time.Second) }
		of := func(what string) summary { return tally.sum(func(p *period) bool { return p.what == what }) }
		tally.begin(period{what: "calm"}, time.Now())
		second(1)
		for i := range 3 {
			tally.answered(i, "a", false, time.Now())
		}
		second(2)
		tally.begin(period{what: "crash", crash: true}, time.Now())
		tally.failure("503", "try again")
		second(5)
		tally.answered(0, "b", false, time.Now()) // 2 s of calm, 5 of the crash
		tally.begin(period{what: "move", planned: true}, time.Now())
		second(1)
		tally.answered(1, "b", true, time.Now()) // another one of the move
		second(9)
		tally.answered(1, "b", true, time.Now())
		tally.end(time.Now()) // tenant 0 waits since 10 s, tenant 2 since 17, 10 of them in the move

		if got, want := of("calm"), (summary{longest: time.Second, median: time.Second}); got != want {
			t.Errorf("calm: %+v, want %+v", got, want)
		}
		if got, want := of("crash"), (summary{longest: 8 * time.Second, tenant: 1, median: 7 * time.Second, failed: 1}); got != want {
			t.Errorf("the crash: %+v, want %+v", got, want)
		}
		if got, want := of("move"), (summary{longest: 17 * time.Second, tenant: 2, median: 10 * time.Second}); got != want {
			t.Errorf("the move: %+v, want %+v", got, want)
		}
		if n := tally.waiting(time.Now().Add(-10 * time.Second)); n != 2 {
			t.Errorf("%d tenants have waited for 10 s, want 2", n)
		}
		if a, b := tally.of("a"), tally.of("b"); a != 1 || b != 2 {
			t.Errorf("a has %d tenants and b %d, want 1 and 2", a, b)
		}
	})
}

func TestANoteThatIsMissingOrChangedIsFound(t *testing.T) {
	known := map[string]string{"a": "1", "b": "2", "c": "3"}
	if got := fmt.Sprint(lacking(known, map[string]string{"a": "1", "b": "other", "d": "4"})); got != "[b c]" {
		t.Errorf("lacking: %s", got)
	}
}

// rig is a play at whose end there are notes of one tenant, at a service and in a bucket.
type rig struct {
	*play
	out     strings.Builder
	replica *multidb.S3Replica
	in      node.Place
	dir     string
}

func newRig(t *testing.T, stored map[string]string) *rig {
	t.Helper()
	r := &rig{in: node.Place{Path: "test"}, dir: t.TempDir()}
	store, err := bucket.Open(func(string) string { return "" })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	if r.replica, err = store.Replica(t.Context(), r.in.Template()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.replica.CloseIdleConnections)
	m, err := multidb.New(
		multidb.WithDiscoverer(multidb.Glob(filepath.Join(r.dir, "{{tenant}}.db"))), multidb.WithReplica(r.replica),
		multidb.WithFleetLog(multidb.FleetLogConfig{Path: r.in.Log()}),
	)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	id := multidb.ID(tenantName(0))
	if err := m.Do(t.Context(), id, func(db *sql.DB) error {
		if _, err := db.Exec(node.Schema); err != nil {
			return err
		}
		for key, text := range stored {
			if _, err := db.Exec("INSERT INTO note VALUES(?, ?)", key, text); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Sync(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	s := &node.Service{Manager: m, Node: "n1"}
	server := httptest.NewServer(s.Handler())
	t.Cleanup(server.Close)
	r.play = &play{
		options: options{tenants: 1}, out: &r.out, tally: newTally(1),
		nodes: &nodes{all: []*nodeProcess{{Config: node.Config{Name: "n1"}}}, urls: []string{server.URL}, client: http.DefaultClient},
	}
	return r
}

func TestANoteThatIsNotThereAtTheEndIsAnErrorAndNamed(t *testing.T) {
	t.Parallel()
	r := newRig(t, map[string]string{"a": "1", "b": "2"})
	r.tally.acknowledged(0, "a", "1")
	r.tally.acknowledged(0, "b", "2")
	if err := r.verify(t.Context(), r.replica, r.in, t.TempDir()); err != nil || strings.Count(r.out.String(), "all 2 notes, of 1 tenant") != 2 {
		t.Errorf("all are there: %v\n%s", err, &r.out)
	}
	r.tally.acknowledged(0, "c", "3")
	err := r.verify(t.Context(), r.replica, r.in, t.TempDir())
	if err == nil || strings.Count(err.Error(), `t000: 1 of 3, as "c"`) != 2 || strings.Count(r.out.String(), "NOT ALL") != 2 {
		t.Errorf("one is not there: %v\n%s", err, &r.out)
	}
	r = newRig(t, map[string]string{"a": "1"})
	r.tally.acknowledged(0, "a", "1")
	r.tally.missing(`t000: 1 of 1 while it was served, as "a"`)
	if err := r.verify(t.Context(), r.replica, r.in, t.TempDir()); err == nil || !strings.Contains(err.Error(), "while it was served") {
		t.Errorf("one was not there for a while: %v", err)
	}
}

func TestATenantThatTheBucketLacksIsAnError(t *testing.T) {
	t.Parallel()
	r := newRig(t, map[string]string{"a": "1"})
	r.tally = newTally(2)
	r.tally.acknowledged(0, "a", "1")
	r.tally.acknowledged(1, "a", "1")
	lost, _, err := r.restore(t.Context(), r.replica, r.in, t.TempDir())
	if err != nil || len(lost) != 1 || !strings.HasPrefix(lost[0], "t001: ") {
		t.Errorf("lost %q, %v", lost, err)
	}
}

func TestEtcdIsBuiltFromAClone(t *testing.T) {
	t.Chdir(t.TempDir())
	p := process.Start(t, []string{"GOWORK=off"}, "-etcd")
	code, text := p.Wait(), p.Stderr.String()
	if code != 1 || !strings.Contains(text, "within a clone of multidb") || len(p.Left()) > 0 {
		t.Errorf("exit code %d, stderr %q, left %v", code, text, p.Left())
	}
}
