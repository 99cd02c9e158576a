package s3

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// perform makes a request of each kind.
func perform(t *testing.T, p *Prefix) {
	t.Helper()
	mustWrite(t, p, 0, 1, 1, ltxBytes(t, 1, 300))
	if _, err := p.WriteLTXFile(t.Context(), 9, 1, 1, onlyReader{bytes.NewReader(ltxBytes(t, 1, minPartSize+1))}); err != nil {
		t.Fatal(err)
	}
	if err := p.WriteMetadata(t.Context(), []byte("{}")); err != nil {
		t.Fatal(err)
	}
	l, err := p.Listing(t.Context(), true)
	if err != nil || len(l.Files) != 2 {
		t.Fatalf("%v, %v", l, err)
	}
	rc, err := p.OpenLTXFile(t.Context(), 9, 1, 1, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := rc.Close(); err != nil {
		t.Fatal(err)
	}
	if err := p.DeleteLTXFiles(t.Context(), l.Files); err != nil {
		t.Fatal(err)
	}
}

func TestAcceptEncodingIsSentAndNotSigned(t *testing.T) {
	f := newFakeS3(t)
	cfg := f.config()
	cfg.PartSize = minPartSize
	c := unsureClient(t, cfg)
	perform(t, c.Prefix("p"))
	if err := c.Check(t.Context(), "p"); err != nil {
		t.Error(err)
	}
	kinds := map[string]bool{}
	for _, r := range f.seen() {
		kinds[r.Method] = true
		auth := r.Header.Get("Authorization")
		if !strings.Contains(auth, "SignedHeaders=") || strings.Contains(auth, "accept-encoding") {
			t.Errorf("%s %s: %s", r.Method, r.URL, auth)
		}
		if got := r.Header.Get("Accept-Encoding"); got != "identity" {
			t.Errorf("%s %s: Accept-Encoding %q", r.Method, r.URL, got)
		}
	}
	if len(kinds) != 5 { // PUT, POST, GET, HEAD, DELETE
		t.Errorf("only %v were seen", kinds)
	}
	cfg = Config{Bucket: testBucket, Endpoint: f.url, Anonymous: true}
	mustWrite(t, newClient(t, cfg).Prefix("q"), 0, 1, 1, ltxBytes(t, 1, 300)) // has nothing to sign
}

func hasSum(r *http.Request) bool {
	for name := range r.Header {
		if strings.HasPrefix(name, "X-Amz-Checksum-") {
			return true
		}
	}
	return r.Header.Get("Content-Md5") != ""
}

func writesBody(r *http.Request) bool { return r.Method == http.MethodPut }

func TestABucketThatWantsAChecksumGetsOne(t *testing.T) {
	for name, answer := range map[string]string{
		"AWS":   "<Error><Code>InvalidRequest</Code><Message>Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests with Object Lock parameters</Message></Error>",
		"MinIO": "<Error><Code>MissingContentMD5</Code><Message>Missing required header for this request: Content-Md5.</Message></Error>",
	} {
		t.Run(name, func(t *testing.T) {
			f := newFakeS3(t)
			refused := 0
			f.setFault(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
				if writesBody(r) && !hasSum(r) {
					refused++
					_, _ = io.Copy(io.Discard, r.Body) // or a large one is cut off, and its answer with it
					w.WriteHeader(http.StatusBadRequest)
					_, _ = io.WriteString(w, answer)
					return
				}
				next.ServeHTTP(w, r)
			})
			cfg := f.config()
			cfg.PartSize = minPartSize
			c := unsureClient(t, cfg)
			if err := c.Check(t.Context(), ""); err != nil {
				t.Error(err)
			}
			perform(t, c.Prefix("p"))
			if refused != 1 {
				t.Errorf("%d requests were refused, want the first alone", refused)
			}
			for name, do := range map[string]func(*Client) error{
				"metadata": func(c *Client) error { return c.Prefix("q").WriteMetadata(t.Context(), []byte("{}")) },
				"file":     func(c *Client) error { return writes(c.Prefix("q"), ltxBytes(t, 1, 300))(t.Context()) },
				"parts": func(c *Client) error {
					_, err := c.Prefix("q").WriteLTXFile(t.Context(), 9, 1, 1, onlyReader{bytes.NewReader(ltxBytes(t, 1, minPartSize+1))})
					return err
				},
			} {
				if err := do(newClient(t, cfg)); err != nil {
					t.Errorf("%s, written first: %v", name, err)
				}
			}
		})
	}
	t.Run("one that is refused for something else", func(t *testing.T) {
		f := newFakeS3(t)
		f.setFault(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, "<Error><Code>InvalidRequest</Code><Message>it is odd</Message></Error>")
		})
		c := newClient(t, f.config())
		err := writes(c.Prefix("p"), ltxBytes(t, 1, 300))(t.Context())
		if err == nil || !strings.Contains(err.Error(), "400 InvalidRequest: it is odd") || c.sums.Load() {
			t.Errorf("got %v", err)
		}
	})
}

