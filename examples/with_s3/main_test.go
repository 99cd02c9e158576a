package main

import (
	"fmt"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"github.com/multidb-go/multidb/examples/internal/process"
	"github.com/multidb-go/multidb/examples/internal/tenant"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if process.Wanted() {
		main()
		return
	}
	goleak.VerifyTestMain(m)
}

// quickly is a run of about a second.
var quickly = []string{"-rounds", "2", "-interval", "300ms"}

// succeed checks that a process found everything equal and left nothing.
func succeed(t *testing.T, p *process.Process) {
	t.Helper()
	succeedTimes(t, p, 1)
}

// succeedTimes: every database was restored so many times.
func succeedTimes(t *testing.T, p *process.Process, times int) {
	t.Helper()
	code := p.Wait()
	if code != 0 {
		t.Fatalf("exit code %d\n%s%s", code, &p.Stdout, &p.Stderr)
	}
	if n := len(regexp.MustCompile(`(?m)^  project[01]/db[0-4] .* equal$`).FindAllString(p.Stdout.String(), -1)); n != 10*times {
		t.Errorf("%d rows say equal, want %d:\n%s", n, 10*times, &p.Stdout)
	}
	if left := p.Left(); len(left) > 0 {
		t.Errorf("it left %v", left)
	}
}

func TestEveryDatabaseComesBackFromTheEmbeddedS3(t *testing.T) {
	t.Parallel()
	p := process.Start(t, nil, quickly...)
	succeed(t, p)
	for _, text := range []string{
		"a server inside this program (gofakes3, in memory), at http://127.0.0.1:",
		"Databases: 10 found", "Round 2 of 2", "litestream/project1/", "metadata.json", "  hot  ",
		"All 10 databases are equal",
	} {
		if !strings.Contains(p.Stdout.String(), text) {
			t.Errorf("the output lacks %q:\n%s", text, &p.Stdout)
		}
	}
}

func TestWithTheFleetLogAllSharePutsAndEveryPrefixIsWholeAfterClose(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	for range 2 { // the second run takes over the first one's log
		p := process.Start(t, environ("backups", s.url), append(quickly, "-fleet-log")...)
		succeedTimes(t, p, 2)
		out := p.Stdout.String()
		for _, text := range []string{"Fleet log: s3://backups/litestream-log/", "Closed: every prefix has everything", "without the log:", "stock litestream"} {
			if !strings.Contains(out, text) {
				t.Errorf("the output lacks %q:\n%s", text, out)
			}
		}
		// Ten commits take ten PUTs without the log. Unpacking may come between on a slow machine.
		fewest := math.MaxInt
		for _, m := range regexp.MustCompile(`reached S3: 10 transactions, .* in (\d+) PUT`).FindAllStringSubmatch(out, -1) {
			n, err := strconv.Atoi(m[1])
			if err != nil {
				t.Fatal(err)
			}
			fewest = min(fewest, n)
		}
		if fewest >= 10 {
			t.Errorf("ten transactions took %d PUTs at least, want fewer:\n%s", fewest, out)
		}
	}
	n := 0
	for key := range s.keys(t) {
		if strings.HasPrefix(key, "litestream-log/") {
			n++
		}
	}
	if n == 0 {
		t.Error("the bucket has no fleet log")
	}
}

func TestKeepLeavesTheSourcesAndGoesOnWithThem(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "a place for 100%")
	rows := 0
	for range 2 {
		succeed(t, process.Start(t, nil, append(quickly, "-keep", dir)...))
		tree := tenant.Tree{Root: dir, Projects: 2, Each: 5}
		total := 0
		for i := range tree.Len() {
			d, err := tenant.DigestedFile(t.Context(), tree.Path(i))
			if err != nil {
				t.Fatal(err)
			}
			total += d.Rows
		}
		if total <= rows {
			t.Errorf("%d rows in all databases, %d before", total, rows)
		}
		rows = total
	}
}

// store is an S3 server of the test's own.
type store struct {
	*s3mem.Backend
	url   string
	fault atomic.Pointer[http.HandlerFunc] // answers instead of the server, if it writes something
}

func newStore(t *testing.T) *store {
	t.Helper()
	s := &store{Backend: s3mem.New()}
	if err := s.CreateBucket("backups"); err != nil {
		t.Fatal(err)
	}
	fake := gofakes3.New(s.Backend).Server()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if f := s.fault.Load(); f != nil {
			(*f)(w, r)
			return
		}
		fake.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	s.url = srv.URL
	return s
}

func environ(bucket, endpoint string) []string {
	return []string{"LITESTREAM_S3_BUCKET=" + bucket, "LITESTREAM_S3_ENDPOINT=" + endpoint,
		"AWS_ACCESS_KEY_ID=key", "AWS_SECRET_ACCESS_KEY=secret", "AWS_REGION=us-east-1"}
}

func (s *store) keys(t *testing.T) map[string]bool {
	t.Helper()
	list, err := s.ListBucket("backups", &gofakes3.Prefix{}, gofakes3.ListBucketPage{})
	if err != nil {
		t.Fatal(err)
	}
	keys := map[string]bool{}
	for _, o := range list.Contents {
		keys[o.Key] = true
	}
	return keys
}

