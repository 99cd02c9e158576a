package s3

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestCheckPassesAndLeavesNothing(t *testing.T) {
	f := newFakeS3(t)
	c := newClient(t, f.config())
	if err := c.Check(t.Context(), "litestream/"); err != nil {
		t.Fatal(err)
	}
	if got, _ := f.object(t, "litestream/.multidb-check"); got != nil {
		t.Error("the object it writes is still there")
	}
}

func TestCheckSaysWhatToFix(t *testing.T) {
	answer := func(status int, code string, header ...string) func(http.ResponseWriter, *http.Request, http.Handler) {
		return func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
			for i := 0; i+1 < len(header); i += 2 {
				w.Header().Set(header[i], header[i+1])
			}
			w.WriteHeader(status)
			if code != "" && r.Method != http.MethodHead {
				_, _ = io.WriteString(w, "<Error><Code>"+code+"</Code><Message>two\nlines, topsecret</Message></Error>")
			}
		}
	}
	onMethod := func(method string, fault func(http.ResponseWriter, *http.Request, http.Handler)) func(http.ResponseWriter, *http.Request, http.Handler) {
		return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			if r.Method == method {
				fault(w, r, next)
				return
			}
			next.ServeHTTP(w, r)
		}
	}
	for name, tc := range map[string]struct {
		fault  func(http.ResponseWriter, *http.Request, http.Handler)
		change func(*testing.T, *Config)
		kind   error
		text   string
	}{
		"a bucket that does not exist": {change: func(_ *testing.T, c *Config) { c.Bucket = "missing" }, kind: ErrNoBucket, text: `bucket "missing" does not exist at http://127.0.0.1:`},
		"an endpoint that is no store": {fault: answer(404, ""), kind: ErrNoBucket, text: "Endpoint is no S3 store"},
		"an unknown access key":        {fault: answer(403, "InvalidAccessKeyId"), kind: ErrAccessDenied, text: "correct AccessKeyID"},
		"a wrong secret":               {fault: answer(403, "SignatureDoesNotMatch"), kind: ErrAccessDenied, text: "correct SecretAccessKey"},
		"an expired token":             {fault: answer(400, "ExpiredToken"), kind: ErrAccessDenied, text: "renew SessionToken"},
		"a wrong clock":                {fault: answer(403, "RequestTimeTooSkewed"), kind: ErrAccessDenied, text: "clock"},
		"a denied listing":             {fault: answer(403, "AccessDenied"), kind: ErrAccessDenied, text: `denies access to bucket "backups" (AccessDenied)`},
		"a denied write":               {fault: onMethod(http.MethodPut, answer(403, "AccessDenied")), kind: ErrAccessDenied, text: "check by writing"},
		"a denied delete":              {fault: onMethod(http.MethodDelete, answer(403, "AccessDenied")), kind: ErrAccessDenied, text: "check by deleting"},
		"a wrong region":               {fault: answer(301, "PermanentRedirect", "X-Amz-Bucket-Region", "eu-west-3"), kind: ErrWrongRegion, text: `in "eu-west-3": correct Region`},
		"another wrong region":         {fault: answer(400, "AuthorizationHeaderMalformed"), kind: ErrWrongRegion, text: "correct Region"},
		"a throttling store":           {fault: answer(503, "SlowDown"), kind: ErrThrottled, text: "throttles"},
		"a server error":               {fault: answer(500, "InternalError"), text: "answered 500 InternalError: two lines, [secret]"},
		"a refused connection": {change: func(t *testing.T, c *Config) {
			srv := httptest.NewServer(http.NotFoundHandler())
			c.Endpoint = srv.URL
			srv.Close()
		}, kind: ErrUnreachable, text: "refuses connections: start the server, or correct Endpoint"},
		"a host that does not exist": {change: func(_ *testing.T, c *Config) { c.Endpoint = "http://host.invalid"; c.ForcePathStyle = true }, kind: ErrUnreachable, text: "correct Endpoint"},
		"TLS where there is none":    {change: func(_ *testing.T, c *Config) { c.Endpoint = strings.Replace(c.Endpoint, "http:", "https:", 1) }, kind: ErrUnreachable, text: "write http:// in Endpoint"},
		"an untrusted certificate": {change: func(t *testing.T, c *Config) {
			srv := httptest.NewUnstartedServer(http.NotFoundHandler())
			srv.Config.ErrorLog = discardLog()
			srv.StartTLS()
			t.Cleanup(srv.Close)
			c.Endpoint = srv.URL
		}, kind: ErrUnreachable, text: "AWS_CA_BUNDLE"},
		"no credentials": {change: func(_ *testing.T, c *Config) { c.AccessKeyID, c.SecretAccessKey = "", "" }, kind: ErrNoCredentials, text: "set AccessKeyID"},
		"a server that hangs": {fault: func(w http.ResponseWriter, r *http.Request, _ http.Handler) { <-r.Context().Done() },
			change: func(_ *testing.T, c *Config) { c.RequestTimeout = 20 * time.Millisecond }, kind: ErrUnreachable, text: "does not answer"},
		"a connection that breaks": {fault: func(w http.ResponseWriter, _ *http.Request, _ http.Handler) { hijack(w) }, kind: ErrUnreachable, text: "the connection to"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFakeS3(t)
			f.setFault(tc.fault)
			cfg := f.config()
			if tc.change != nil {
				tc.change(t, &cfg)
			}
			c := newClient(t, cfg)
			start := time.Now()
			err := c.Check(t.Context(), "p")
			if err == nil {
				t.Fatal("no error")
			}
			if d := time.Since(start); d > 5*time.Second {
				t.Errorf("took %v", d)
			}
			if tc.kind != nil && !errors.Is(err, tc.kind) {
				t.Errorf("want %v", tc.kind)
			}
			s := err.Error()
			if !strings.Contains(s, tc.text) || strings.Contains(s, "\n") || strings.Contains(s, "topsecret") || !strings.HasPrefix(s, "s3: check") {
				t.Errorf("got %s\nwant one line with %q", s, tc.text)
			}
			t.Log(s)
		})
	}
}
