//go:build interop

package interop

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"
)

// gateway is a running versitygw with one bucket.
type gateway struct {
	endpoint  string
	bucket    string
	accessKey string
	secretKey string
	region    string
}

// startGateway runs versitygw over a folder of the test, until the test ends.
func startGateway(t *testing.T) *gateway {
	t.Helper()
	path := program(t, "MULTIDB_VERSITYGW")
	dir := t.TempDir()
	g := &gateway{bucket: "fleet", accessKey: "interop", secretKey: "interop-secret", region: "us-east-1"}
	objects, sidecar := filepath.Join(dir, "objects"), filepath.Join(dir, "sidecar")
	for _, d := range []string{filepath.Join(objects, g.bucket), sidecar} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	// Between our finding a free port and its listening somebody may take it.
	for attempt := 1; ; attempt++ {
		addr := freeAddr(t)
		// The sidecar makes it work where the file system has no extended attributes.
		cmd := exec.Command(path, "--port", addr, "--region", g.region, "--quiet",
			"posix", "--sidecar", sidecar, objects)
		// An environment of its own: versitygw takes options from VGW_ variables.
		cmd.Env = []string{"ROOT_ACCESS_KEY=" + g.accessKey, "ROOT_SECRET_KEY=" + g.secretKey}
		out, err := serve(t, cmd, addr)
		if err == nil {
			g.endpoint = "http://" + addr
			return g
		}
		if attempt == 3 {
			t.Fatalf("versitygw on %s: %v\n%s", addr, err, out)
		}
	}
}

// serve starts cmd, waits until it answers on addr, and ends it with the test.
// If it does not come to answer, it is ended at once and its output returned.
func serve(t *testing.T, cmd *exec.Cmd, addr string) (string, error) {
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
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have exited
		select {
		case <-exited:
		case <-time.After(10 * time.Second):
			_ = cmd.Process.Kill()
			<-exited
		}
	}
	if err := awaitAnswer(t.Context(), addr, exited); err != nil {
		stop()
		return out.String(), err
	}
	t.Cleanup(stop)
	return "", nil
}

// awaitAnswer waits until something accepts connections on addr, for 30 s at
// most, or until exited is closed.
func awaitAnswer(ctx context.Context, addr string, exited <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-tick.C:
		case <-exited:
			return errors.New("the process ended")
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		}
	}
}

// freeAddr is a loopback address that nothing listened on a moment ago.
func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return addr
}

// client is the AWS SDK's own, none of ours.
func (g *gateway) client(t *testing.T, secret string) *s3.Client {
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return s3.New(s3.Options{
		BaseEndpoint: &g.endpoint,
		Credentials:  credentials.NewStaticCredentialsProvider(g.accessKey, secret, ""),
		HTTPClient:   &http.Client{Transport: transport},
		Region:       g.region,
		UsePathStyle: true,
	})
}

func TestTheGatewayIsAnS3ThatChecksSignaturesAndCreatesOnlyOnce(t *testing.T) {
	g := startGateway(t)
	client := g.client(t, g.secretKey)
	if _, err := client.HeadBucket(t.Context(), &s3.HeadBucketInput{Bucket: &g.bucket}); err != nil {
		t.Fatalf("the bucket is not there: %v", err)
	}
	put := func(c *s3.Client, body string) error {
		_, err := c.PutObject(t.Context(), &s3.PutObjectInput{
			Bucket: &g.bucket, Key: aws.String("a/b"), IfNoneMatch: aws.String("*"),
			Body: strings.NewReader(body),
		})
		return err
	}
	for _, step := range []struct {
		name   string
		client *s3.Client
		want   string
	}{
		{"a wrong secret", g.client(t, "wrong"), "SignatureDoesNotMatch"},
		{"a new key", client, ""},
		{"a key that exists", client, "PreconditionFailed"},
	} {
		var code string
		var apiErr smithy.APIError
		if err := put(step.client, step.name); errors.As(err, &apiErr) {
			code = apiErr.ErrorCode()
		} else if err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		if code != step.want {
			t.Errorf("%s: error code %q, want %q", step.name, code, step.want)
		}
	}
}
