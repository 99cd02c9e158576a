package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/multidb-go/multidb/internal/control"
)

// pageAt waits until a replicate serves its page, and returns where.
func (p *process) pageAt() string {
	p.t.Helper()
	p.await("serving the page")
	p.lines.mu.Lock()
	defer p.lines.mu.Unlock()
	m := regexp.MustCompile(`url=(http://[^ \n]+)/`).FindStringSubmatch(p.stderr.String())
	if m == nil {
		p.t.Fatalf("no address in %s", &p.stderr)
	}
	return m[1]
}

// fetch is GET, with a token if there is one.
func fetch(t *testing.T, url, token string) (int, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func TestReplicateServesThePageMetricsAndTheAPI(t *testing.T) {
	f := newFleet(t, 1, 3)
	run := invoke(t, nil, "replicate", "-config", f.configure(t, t.TempDir()), "-listen", "127.0.0.1:0").start()
	at := run.pageAt()
	run.await("replicating")
	for path, want := range map[string]string{
		"/healthz":                             "ok",
		"/readyz?started":                      `"ready":true`,
		"/":                                    "<html",
		"/metrics":                             "\nmultidb_databases 3\n",
		"/api/v1/stats":                        `"databases":3`,
		"/api/v1/databases?q=DB1":              `"project0/db1"`,
		"/api/v1/events":                       `"events"`,
		"/database?id=project0%2Fdb2":          "project0/db2",
		"/confirm?verb=sync&id=project0%2Fdb0": "not allowed",
	} {
		if _, body := fetch(t, at+path, ""); !strings.Contains(body, want) {
			t.Errorf("%s lacks %q: %s", path, want, body)
		}
	}
	run.signal(syscall.SIGTERM)
	run.want(0, "everything is at the replica")
}

func TestTheListenOfAConfigurationIsServedWithItsToken(t *testing.T) {
	f := newFleet(t, 1, 1)
	cfg := f.configure(t, t.TempDir())
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("0123456789abcdef\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(cfg)
	if err != nil {
		t.Fatal(err)
	}
	text = append(text, "  listen: {address: '127.0.0.1:1', token-file: '"+token+"', verbs: [sync], title: night}\n"...)
	if err := os.WriteFile(cfg, text, 0o600); err != nil {
		t.Fatal(err)
	}
	run := invoke(t, nil, "replicate", "-config", cfg, "-listen", "127.0.0.1:0").start() // in place of the port that is not ours
	at := run.pageAt()
	run.await("replicating")
	if status, body := fetch(t, at+"/", ""); status != http.StatusUnauthorized || strings.Contains(body, "project0") {
		t.Errorf("without the token: %d, %s", status, body)
	}
	if status, body := fetch(t, at+"/metrics", ""); status != http.StatusUnauthorized {
		t.Errorf("metrics without the token: %d, %s", status, body)
	}
	if status, body := fetch(t, at+"/database?id=project0/db0", "0123456789abcdef"); status != http.StatusOK || !strings.Contains(body, "verb=sync") || !strings.Contains(body, "night") {
		t.Errorf("with the token: %d, %s", status, body)
	}
	run.signal(syscall.SIGTERM)
	run.want(0)
	if strings.Contains(run.stderr.String(), "0123456789abcdef") {
		t.Error("the log has the token")
	}
}

func TestAPortThatIsWrongEndsReplicateBeforeItTouchesAnything(t *testing.T) {
	f := newFleet(t, 1, 1)
	cfg := f.configure(t, t.TempDir())
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var lc net.ListenConfig
	taken, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, c := range []struct {
		flags []string
		code  int
		says  string
	}{
		{[]string{"-listen", ":9460"}, exitUsage, "-listen-token-file"},
		{[]string{"-listen", "0.0.0.0:9460"}, exitUsage, "listen at 127.0.0.1:9460"},
		{[]string{"-listen", "example.com:9460"}, exitUsage, "no token"},
		{[]string{"-listen", "9460"}, exitUsage, "write a host and a port"},
		{[]string{"-listen", "127.0.0.1:0", "-listen-token-file", empty}, exitUsage, "openssl rand"},
		{[]string{"-listen", "127.0.0.1:0", "-listen-token-file", "/does/not/exist"}, exitUsage, "/does/not/exist"},
		{[]string{"-listen", "127.0.0.1:0", "-listen-verbs", "sync,erase"}, exitUsage, `no verb "erase"`},
		{[]string{"-listen", "127.0.0.1:0", "-listen-verbs", "restore"}, exitUsage, "-listen-restore-dir"},
		{[]string{"-listen", taken.Addr().String()}, exitFailed, "address already in use"},
		{[]string{"-listen-verbs", "sync"}, exitUsage, "-listen is missing"},
	} {
		invoke(t, nil, append([]string{"replicate", "-config", cfg}, c.flags...)...).start().want(c.code, c.says)
	}
	if _, err := os.Stat(filepath.Join(f.stateDir(), control.Socket)); !os.IsNotExist(err) {
		t.Errorf("a state directory was made: %v", err)
	}
}

// configureS3 writes a configuration of the fleet whose replica is the bucket of a store.
func (f *fleet) configureS3(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "multidb.yaml")
	text := fmt.Sprintf("multi-db:\n  patterns: [%q]\n  state-dir: %q\n  replica-template: {type: s3, bucket: fleet, path: %q}\n",
		f.pattern, f.stateDir(), template)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestWhileReplicateStopsItIsNotReadyButAnswers(t *testing.T) {
	f := newFleet(t, 1, 1)
	s := newStore(t)
	asked, free := make(chan struct{}, 1000), make(chan struct{})
	release := sync.OnceFunc(func() { close(free) })
	t.Cleanup(release) // before the store waits for what it has not answered
	s.setHold(func(http.ResponseWriter, *http.Request) bool {
		asked <- struct{}{}
		<-free
		return true
	})
	cfg := f.configureS3(t)
	run := invoke(t, s.env, "replicate", "-config", cfg, "-listen", "127.0.0.1:0", "-shutdown-timeout", "40s").start()
	at := run.pageAt()
	<-asked // it ships, and waits for the answer
	run.await("databases=1")
	run.signal(syscall.SIGTERM)
	run.await("shipping what is left")
	for late := time.Now().Add(patience); ; { // from when Close was called
		if time.Now().After(late) {
			t.Fatal("it is ready still")
		}
		if status, body := fetch(t, at+"/readyz", ""); status == http.StatusServiceUnavailable && strings.Contains(body, "closed") {
			break
		}
	}
	if status, _ := fetch(t, at+"/healthz", ""); status != http.StatusOK {
		t.Errorf("healthz: %d", status)
	}
	if status, body := fetch(t, at+"/", ""); status != http.StatusOK {
		t.Errorf("the page: %d, %s", status, body)
	}
	release()
	run.want(0, "everything is at the replica")
}
