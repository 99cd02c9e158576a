package s3

import (
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/johannesboyne/gofakes3"
)

func discardLog() *log.Logger { return log.New(io.Discard, "", 0) }

func TestNewRefusesWhatCannotWork(t *testing.T) {
	for want, change := range map[string]func(*Config){
		"Bucket is empty":                    func(c *Config) { c.Bucket = "" },
		"not a bucket name":                  func(c *Config) { c.Bucket = "s3://b" },
		"Endpoint is not a URL":              func(c *Config) { c.Endpoint = "ftp://topsecret" },
		"Endpoint must not hold credentials": func(c *Config) { c.Endpoint = "http://u:topsecret@host" },
		"need both":                          func(c *Config) { c.SecretAccessKey = "topsecret" },
		"Anonymous excludes":                 func(c *Config) { c.Anonymous, c.AccessKeyID, c.SecretAccessKey = true, "k", "topsecret" },
		"Profile excludes":                   func(c *Config) { c.Profile, c.AccessKeyID, c.SecretAccessKey = "p", "k", "topsecret" },
		"Accelerate excludes":                func(c *Config) { c.Accelerate, c.ForcePathStyle = true, true },
		`SSE is "AES"`:                       func(c *Config) { c.SSE = "AES" },
		`StorageClass "GLACIER" is`:          func(c *Config) { c.StorageClass = "GLACIER" },
		"SSEKMSKeyID needs":                  func(c *Config) { c.SSE, c.SSEKMSKeyID = "AES256", "k" },
		"SSECustomerKey must be 32 bytes":    func(c *Config) { c.SSECustomerKey = "topsecret" },
		"SSECustomerKey excludes":            func(c *Config) { c.SSE, c.SSECustomerKey = "AES256", "topsecret" },
		"SSECustomerKey needs an https":      func(c *Config) { c.Endpoint, c.SSECustomerKey = "http://example.com", strings.Repeat("A", 43)+"=" },
		"Concurrency is -1":                  func(c *Config) { c.Concurrency = -1 },
		"MaxAttempts is -1":                  func(c *Config) { c.MaxAttempts = -1 },
		"RequestTimeout is -1s":              func(c *Config) { c.RequestTimeout = -time.Second },
		"PartSize is 1: write 5 MiB":         func(c *Config) { c.PartSize = 1 },
	} {
		t.Run(want, func(t *testing.T) {
			cfg := Config{Bucket: "b"}
			change(&cfg)
			_, err := New(cfg)
			if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "topsecret") {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestPathStyleFollowsTheEndpoint(t *testing.T) {
	for endpoint, want := range map[string]bool{
		"http://127.0.0.1:9000": true, "http://[::1]:9000": true, "http://localhost:9000": true, "http://minio:9000": true,
		"https://s3.example.com": false,
	} {
		if got := pathStyle(endpoint); got != want {
			t.Errorf("%s: %v", endpoint, got)
		}
	}
	var host string
	cfg := Config{Bucket: testBucket, Endpoint: "http://s3.example.com", Anonymous: true, MaxAttempts: 1}
	for _, force := range []bool{false, true} {
		cfg.ForcePathStyle = force
		c := newClient(t, cfg)
		c.through = func(http.RoundTripper) http.RoundTripper {
			return roundTrip(func(r *http.Request) (*http.Response, error) {
				host = r.URL.Host + r.URL.Path
				return nil, errors.New("not sent")
			})
		}
		_, _ = c.Prefix("p").ReadMetadata(t.Context())
		want := "backups.s3.example.com/p/metadata.json"
		if force {
			want = "s3.example.com/backups/p/metadata.json"
		}
		if host != want {
			t.Errorf("force %v: %s, want %s", force, host, want)
		}
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestAnonymousRequestsAreUnsignedAndOthersSigned(t *testing.T) {
	f := newFakeS3(t)
	for _, anonymous := range []bool{true, false} {
		cfg := f.config()
		if anonymous {
			cfg = Config{Bucket: testBucket, Endpoint: f.url, Anonymous: true}
		} else {
			cfg.SessionToken = "token"
		}
		mustWrite(t, newClient(t, cfg).Prefix(fmt.Sprint(anonymous)), 1, 1, 1, ltxBytes(t, 1, 300))
		r := f.seen()[len(f.seen())-1]
		if signed := r.Header.Get("Authorization") != ""; signed == anonymous {
			t.Errorf("anonymous %v: signed %v", anonymous, signed)
		}
		if got := r.Header.Get("X-Amz-Security-Token"); !anonymous && got != "token" {
			t.Errorf("session token %q", got)
		}
	}
}

func TestCredentialsAndRegionComeFromTheEnvironment(t *testing.T) {
	f := newFakeS3(t)
	c := newClient(t, Config{Bucket: testBucket, Endpoint: f.url})
	t.Setenv("AWS_ACCESS_KEY_ID", "envkey")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "envsecret")
	t.Setenv("AWS_REGION", "eu-west-9")
	mustWrite(t, c.Prefix("p"), 1, 1, 1, ltxBytes(t, 1, 300))
	if got := f.seen()[0].Header.Get("Authorization"); !strings.Contains(got, "envkey/") || !strings.Contains(got, "/eu-west-9/") {
		t.Errorf("signed as %s", got)
	}
}

func TestAProfileIsRead(t *testing.T) {
	f := newFakeS3(t)
	c := newClient(t, Config{Bucket: testBucket, Endpoint: f.url, Profile: "backup"})
	file := filepath.Join(t.TempDir(), "credentials")
	if err := os.WriteFile(file, []byte("[backup]\naws_access_key_id = filekey\naws_secret_access_key = x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", file)
	mustWrite(t, c.Prefix("p"), 1, 1, 1, ltxBytes(t, 1, 300))
	if got := f.seen()[0].Header.Get("Authorization"); !strings.Contains(got, "filekey/") {
		t.Errorf("signed as %s", got)
	}
}

func TestAConfigThatCannotBeLoadedIsTriedAgain(t *testing.T) {
	f := newFakeS3(t)
	c := newClient(t, f.config())
	t.Setenv("AWS_CA_BUNDLE", filepath.Join(t.TempDir(), "missing.pem"))
	if _, err := c.Prefix("p").AllLTXFiles(t.Context(), false); err == nil || !strings.Contains(err.Error(), "missing.pem") {
		t.Fatalf("got %v", err)
	}
	unsetenv(t, "AWS_CA_BUNDLE")
	if _, err := c.Prefix("p").AllLTXFiles(t.Context(), false); err != nil {
		t.Fatal(err)
	}
}

func TestTheBundleOfAuthoritiesIsUsed(t *testing.T) {
	f := newFakeS3(t)
	srv := httptest.NewUnstartedServer(gofakes3.New(f.store).Server())
	srv.Config.ErrorLog = discardLog()
	srv.StartTLS()
	t.Cleanup(srv.Close)
	bundle := filepath.Join(t.TempDir(), "ca.pem")
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})
	if err := os.WriteFile(bundle, cert, 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := f.config()
	cfg.Endpoint, cfg.MaxAttempts = srv.URL, 1
	for _, set := range []bool{true, false} {
		c := newClient(t, cfg)
		unsetenv(t, "AWS_CA_BUNDLE")
		if set {
			t.Setenv("AWS_CA_BUNDLE", bundle)
		}
		_, err := c.Prefix("p").WriteLTXFile(t.Context(), 1, 1, 1, strings.NewReader(string(ltxBytes(t, 1, 300))))
		if set && err != nil || !set && !errors.Is(err, ErrUnreachable) {
			t.Errorf("bundle set %v: %v", set, err)
		}
	}
}

func TestAnErrorNeverShowsASecret(t *testing.T) {
	f := newFakeS3(t)
	cfg := f.config()
	cfg.MaxAttempts, cfg.SessionToken = 1, "sessiontoken"
	c := newClient(t, cfg)
	f.setFault(func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		w.WriteHeader(http.StatusTeapot)
		_, _ = fmt.Fprintf(w, "<Error><Code>Odd</Code><Message>you said topsecret and sessiontoken\nand %s</Message></Error>", strings.Repeat("x", 10000))
	})
	_, err := c.Prefix("p").AllLTXFiles(t.Context(), false)
	s := err.Error()
	if strings.Contains(s, "topsecret") || strings.Contains(s, "sessiontoken") || strings.Contains(s, "\n") || len(s) > 600 {
		t.Errorf("got %s", s)
	}
}

func TestAPrefixIsSmall(t *testing.T) {
	if n := unsafe.Sizeof(Prefix{}); n > 24 {
		t.Errorf("%d bytes", n)
	}
}

func TestNewDoesNoIO(t *testing.T) {
	f := newFakeS3(t)
	c := newClient(t, f.config())
	for i := range 1000 {
		c.Prefix(fmt.Sprint("p", i))
	}
	if n := len(f.seen()); n != 0 {
		t.Errorf("%d requests", n)
	}
}
