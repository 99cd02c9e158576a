//go:build versitygw

// These tests need a real S3 server, which checks signatures:
//
//	ROOT_ACCESS_KEY=multidb ROOT_SECRET_KEY=multidb-secret versitygw --port 127.0.0.1:7070 posix DIR
//	mkdir DIR/backups
//	MULTIDB_TEST_S3_ENDPOINT=http://127.0.0.1:7070 go test -tags versitygw -run Versitygw ./internal/store/s3
package s3

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/benbjohnson/litestream"
	"github.com/superfly/ltx"
)

func versitygw(t *testing.T) Config {
	t.Helper()
	endpoint := os.Getenv("MULTIDB_TEST_S3_ENDPOINT")
	if endpoint == "" {
		t.Skip("MULTIDB_TEST_S3_ENDPOINT is not set")
	}
	return Config{Bucket: testBucket, Endpoint: endpoint, AccessKeyID: "multidb", SecretAccessKey: "multidb-secret", PartSize: minPartSize}
}

// versitygwPrefix is a prefix of its own, empty again when the test ends.
func versitygwPrefix(t *testing.T, c *Client) *Prefix {
	t.Helper()
	p := c.Prefix("test-" + strconv.FormatUint(rand.Uint64(), 36) + "/a b")
	t.Cleanup(func() {
		if err := p.DeleteAll(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return p
}

func TestVersitygwRestores(t *testing.T) {
	c := newClient(t, versitygw(t))
	p := versitygwPrefix(t, c)
	tenant(t, p)
	before := c.Stats()
	client, err := p.RestoreClient(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	wantPages(t, restore(t, client, litestream.RestoreOptions{}), 'a', 'b'+11)
	if s := c.Stats(); s.List-before.List != 1 || s.Get-before.Get != 11 || s.Errors != 0 {
		t.Errorf("%+v before, %+v after", before, s)
	}
	files, err := p.AllLTXFiles(t.Context(), true)
	if err != nil || len(files) != 11 || !files[1].CreatedAt.Equal(testTime.Add(3*1e9)) {
		t.Fatalf("%d files, %v", len(files), err)
	}
	if err := p.DeleteLTXFiles(t.Context(), files[:5]); err != nil {
		t.Fatal(err)
	}
	itr, err := p.LTXFiles(t.Context(), 0, 9, false)
	if err != nil {
		t.Fatal(err)
	}
	if rest, err := ltx.SliceFileIterator(itr); err != nil || len(rest) != 3 {
		t.Errorf("from 9: %d files, %v", len(rest), err)
	}
	if err := p.DeleteAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	if files, err := p.AllLTXFiles(t.Context(), false); err != nil || len(files) != 0 {
		t.Errorf("after DeleteAll: %d files, %v", len(files), err)
	}
}

func TestVersitygwCreatesOnlyOnce(t *testing.T) {
	c := newClient(t, versitygw(t))
	var puts atomic.Int64
	c.through = func(next http.RoundTripper) http.RoundTripper {
		return roundTrip(func(r *http.Request) (*http.Response, error) {
			resp, err := next.RoundTrip(r)
			if r.Method == http.MethodPut && err == nil && puts.Add(1) == 1 {
				_ = resp.Body.Close()
				return nil, errors.New("the answer is lost")
			}
			return resp, err
		})
	}
	p := versitygwPrefix(t, c)
	mustWrite(t, p, 0, 1, 1, ltxBytes(t, 1, 300)) // recognizes its own object
	if n := puts.Load(); n != 2 {
		t.Errorf("%d puts, want 2", n)
	}
	if _, err := p.WriteLTXFile(t.Context(), 0, 1, 1, bytes.NewReader(ltxBytes(t, 2, 300))); !errors.Is(err, fs.ErrExist) {
		t.Errorf("got %v", err)
	}
	first, big := ltxBytes(t, 3, 300), ltxBytes(t, 3, minPartSize+5)
	for _, level := range []int{0, 1, litestream.SnapshotLevel} {
		mustWrite(t, p, level, 3, 3, first)
		for name, r := range map[string]io.Reader{"at once": bytes.NewReader(big[:400]), "in parts": onlyReader{bytes.NewReader(big)}} {
			if _, err := p.WriteLTXFile(t.Context(), level, 3, 3, r); !errors.Is(err, fs.ErrExist) {
				t.Errorf("level %d, %s: %v, want %v", level, name, err, fs.ErrExist)
			}
		}
		rc, err := p.OpenLTXFile(t.Context(), level, 3, 3, 0, 0)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(rc)
		if err := errors.Join(err, rc.Close()); err != nil || !bytes.Equal(got, first) {
			t.Errorf("level %d: %d bytes, %v", level, len(got), err)
		}
	}
}

// TestVersitygwHonorsTheConditionOfACompletion leaves out the looks, which would
// find the object first.
func TestVersitygwHonorsTheConditionOfACompletion(t *testing.T) {
	c := unsureClient(t, versitygw(t))
	var looks atomic.Int64
	c.through = func(next http.RoundTripper) http.RoundTripper {
		return roundTrip(func(r *http.Request) (*http.Response, error) {
			if r.Method == http.MethodHead {
				looks.Add(1)
				return &http.Response{StatusCode: http.StatusNotFound, Body: http.NoBody, Request: r, Header: http.Header{}}, nil
			}
			return next.RoundTrip(r)
		})
	}
	p := versitygwPrefix(t, c)
	mustWrite(t, p, 9, 1, 1, ltxBytes(t, 1, 300))
	_, err := p.WriteLTXFile(t.Context(), 9, 1, 1, onlyReader{bytes.NewReader(ltxBytes(t, 2, minPartSize+1))})
	if !errors.Is(err, fs.ErrExist) || looks.Load() != 2 {
		t.Errorf("%d looks, %v", looks.Load(), err)
	}
}

func TestVersitygwTakesEveryKindOfRequest(t *testing.T) {
	for _, calculation := range []string{"", "when_supported"} {
		c := unsureClient(t, versitygw(t))
		if calculation != "" {
			t.Setenv("AWS_REQUEST_CHECKSUM_CALCULATION", calculation)
		}
		perform(t, versitygwPrefix(t, c))
		if s := c.Stats(); s.Errors != 0 {
			t.Errorf("checksums %q: %+v", calculation, s)
		}
	}
	c := unsureClient(t, versitygw(t))
	c.sums.Store(true) // as with Object Lock
	perform(t, versitygwPrefix(t, c))
	if s := c.Stats(); s.Errors != 0 {
		t.Errorf("Content-MD5: %+v", s)
	}
}

func TestVersitygwIsChecked(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*Config)
		want   string
		kind   error
	}{
		"all is well":    {change: func(*Config) {}},
		"no bucket":      {func(c *Config) { c.Bucket = "missing" }, "create it, or correct Bucket", ErrNoBucket},
		"an unknown key": {func(c *Config) { c.AccessKeyID = "nobody" }, "correct AccessKeyID", ErrAccessDenied},
		"a wrong secret": {func(c *Config) { c.SecretAccessKey = "wrong" }, "correct SecretAccessKey", ErrAccessDenied},
		"no signature": {func(c *Config) { c.AccessKeyID, c.SecretAccessKey, c.Anonymous = "", "", true },
			"denies access", ErrAccessDenied},
		"a wrong region": {func(c *Config) { c.Region = "eu-west-9" }, "correct Region", ErrWrongRegion},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := versitygw(t)
			tc.change(&cfg)
			err := newClient(t, cfg).Check(t.Context(), "some where")
			if tc.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if !errors.Is(err, tc.kind) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestVersitygwLetsAtMostOneCreatorWinWhateverIsLost(t *testing.T) {
	cfg := versitygw(t)
	p := versitygwPrefix(t, newClient(t, cfg)) // which it is emptied by
	raceOverAFaultyTransport(t, cfg, p.root, rand.Uint64(), 60)
}
