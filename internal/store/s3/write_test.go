package s3

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/benbjohnson/litestream"
)

func TestAFileIsWrittenAsLitestreamWritesIt(t *testing.T) {
	f := newFakeS3(t)
	p := newClient(t, f.config()).Prefix("/a//b/")
	data := ltxBytes(t, 5, 300)
	info := mustWrite(t, p, 0, 5, 5, data)
	got, meta := f.object(t, "a/b/0000/0000000000000005-0000000000000005.ltx")
	if !bytes.Equal(got, data) {
		t.Fatalf("stored %d bytes, want %d", len(got), len(data))
	}
	if v := meta["X-Amz-Meta-Litestream-Timestamp"]; v != "2024-05-06T07:08:09.123Z" {
		t.Errorf("timestamp metadata %q in %v", v, meta)
	}
	if info.Size != 300 || info.MinTXID != 5 || info.MaxTXID != 5 || info.Level != 0 || !info.CreatedAt.Equal(testTime) {
		t.Errorf("info %+v", info)
	}
}

func TestEveryLevelIsCreateOnly(t *testing.T) {
	f := newFakeS3(t)
	cfg := f.config()
	cfg.PartSize = minPartSize
	p := newClient(t, cfg).Prefix("p")
	old, other, parts := ltxBytes(t, 1, 300), ltxBytes(t, 2, 300), ltxBytes(t, 3, minPartSize+1)
	for level := range litestream.SnapshotLevel + 1 {
		mustWrite(t, p, level, 1, 1, old)
		for name, r := range map[string]io.Reader{
			"other bytes":    bytes.NewReader(other),
			"the same bytes": bytes.NewReader(old), // the caller knows what it has written; here it is refused alike
			"in parts":       onlyReader{bytes.NewReader(parts)},
		} {
			if _, err := p.WriteLTXFile(t.Context(), level, 1, 1, r); !errors.Is(err, fs.ErrExist) {
				t.Errorf("level %d, %s: want fs.ErrExist, got %v", level, name, err)
			}
		}
		if got, _ := f.object(t, p.key(ltxName(level, 1, 1))); !bytes.Equal(got, old) {
			t.Errorf("level %d: the existing file was touched", level)
		}
	}
}

