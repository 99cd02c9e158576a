package s3

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"testing"

	"github.com/superfly/ltx"
)

// TestAnAnswerThatNoStoreGivesIsNeverASuccess lets a login page, or nothing,
// answer every request with 200: no listing is empty for that, no file written.
func TestAnAnswerThatNoStoreGivesIsNeverASuccess(t *testing.T) {
	for name, body := range map[string]string{
		"a page":                           "<html><body><p>Please log in.</p></body></html>",
		"nothing":                          "",
		"a listing cut nobody knows where": "<ListBucketResult><Name>backups</Name><IsTruncated>true</IsTruncated></ListBucketResult>",
	} {
		t.Run(name, func(t *testing.T) {
			f := newFakeS3(t)
			f.setFault(func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
				_, _ = io.Copy(io.Discard, r.Body)
				w.Header().Set("Content-Type", "text/html")
				_, _ = io.WriteString(w, body)
			})
			cfg := f.config()
			cfg.PartSize = minPartSize
			c := newClient(t, cfg)
			p := c.Prefix("p")
			large := func() io.Reader { return onlyReader{bytes.NewReader(ltxBytes(t, 1, minPartSize+1000))} }
			for name, do := range map[string]func() error{
				"check": func() error { return c.Check(t.Context(), "p") },
				"list":  func() error { _, err := p.AllLTXFiles(t.Context(), false); return err },
				"put": func() error {
					_, err := p.WriteLTXFile(t.Context(), 0, 1, 1, bytes.NewReader(ltxBytes(t, 1, 300)))
					return err
				},
				"overwrite": func() error {
					_, err := p.WriteLTXFile(t.Context(), 1, 1, 1, bytes.NewReader(ltxBytes(t, 1, 300)))
					return err
				},
				"put in parts":    func() error { _, err := p.WriteLTXFile(t.Context(), 1, 1, 1, large()); return err },
				"create in parts": func() error { _, err := p.WriteLTXFile(t.Context(), 0, 1, 1, large()); return err },
				"get":             func() error { _, err := p.OpenLTXFile(t.Context(), 0, 1, 1, 0, 0); return err },
				"put metadata":    func() error { return p.WriteMetadata(t.Context(), []byte("{}")) },
				"get metadata":    func() error { _, err := p.ReadMetadata(t.Context()); return err },
				"the levels": func() error {
					itr, _ := p.LTXFiles(t.Context(), 0, 0, false)
					_, err := ltx.SliceFileIterator(itr)
					return err
				},
				"the tenants": func() error {
					for _, err := range c.Dir(t.Context(), "p") {
						return err
					}
					return nil
				},
			} {
				if err := do(); !errors.Is(err, ErrUnreachable) {
					t.Errorf("%s: %v", name, err)
				}
			}
		})
	}
}

// TestAnUploadIsCompleteWhenTheStoreSaysSo answers only the completion of an
// upload in parts as no store does.
func TestAnUploadIsCompleteWhenTheStoreSaysSo(t *testing.T) {
	for name, odd := range map[string]func(*http.Request) bool{
		"the completion": func(r *http.Request) bool { return r.Method == http.MethodPost && r.URL.Query().Has("uploadId") },
		"a part":         func(r *http.Request) bool { return r.URL.Query().Get("partNumber") == "2" },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFakeS3(t)
			f.setFault(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
				if odd(r) {
					_, _ = io.Copy(io.Discard, r.Body)
					return
				}
				next.ServeHTTP(w, r)
			})
			cfg := f.config()
			cfg.PartSize = minPartSize
			_, err := newClient(t, cfg).Prefix("p").WriteLTXFile(t.Context(), 1, 1, 1, onlyReader{bytes.NewReader(ltxBytes(t, 1, minPartSize+1000))})
			if !errors.Is(err, ErrUnreachable) {
				t.Errorf("got %v", err)
			}
			if got, _ := f.object(t, "p/0001/0000000000000001-0000000000000001.ltx"); got != nil {
				t.Error("the object is there")
			}
		})
	}
}
