package s3

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"github.com/superfly/ltx"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testBucket = "backups"

// fakeS3 is an S3 server in process. fault, if set, stands before it.
type fakeS3 struct {
	url   string
	store *s3mem.Backend

	mu       sync.Mutex
	fault    func(w http.ResponseWriter, r *http.Request, next http.Handler)
	requests []*http.Request // without their bodies
}

func newFakeS3(t *testing.T) *fakeS3 {
	t.Helper()
	f := &fakeS3{store: s3mem.New()}
	if err := f.store.CreateBucket(testBucket); err != nil {
		t.Fatal(err)
	}
	fake := gofakes3.New(f.store).Server()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		fault := f.fault
		f.requests = append(f.requests, r.Clone(context.Background()))
		f.mu.Unlock()
		if fault != nil {
			fault(w, r, fake)
			return
		}
		fake.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	f.url = srv.URL
	return f
}

func (f *fakeS3) setFault(fault func(w http.ResponseWriter, r *http.Request, next http.Handler)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault = fault
}

func (f *fakeS3) seen() []*http.Request {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]*http.Request(nil), f.requests...)
}

func (f *fakeS3) put(t *testing.T, key string, data []byte) {
	t.Helper()
	if _, err := f.store.PutObject(testBucket, key, map[string]string{}, bytes.NewReader(data), int64(len(data)), nil); err != nil {
		t.Fatal(err)
	}
}

// object returns what is stored under key, nil if nothing is.
func (f *fakeS3) object(t *testing.T, key string) ([]byte, map[string]string) {
	t.Helper()
	o, err := f.store.GetObject(testBucket, key, nil)
	if gofakes3.HasErrorCode(err, gofakes3.ErrNoSuchKey) {
		return nil, nil
	} else if err != nil {
		t.Fatal(err)
	}
	defer o.Contents.Close()
	data, err := io.ReadAll(o.Contents)
	if err != nil {
		t.Fatal(err)
	}
	return data, o.Metadata
}

func (f *fakeS3) config() Config {
	return Config{Bucket: testBucket, Endpoint: f.url, AccessKeyID: "key", SecretAccessKey: "topsecret"}
}

// newClient returns a client that knows that its store creates only, so that
// requests can be counted.
func newClient(t *testing.T, cfg Config) *Client {
	t.Helper()
	c := unsureClient(t, cfg)
	c.known.Store(&createOnly{honored: true})
	return c
}

// unsureClient returns one that has not tried it out yet. It isolates it from
// the machine's own AWS configuration.
func unsureClient(t *testing.T, cfg Config) *Client {
	t.Helper()
	for _, name := range []string{"AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REQUEST_CHECKSUM_CALCULATION", "AWS_RESPONSE_CHECKSUM_VALIDATION"} {
		unsetenv(t, name)
	}
	t.Setenv("AWS_CONFIG_FILE", t.TempDir()+"/config")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", t.TempDir()+"/credentials")
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.CloseIdleConnections)
	return c
}

// hijack drops the connection without an answer.
func hijack(w http.ResponseWriter) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err == nil {
		_ = conn.(*net.TCPConn).SetLinger(0)
		_ = conn.Close()
	}
}

var testTime = time.Date(2024, 5, 6, 7, 8, 9, 123e6, time.UTC)

// ltxBytes returns a file with a valid LTX header and random content after it.
func ltxBytes(t *testing.T, txid ltx.TXID, size int) []byte {
	t.Helper()
	hdr := ltx.Header{Version: ltx.Version, PageSize: 512, Commit: 1, MinTXID: txid, MaxTXID: txid, Timestamp: testTime.UnixMilli(), Flags: ltx.HeaderFlagNoChecksum}
	b, err := hdr.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	if n := size - len(b); n > 0 {
		rest := make([]byte, n)
		seed := [32]byte{byte(txid)}
		_, _ = rand.NewChaCha8(seed).Read(rest)
		b = append(b, rest...)
	}
	return b
}

// realLTX encodes pages of 512 bytes, of which the n-th is filled with fill[n].
func realLTX(t *testing.T, minTXID, maxTXID ltx.TXID, commit uint32, fill map[uint32]byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	enc, err := ltx.NewEncoder(&buf)
	if err != nil {
		t.Fatal(err)
	}
	if err := enc.EncodeHeader(ltx.Header{Version: ltx.Version, Flags: ltx.HeaderFlagNoChecksum, PageSize: 512, Commit: commit, MinTXID: minTXID, MaxTXID: maxTXID, Timestamp: testTime.Add(time.Duration(maxTXID) * time.Second).UnixMilli()}); err != nil {
		t.Fatal(err)
	}
	for pgno := uint32(1); pgno <= commit; pgno++ {
		if b, ok := fill[pgno]; ok {
			if err := enc.EncodePage(ltx.PageHeader{Pgno: pgno}, bytes.Repeat([]byte{b}, 512)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := enc.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func mustWrite(t *testing.T, p *Prefix, level int, minTXID, maxTXID ltx.TXID, data []byte) *ltx.FileInfo {
	t.Helper()
	info, err := p.WriteLTXFile(t.Context(), level, minTXID, maxTXID, bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	return info
}

// onlyReader hides every other method of a reader.
type onlyReader struct{ io.Reader }
