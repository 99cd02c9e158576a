package torture

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
)

const gatewayEnv = "MULTIDB_VERSITYGW"

// s3Server is a store with what its owner can do to it.
type s3Server interface {
	// handler is a way to it for an HTTP layer in this process.
	handler(t testing.TB) http.Handler
	addr() string
	bucket(t testing.TB, name string)
	hide(t testing.TB, bucket string)   // it is gone, with all that is in it
	show(t testing.TB, bucket string)   // and comes back
	revoke(t testing.TB, access string) // refuses what access signs
	grant(t testing.TB, access string)  // or knows it, with secretOf
	held() int64                        // bytes that it keeps in this process's memory
}

func secretOf(access string) string { return access + "-secret" }

// memoryServer is gofakes3 in this process. It does not look at signatures, so
// that a revoked key is refused before it.
type memoryServer struct {
	srv     *httptest.Server
	store   *s3mem.Backend
	stored  atomic.Int64
	mu      sync.Mutex
	hidden  map[string]bool
	revoked map[string]bool
}

func newMemoryServer(t testing.TB) *memoryServer {
	m := &memoryServer{store: s3mem.New(), hidden: map[string]bool{}, revoked: map[string]bool{}}
	fake := gofakes3.New(m.store).Server()
	m.srv = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
		_, access, _ := strings.Cut(r.Header.Get("Authorization"), "Credential=")
		access, _, _ = strings.Cut(access, "/")
		m.mu.Lock()
		hidden, revoked := m.hidden[name], m.revoked[access]
		m.mu.Unlock()
		switch {
		case revoked:
			refuse(w, r, http.StatusForbidden, "ExpiredToken")
		case hidden:
			refuse(w, r, http.StatusNotFound, "NoSuchBucket")
		default:
			if r.Method == http.MethodPut {
				m.stored.Add(max(r.ContentLength, 0))
			}
			fake.ServeHTTP(w, r)
		}
	}))
	m.srv.Config.ErrorLog = log.New(io.Discard, "", 0) // clients give up in mid-request
	m.srv.Start()
	t.Cleanup(m.srv.Close)
	return m
}

func (m *memoryServer) addr() string                      { return strings.TrimPrefix(m.srv.URL, "http://") }
func (m *memoryServer) handler(t testing.TB) http.Handler { return m.srv.Config.Handler }
func (m *memoryServer) held() int64                       { return m.stored.Load() }

func (m *memoryServer) bucket(t testing.TB, name string) {
	if err := m.store.CreateBucket(name); err != nil {
		t.Fatal(err)
	}
}

func (m *memoryServer) set(in map[string]bool, name string, on bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	in[name] = on
}

func (m *memoryServer) hide(_ testing.TB, bucket string)   { m.set(m.hidden, bucket, true) }
func (m *memoryServer) show(_ testing.TB, bucket string)   { m.set(m.hidden, bucket, false) }
func (m *memoryServer) revoke(_ testing.TB, access string) { m.set(m.revoked, access, true) }
func (m *memoryServer) grant(_ testing.TB, access string)  { m.set(m.revoked, access, false) }

// gatewayServer is a versitygw process over a directory. It checks signatures.
type gatewayServer struct {
	address string
	objects string // a directory per bucket
	away    string
	users   string // its file of accounts, which it reads at each request

	mu       sync.Mutex
	accounts map[string]map[string]any
}

const gatewayRoot = "root"