func TestChecksumsFollowTheEnvironmentAndTheSharedConfig(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(file, []byte("[default]\nrequest_checksum_calculation = when_supported\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		env, file string
		want      bool
	}{
		"nothing said":              {want: false},
		"the environment":           {env: "when_supported", want: true},
		"the environment, required": {env: "when_required", file: file, want: false},
		"the shared config":         {file: file, want: true},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFakeS3(t)
			c := newClient(t, f.config())
			if tc.env != "" {
				t.Setenv("AWS_REQUEST_CHECKSUM_CALCULATION", tc.env)
			}
			if tc.file != "" {
				t.Setenv("AWS_CONFIG_FILE", tc.file)
			}
			mustWrite(t, c.Prefix("p"), 0, 1, 1, ltxBytes(t, 1, 300))
			if got := hasSum(f.seen()[0]); got != tc.want {
				t.Errorf("a checksum: %v, want %v", got, tc.want)
			}
		})
	}
}

func TestAnAccessPointIsABucket(t *testing.T) {
	var host string
	for bucket, want := range map[string]string{
		"arn:aws:s3:eu-west-1:123456789012:accesspoint/backups":                               "backups-123456789012.s3-accesspoint.eu-west-1.amazonaws.com/p/metadata.json",
		"arn:aws:s3:eu-west-1:123456789012:accesspoint:backups":                               "backups-123456789012.s3-accesspoint.eu-west-1.amazonaws.com/p/metadata.json",
		"arn:aws:s3-outposts:us-west-2:123456789012:outpost/op-0123456789/accesspoint/backup": "backup-123456789012.op-0123456789.s3-outposts.us-west-2.amazonaws.com/p/metadata.json",
	} {
		for _, region := range []string{"", "us-east-2"} { // that in the ARN goes before
			c := newClient(t, Config{Bucket: bucket, Region: region, AccessKeyID: "k", SecretAccessKey: "topsecret", MaxAttempts: 1})
			c.through = func(http.RoundTripper) http.RoundTripper {
				return roundTrip(func(r *http.Request) (*http.Response, error) {
					host = r.URL.Host + r.URL.Path
					if auth, region := r.Header.Get("Authorization"), strings.Split(bucket, ":")[3]; !strings.Contains(auth, "/"+region+"/") && !strings.HasPrefix(auth, "AWS4-ECDSA-P256-SHA256 ") { // the latter for any region
						t.Errorf("signed as %s", auth)
					}
					return nil, errors.New("not sent")
				})
			}
			host = ""
			_, err := c.Prefix("p").ReadMetadata(t.Context())
			if host != want {
				t.Errorf("%s: %q, want %q (%v)", bucket, host, want, err)
			}
		}
	}
	for bucket, change := range map[string]func(*Config){
		"arn:aws:s3:::bucket":                               func(*Config) {},
		"arn:aws:iam::123456789012:user/x":                  func(*Config) {},
		"arn:aws:s3:eu-west-1:123456789012:accesspoint":     func(*Config) {},
		"arn:aws:s3:eu-west-1:123456789012:accesspoint/a":   func(c *Config) { c.ForcePathStyle = true },
		"arn:aws:s3:eu-west-1:123456789012:accesspoint/b":   func(c *Config) { c.Endpoint = "http://127.0.0.1:1" },
		"arn:aws:s3:eu-west-1:123456789012:accesspoint/c":   func(c *Config) { c.Accelerate = true },
		"arn:aws:s3:eu-west-1:123456789012:accesspoint/d/e": func(*Config) {},
	} {
		cfg := Config{Bucket: bucket}
		change(&cfg)
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: no error", bucket)
		}
	}
}

func TestAnArchivedObjectIsToldFromADeniedOne(t *testing.T) {
	f := newFakeS3(t)
	f.setFault(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if r.Method == http.MethodGet && !r.URL.Query().Has("list-type") {
			w.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(w, "<Error><Code>InvalidObjectState</Code><Message>The operation is not valid for the object's storage class</Message><StorageClass>DEEP_ARCHIVE</StorageClass></Error>")
			return
		}
		next.ServeHTTP(w, r)
	})
	_, err := newClient(t, f.config()).Prefix("p").OpenLTXFile(t.Context(), 0, 1, 1, 0, 0)
	if !errors.Is(err, ErrArchived) || errors.Is(err, ErrAccessDenied) || isMissing(err) || !strings.Contains(err.Error(), "archived") || !strings.Contains(err.Error(), "DEEP_ARCHIVE") {
		t.Errorf("got %v", err)
	}
}