func TestABucketOfTheEnvironmentIsUsedAgainAndKeepsWhatItHad(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	for _, key := range []string{"other/file", "litestream/readme.txt"} {
		if _, err := s.PutObject("backups", key, map[string]string{}, strings.NewReader("x"), 1, nil); err != nil {
			t.Fatal(err)
		}
	}
	var before map[string]bool
	for range 2 { // the second run finds the first one's backups
		before = s.keys(t)
		p := process.Start(t, environ("backups", s.url), quickly...)
		succeed(t, p)
		if !strings.Contains(p.Stdout.String(), `bucket "backups" at `+s.url) {
			t.Errorf("the output does not say where the bucket is:\n%s", &p.Stdout)
		}
		after := s.keys(t)
		for key := range before {
			if !after[key] {
				t.Errorf("%s was deleted", key)
			}
		}
		for p := range 2 {
			for d := range 5 {
				if key := fmt.Sprintf("litestream/project%d/db%d/0000/0000000000000001-0000000000000001.ltx", p, d); !after[key] {
					t.Errorf("%s is missing", key)
				}
			}
		}
	}
}

func TestABadEnvironmentGivesOneLineAndExitCode1WithinSeconds(t *testing.T) {
	s := newStore(t)
	denied := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(http.StatusForbidden)
		_, _ = fmt.Fprint(w, `<Error><Code>SignatureDoesNotMatch</Code><Message>no</Message></Error>`)
	}))
	t.Cleanup(denied.Close)
	silent, err := net.Listen("tcp", "127.0.0.1:0") // takes connections, never answers
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = silent.Close() })
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refused := gone.Addr().String()
	if err := gone.Close(); err != nil {
		t.Fatal(err)
	}

	for _, c := range []struct {
		name string
		env  []string
		want []string
	}{
		{"the bucket does not exist", environ("nosuch", s.url), []string{`bucket "nosuch" does not exist`, "LITESTREAM_S3_BUCKET"}},
		{"the credentials are wrong", environ("backups", denied.URL), []string{"SecretAccessKey"}},
		{"there are no credentials", environ("backups", s.url)[:2], []string{"no credentials", "AWS_ACCESS_KEY_ID"}},
		{"the endpoint refuses", environ("backups", "http://"+refused), []string{refused, "LITESTREAM_S3_ENDPOINT"}},
		{"the endpoint is silent", environ("backups", "http://"+silent.Addr().String()), []string{silent.Addr().String()}},
		{"the endpoint is no URL", environ("backups", "http://%zz"), []string{"Endpoint"}},
		{"the bucket is forgotten", []string{"LITESTREAM_S3_ENDPOINT=" + s.url}, []string{"LITESTREAM_S3_BUCKET"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			p := process.Start(t, c.env, quickly...)
			code, text := p.Wait(), p.Stderr.String()
			if took := time.Since(began); took > 15*time.Second {
				t.Errorf("it took %v", took)
			}
			if code != 1 || strings.Count(text, "\n") != 1 {
				t.Errorf("exit code %d, want 1; stderr, want one line:\n%s", code, text)
			}
			for _, want := range c.want {
				if !strings.Contains(text, want) {
					t.Errorf("%q does not say %q", text, want)
				}
			}
			if left := p.Left(); len(left) > 0 {
				t.Errorf("it left %v", left)
			}
		})
	}
}

func TestAMissingBackupFailsTheRunAndOnlyItsRow(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	fake := gofakes3.New(s.Backend).Server()
	lose := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "project1/db3/0000/") {
			http.NotFound(w, r)
			return
		}
		fake.ServeHTTP(w, r)
	})
	s.fault.Store(&lose)
	p := process.Start(t, environ("backups", s.url), "-rounds", "1", "-interval", "1m") // so long that nothing goes cold
	code, out := p.Wait(), p.Stdout.String()
	if code != 1 || !strings.Contains(p.Stderr.String(), "1 of 10 databases") {
		t.Errorf("exit code %d, stderr %q", code, &p.Stderr)
	}
	if !regexp.MustCompile(`(?m)^  project1/db3 .*FAILED: `).MatchString(out) || strings.Count(out, "  equal\n") != 9 {
		t.Errorf("want 9 rows equal and one failed:\n%s", out)
	}
	if left := p.Left(); len(left) > 0 {
		t.Errorf("it left %v", left)
	}
}

func TestAnInterruptInTheMiddleCleansUp(t *testing.T) {
	t.Parallel()
	for _, moment := range []string{"S3: ", "Databases: ", "Round 1 of 9", "Round 2 of 9"} {
		p := process.Start(t, nil, "-rounds", "9", "-interval", "600ms")
		p.Stdout.Await(t, moment)
		p.Signal(os.Interrupt)
		if code := p.Wait(); code != 130 {
			t.Errorf("after %q: exit code %d, want 130\n%s", moment, code, &p.Stderr)
		}
		if left := p.Left(); len(left) > 0 {
			t.Errorf("after %q: it left %v", moment, left)
		}
	}
	p := process.Start(t, nil, "-rounds", "9", "-interval", "600ms")
	p.Stdout.Await(t, "Round 1 of 9")
	p.Signal(syscall.SIGTERM)
	p.Signal(syscall.SIGTERM) // as timeout(1) does
	if code := p.Wait(); code != 130 || len(p.Left()) > 0 {
		t.Errorf("after SIGTERM: exit code %d, left %v", code, p.Left())
	}
}

func TestAWrongCommandLineIsRefused(t *testing.T) {
	for _, args := range [][]string{{"-rounds", "0"}, {"-interval", "-1s"}, {"-nosuch"}, {"extra"}} {
		var stdout, stderr strings.Builder
		if code := run(t.Context(), args, &stdout, &stderr); code != 2 || stderr.Len() == 0 {
			t.Errorf("%v: exit code %d, stderr %q", args, code, &stderr)
		}
	}
}