// newGatewayServer runs versitygw until the test ends; nil if it is not there.
func newGatewayServer(t testing.TB) *gatewayServer {
	t.Helper()
	path := os.Getenv(gatewayEnv)
	if path == "" {
		return nil
	}
	dir := t.TempDir()
	g := &gatewayServer{objects: filepath.Join(dir, "objects"), away: filepath.Join(dir, "away"), accounts: map[string]map[string]any{}}
	iam, sidecar := filepath.Join(dir, "iam"), filepath.Join(dir, "sidecar")
	g.users = filepath.Join(iam, "users.json")
	for _, d := range []string{g.objects, g.away, iam, sidecar} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	// Between our finding a free port and its listening somebody may take it.
	for attempt := 1; ; attempt++ {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		g.address = l.Addr().String()
		_ = l.Close()
		// The sidecar makes it work where the file system has no extended attributes.
		cmd := exec.Command(path, "--port", g.address, "--quiet", "--keep-alive",
			"--iam-dir", iam, "--iam-cache-disable", "posix", "--sidecar", sidecar, g.objects)
		// An environment of its own: versitygw takes options from VGW_ variables.
		cmd.Env = []string{"ROOT_ACCESS_KEY=" + gatewayRoot, "ROOT_SECRET_KEY=" + secretOf(gatewayRoot)}
		out, err := g.serve(t, cmd)
		if err == nil {
			return g
		}
		if attempt == 3 {
			t.Fatalf("versitygw: %v\n%s", err, out)
		}
	}
}

// serve starts cmd and ends it with the test; at once, if it does not answer.
func (g *gatewayServer) serve(t testing.TB, cmd *exec.Cmd) (string, error) {
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		return "", err
	}
	exited := make(chan struct{})
	go func() {
		defer close(exited)
		_ = cmd.Wait() // how it ended shows in its output
	}()
	stop := func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-exited:
		case <-time.After(10 * time.Second):
			_ = cmd.Process.Kill()
			<-exited
		}
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(30 * time.Second); ; {
		conn, err := net.DialTimeout("tcp", g.address, time.Second)
		if err == nil {
			_ = conn.Close()
			t.Cleanup(stop)
			return "", nil
		}
		select {
		case <-tick.C:
		case <-exited:
			return out.String(), errors.New("the process ended")
		}
		if time.Now().After(end) {
			stop()
			return out.String(), err
		}
	}
}

func (g *gatewayServer) addr() string { return g.address }
func (g *gatewayServer) held() int64  { return 0 }

func (g *gatewayServer) handler(t testing.TB) http.Handler {
	transport := &http.Transport{MaxIdleConnsPerHost: 16}
	t.Cleanup(transport.CloseIdleConnections)
	target := &url.URL{Scheme: "http", Host: g.address}
	return &httputil.ReverseProxy{
		Transport: transport,
		ErrorLog:  log.New(io.Discard, "", 0),
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host // it is signed
		},
	}
}

func (g *gatewayServer) bucket(t testing.TB, name string) {
	if err := os.Mkdir(filepath.Join(g.objects, name), 0o755); err != nil {
		t.Fatal(err)
	}
}

func (g *gatewayServer) hide(t testing.TB, bucket string) {
	if err := os.Rename(filepath.Join(g.objects, bucket), filepath.Join(g.away, bucket)); err != nil {
		t.Error(err)
	}
}

func (g *gatewayServer) show(t testing.TB, bucket string) {
	to := filepath.Join(g.objects, bucket)
	if _, err := os.Stat(to); err == nil {
		t.Errorf("the server made bucket %s anew", bucket)
		return
	}
	if err := os.Rename(filepath.Join(g.away, bucket), to); err != nil {
		t.Error(err)
	}
}

func (g *gatewayServer) revoke(t testing.TB, access string) { g.account(t, access, "another secret") }
func (g *gatewayServer) grant(t testing.TB, access string)  { g.account(t, access, secretOf(access)) }

// account writes the file of accounts, whole at any moment.
func (g *gatewayServer) account(t testing.TB, access, secret string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.accounts[access] = map[string]any{"access": access, "secret": secret, "role": "admin"}
	b, err := json.Marshal(map[string]any{"accessAccounts": g.accounts})
	if err != nil {
		t.Fatal(err)
	}
	tmp := fmt.Sprintf("%s.%s", g.users, access)
	if err := errors.Join(os.WriteFile(tmp, b, 0o600), os.Rename(tmp, g.users)); err != nil {
		t.Fatal(err)
	}
}