// loseFirstPut performs the first PUT and drops its answer, after before.
func loseFirstPut(f *fakeS3, before func()) {
	var puts atomic.Int64
	f.setFault(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if r.Method == http.MethodPut && puts.Add(1) == 1 {
			if before != nil {
				before()
			}
			next.ServeHTTP(httptest.NewRecorder(), r)
			hijack(w)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func TestALostAnswerIsRecognizedWhenTheRetryMeetsOurOwnObject(t *testing.T) {
	f := newFakeS3(t)
	c := newClient(t, f.config())
	data := ltxBytes(t, 1, 1000)
	for name, r := range map[string]io.Reader{"seekable": bytes.NewReader(data), "stream": onlyReader{bytes.NewReader(data)}} {
		t.Run(name, func(t *testing.T) {
			loseFirstPut(f, nil)
			before := c.Stats()
			if _, err := c.Prefix(name).WriteLTXFile(t.Context(), 0, 1, 1, r); err != nil {
				t.Fatal(err)
			}
			if n := c.Stats().Put - before.Put; n != 2 {
				t.Errorf("%d puts counted, want 2", n)
			}
			if n := c.Stats().Get - before.Get; n != 1 {
				t.Errorf("%d gets counted, want 1", n)
			}
		})
	}
}

func TestALostAnswerDoesNotHideAnotherWriter(t *testing.T) {
	f := newFakeS3(t)
	p := newClient(t, f.config()).Prefix("p")
	key := "p/0000/0000000000000001-0000000000000001.ltx"
	for name, foreign := range map[string][]byte{"same size": ltxBytes(t, 2, 1000), "other size": ltxBytes(t, 2, 999)} {
		t.Run(name, func(t *testing.T) {
			loseFirstPut(f, func() { f.put(t, key, foreign) })
			_, err := p.WriteLTXFile(t.Context(), 0, 1, 1, bytes.NewReader(ltxBytes(t, 1, 1000)))
			if !errors.Is(err, fs.ErrExist) {
				t.Fatalf("want fs.ErrExist, got %v", err)
			}
			if got, _ := f.object(t, key); !bytes.Equal(got, foreign) {
				t.Error("the other writer's file was touched")
			}
		})
	}
}

func TestAConditionalConflictIsRetried(t *testing.T) {
	f := newFakeS3(t)
	c := newClient(t, f.config())
	var n atomic.Int64
	f.setFault(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if n.Add(1) == 1 {
			w.WriteHeader(http.StatusConflict)
			_, _ = io.WriteString(w, `<Error><Code>ConditionalRequestConflict</Code><Message>try again</Message></Error>`)
			return
		}
		next.ServeHTTP(w, r)
	})
	mustWrite(t, c.Prefix("p"), 0, 1, 1, ltxBytes(t, 1, 300))
	if s := c.Stats(); s.Put != 2 || s.Errors != 1 {
		t.Errorf("stats %+v, want 2 puts and 1 error", s)
	}
}

func TestAFailingSourceLeavesNoObject(t *testing.T) {
	f := newFakeS3(t)
	c := newClient(t, Config{Bucket: testBucket, Endpoint: f.url, Anonymous: true, PartSize: minPartSize})
	broken := errors.New("the compactor failed")
	for name, size := range map[string]int{"in the header": 10, "in the first part": 1 << 20, "in a later part": minPartSize + 1<<20} {
		for _, level := range []int{0, 1} {
			t.Run(name, func(t *testing.T) {
				pr, pw := io.Pipe()
				go func() {
					_, err := pw.Write(ltxBytes(t, 1, size)[:size])
					_ = pw.CloseWithError(errors.Join(err, broken))
				}()
				_, err := c.Prefix("p").WriteLTXFile(t.Context(), level, 1, 1, pr)
				if !errors.Is(err, broken) {
					t.Fatalf("want the source's error, got %v", err)
				}
				if l, err := c.Prefix("").Listing(t.Context(), false); err != nil || len(l.Files) != 0 {
					t.Errorf("files %v, %v", l.Files, err)
				}
			})
		}
	}
	var aborted bool
	for _, r := range f.seen() {
		aborted = aborted || r.Method == http.MethodDelete && strings.Contains(r.URL.RawQuery, "uploadId=")
	}
	if !aborted {
		t.Error("the multipart upload was not aborted")
	}
}

func TestALargeFileGoesInParts(t *testing.T) {
	f := newFakeS3(t)
	cfg := f.config()
	cfg.PartSize = minPartSize
	p := newClient(t, cfg).Prefix("p")
	t.Run("a stream", func(t *testing.T) {
		data := ltxBytes(t, 1, 2*minPartSize+12345)
		info, err := p.WriteLTXFile(t.Context(), 0, 1, 1, onlyReader{bytes.NewReader(data)})
		if err != nil {
			t.Fatal(err)
		}
		got, meta := f.object(t, "p/0000/0000000000000001-0000000000000001.ltx")
		if !bytes.Equal(got, data) || info.Size != int64(len(data)) {
			t.Errorf("stored %d bytes, reported %d, want %d", len(got), info.Size, len(data))
		}
		if meta["X-Amz-Meta-Litestream-Timestamp"] == "" {
			t.Errorf("no timestamp in %v", meta)
		}
	})
	t.Run("a stream of exactly one part", func(t *testing.T) {
		data := ltxBytes(t, 2, minPartSize)
		if _, err := p.WriteLTXFile(t.Context(), 0, 2, 2, onlyReader{bytes.NewReader(data)}); err != nil {
			t.Fatal(err)
		}
		if got, _ := f.object(t, "p/0000/0000000000000002-0000000000000002.ltx"); !bytes.Equal(got, data) {
			t.Errorf("stored %d bytes, want %d", len(got), len(data))
		}
	})
	t.Run("a seekable source, from where it stands", func(t *testing.T) {
		data := ltxBytes(t, 3, singlePutMax+1)
		r := bytes.NewReader(append([]byte("skipped"), data...))
		_, _ = r.Seek(7, io.SeekStart)
		if _, err := p.WriteLTXFile(t.Context(), 1, 3, 3, r); err != nil {
			t.Fatal(err)
		}
		if got, _ := f.object(t, "p/0001/0000000000000003-0000000000000003.ltx"); !bytes.Equal(got, data) {
			t.Errorf("stored %d bytes, want %d", len(got), len(data))
		}
	})
	t.Run("what is there is not sent again", func(t *testing.T) {
		before := len(f.seen())
		_, err := p.WriteLTXFile(t.Context(), 0, 1, 1, onlyReader{bytes.NewReader(ltxBytes(t, 9, minPartSize))})
		if !errors.Is(err, fs.ErrExist) {
			t.Errorf("want fs.ErrExist, got %v", err)
		}
		if n := len(f.seen()) - before; n != 1 {
			t.Errorf("%d requests, want only the one that finds it", n)
		}
	})
	t.Run("a completion whose answer was lost", func(t *testing.T) {
		var lost atomic.Bool
		f.setFault(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			if r.Method == http.MethodPost && r.URL.Query().Has("uploadId") && lost.CompareAndSwap(false, true) {
				next.ServeHTTP(httptest.NewRecorder(), r)
				hijack(w)
				return
			}
			next.ServeHTTP(w, r)
		})
		for _, level := range []int{0, 1} {
			lost.Store(false)
			if _, err := p.WriteLTXFile(t.Context(), level, 8, 8, onlyReader{bytes.NewReader(ltxBytes(t, 8, minPartSize+1))}); err != nil {
				t.Errorf("level %d: %v", level, err)
			}
			if !lost.Load() {
				t.Error("no answer was lost")
			}
		}
	})
}

func TestAFileThatAppearsDuringAnUploadInPartsIsLeftAlone(t *testing.T) {
	f := newFakeS3(t) // which ignores the condition of a completion
	cfg := f.config()
	cfg.PartSize = minPartSize
	p := newClient(t, cfg).Prefix("p")
	key, foreign := "p/0009/0000000000000001-0000000000000001.ltx", ltxBytes(t, 2, 300)
	f.setFault(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if r.URL.Query().Get("partNumber") == "2" {
			f.put(t, key, foreign)
		}
		next.ServeHTTP(w, r)
	})
	_, err := p.WriteLTXFile(t.Context(), 9, 1, 1, onlyReader{bytes.NewReader(ltxBytes(t, 1, minPartSize+1))})
	if !errors.Is(err, fs.ErrExist) {
		t.Errorf("want fs.ErrExist, got %v", err)
	}
	if got, _ := f.object(t, key); !bytes.Equal(got, foreign) {
		t.Error("the other writer's file was touched")
	}
}

func TestEncryptionAndStorageClassAreAskedFor(t *testing.T) {
	const customer = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
	for name, tc := range map[string]struct {
		change func(*Config)
		want   map[string]string
	}{
		"storage class": {func(c *Config) { c.StorageClass = "STANDARD_IA" }, map[string]string{"X-Amz-Storage-Class": "STANDARD_IA"}},
		"AES256":        {func(c *Config) { c.SSE = "AES256" }, map[string]string{"X-Amz-Server-Side-Encryption": "AES256"}},
		"aws:kms":       {func(c *Config) { c.SSE = "aws:kms" }, map[string]string{"X-Amz-Server-Side-Encryption": "aws:kms"}},
		"a KMS key": {func(c *Config) { c.SSEKMSKeyID = "alias/k" }, map[string]string{
			"X-Amz-Server-Side-Encryption": "aws:kms", "X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id": "alias/k"}},
		"a customer key": {func(c *Config) { c.SSECustomerKey = customer }, map[string]string{
			"X-Amz-Server-Side-Encryption-Customer-Algorithm": "AES256",
			"X-Amz-Server-Side-Encryption-Customer-Key":       customer,
			"X-Amz-Server-Side-Encryption-Customer-Key-Md5":   "KYvwGXoFFJ42a2u2GDWhwQ=="}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFakeS3(t)
			cfg := f.config()
			cfg.PartSize = minPartSize
			tc.change(&cfg)
			p := newClient(t, cfg).Prefix("p")
			mustWrite(t, p, 0, 1, 1, ltxBytes(t, 1, 300))
			if _, err := p.WriteLTXFile(t.Context(), 1, 1, 2, onlyReader{bytes.NewReader(ltxBytes(t, 1, minPartSize+1))}); err != nil {
				t.Fatal(err)
			}
			if _, err := p.OpenLTXFile(t.Context(), 0, 1, 1, 0, 0); err != nil {
				t.Fatal(err)
			}
			for _, r := range f.seen() {
				customerKey := cfg.SSECustomerKey != "" && (r.Method == http.MethodGet || r.Method == http.MethodHead || r.URL.Query().Has("partNumber"))
				creates := r.Method == http.MethodPut && !r.URL.Query().Has("partNumber") || r.URL.Query().Has("uploads")
				if !customerKey && !creates {
					continue
				}
				for k, v := range tc.want {
					if got := r.Header.Get(k); got != v {
						t.Errorf("%s %s: %s is %q, want %q", r.Method, r.URL, k, got, v)
					}
				}
			}
		})
	}
}
