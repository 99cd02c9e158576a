package multidbotel_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/goleak"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/multidbotel"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	id     = "acme/orders"
	secret = "topsecret-topsecret"
)

// store is an S3 in process; while it is away it answers 503.
type store struct {
	url  string
	away atomic.Bool
}

func newStore(t *testing.T) *store {
	t.Helper()
	backend := s3mem.New()
	if err := backend.CreateBucket("backups"); err != nil {
		t.Fatal(err)
	}
	s, fake := &store{}, gofakes3.New(backend).Server()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.away.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		fake.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	s.url = server.URL
	return s
}

// manager is one with a tenant that was written once.
func manager(t *testing.T, s *store, opts ...multidb.Option) *multidb.Manager {
	t.Helper()
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "acme"), 0o755); err != nil {
		t.Fatal(err)
	}
	m, err := multidb.New(append([]multidb.Option{
		multidb.WithDiscoverer(multidb.Glob(filepath.Join(root, "{{customer}}", "{{database}}.db"))),
		multidb.WithS3(multidb.S3Config{Bucket: "backups", Path: "litestream/{{customer}}/{{database}}", Endpoint: s.url, Region: "us-east-1",
			AccessKeyID: "AKIDSECRET", SecretAccessKey: secret, SessionToken: secret, MaxAttempts: 2}),
	}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.away.Store(false)
		if err := m.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return m
}

func write(ctx context.Context, t *testing.T, m *multidb.Manager) {
	t.Helper()
	if err := m.Do(ctx, id, func(db *sql.DB) error {
		_, err := db.ExecContext(ctx, "CREATE TABLE IF NOT EXISTS t(v); INSERT INTO t VALUES('x')")
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

// recorded is a provider, and what it has recorded.
func recorded(t *testing.T) (*sdk.TracerProvider, func() tracetest.SpanStubs) {
	t.Helper()
	exporter := tracetest.NewInMemoryExporter()
	provider := sdk.NewTracerProvider(sdk.WithSyncer(exporter))
	t.Cleanup(func() {
		if err := provider.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return provider, func() tracetest.SpanStubs {
		all := exporter.GetSpans()
		exporter.Reset()
		return all
	}
}

// named returns the first span of a name for which attr has the value; an empty attr: any.
func named(t *testing.T, all tracetest.SpanStubs, name, attr, value string) tracetest.SpanStub {
	t.Helper()
	var names []string
	for _, s := range all {
		if s.Name == name && (attr == "" || of(s, attr) == value) {
			return s
		}
		names = append(names, s.Name)
	}
	t.Fatalf("no span %s with %s=%s among %q", name, attr, value, names)
	return tracetest.SpanStub{}
}

// of returns the text of an attribute; empty: it has none.
func of(s tracetest.SpanStub, key string) string {
	for _, kv := range s.Attributes {
		if kv.Key == attribute.Key(key) {
			return kv.Value.String()
		}
	}
	return ""
}

// wants fails the test where attributes are not as wanted.
func wants(t *testing.T, s tracetest.SpanStub, want map[string]string) {
	t.Helper()
	for key, value := range want {
		if got := of(s, key); got != value {
			t.Errorf("%s: %s is %q, want %q", s.Name, key, got, value)
		}
	}
}

func TestACallIsASpanAndItsRequestsAreChildren(t *testing.T) {
	provider, spans := recorded(t)
	m := manager(t, newStore(t), multidbotel.WithTracerProvider(provider))
	ctx, caller := provider.Tracer("app").Start(t.Context(), "request of a customer")
	write(ctx, t, m)
	at, err := m.Sync(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Restore(ctx, id, multidb.RestoreOptions{OutputPath: filepath.Join(t.TempDir(), "out.db")}); err != nil {
		t.Fatal(err)
	}
	caller.End()
	all := spans()

	for _, name := range []string{"multidb.acquire", "multidb.sync", "multidb.restore"} {
		s := named(t, all, name, "", "")
		if s.Parent.SpanID() != caller.SpanContext().SpanID() || s.SpanKind != trace.SpanKindInternal || s.Status.Code != codes.Unset {
			t.Errorf("%s: parent %v, kind %v, status %v", name, s.Parent.SpanID(), s.SpanKind, s.Status)
		}
		wants(t, s, map[string]string{"db.system.name": "sqlite", "db.namespace": id, "error.type": ""})
	}
	wants(t, named(t, all, "multidb.sync", "", ""), map[string]string{"multidb.txid": at.TXID.String()})

	get := named(t, all, "S3/GetObject", "db.namespace", id)
	if get.Parent.SpanID() != named(t, all, "multidb.restore", "", "").SpanContext.SpanID() || get.SpanKind != trace.SpanKindClient {
		t.Errorf("GetObject: %+v", get)
	}
	list := named(t, all, "S3/ListObjectsV2", "multidb.s3.prefix", "litestream/acme/orders/")
	wants(t, list, map[string]string{"aws.s3.bucket": "backups", "aws.s3.key": "", "http.response.status_code": "200"})

	put := named(t, all, "S3/PutObject", "multidb.txid", at.TXID.String())
	if put.Parent.IsValid() {
		t.Errorf("the upload, which is everybody's, has a parent: %+v", put.Parent)
	}
	wants(t, put, map[string]string{
		"rpc.system.name": "aws-api", "rpc.method": "S3/PutObject", "aws.s3.bucket": "backups",
		"http.response.status_code": "200", "db.namespace": id, "http.request.resend_count": "", "error.type": ""})
	if key := of(put, "aws.s3.key"); !strings.HasPrefix(key, "litestream/acme/orders/") || !strings.HasSuffix(key, at.TXID.String()+".ltx") {
		t.Errorf("the upload: key %q", key)
	}
	if of(put, "http.request.body.size") == "" || of(get, "http.response.body.size") == "0" {
		t.Errorf("sizes: %v, %v", put.Attributes, get.Attributes)
	}
}

func TestAFailureIsTheStatusOfItsSpans(t *testing.T) {
	provider, spans := recorded(t)
	s := newStore(t)
	m := manager(t, s, multidbotel.WithTracerProvider(provider))
	if _, err := m.Acquire(t.Context(), "no such database"); !errors.Is(err, multidb.ErrNotFound) {
		t.Fatal(err)
	}
	if a := named(t, spans(), "multidb.acquire", "", ""); a.Status.Code != codes.Error || !strings.Contains(a.Status.Description, "no such database") || of(a, "error.type") != "other" {
		t.Errorf("acquire: %+v", a)
	}
	write(t.Context(), t, m)
	s.away.Store(true)
	if _, err := m.Sync(t.Context(), id); err == nil {
		t.Fatal("a store that is away took it")
	}
	all := spans()
	if s := named(t, all, "multidb.sync", "", ""); s.Status.Code != codes.Error || of(s, "error.type") != "throttled" {
		t.Errorf("sync: %+v", s)
	}
	again := named(t, all, "S3/PutObject", "http.request.resend_count", "1")
	if again.Status.Code != codes.Error || !strings.Contains(again.Status.Description, "503") {
		t.Errorf("the second attempt: %+v", again)
	}
	wants(t, again, map[string]string{"http.response.status_code": "503"})
}

func TestNoAttributeHasASecret(t *testing.T) {
	provider, spans := recorded(t)
	s := newStore(t)
	m := manager(t, s, multidbotel.WithTracerProvider(provider))
	write(t.Context(), t, m)
	s.away.Store(true)
	_, _ = m.Sync(t.Context(), id) // fails
	s.away.Store(false)
	if _, err := m.Sync(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	all := spans()
	if len(all) < 5 {
		t.Fatalf("only %d spans", len(all))
	}
	for _, sp := range all {
		text := fmt.Sprint(sp.Name, sp.Attributes, sp.Status, sp.Events)
		for _, bad := range []string{secret, "AKIDSECRET", "X-Amz", "Signature", "Authorization"} {
			if strings.Contains(text, bad) {
				t.Errorf("%s has %q: %s", sp.Name, bad, text)
			}
		}
	}
}

func TestWithoutAProviderThereIsNoSpan(t *testing.T) {
	m := manager(t, newStore(t), multidbotel.WithTracerProvider(nil))
	ctx, end := multidbotel.Tracer(nil).Start(t.Context(), multidb.Span{Name: "acquire", ID: id})
	if trace.SpanContextFromContext(ctx).IsValid() {
		t.Error("there is one")
	}
	end(multidb.SpanEnd{Err: errors.New("failed")})
	write(t.Context(), t, m)
	if _, err := m.Sync(t.Context(), id); err != nil {
		t.Fatal(err)
	}
}

func TestWhatIsNotSampledIsNotRecorded(t *testing.T) {
	exporter := tracetest.NewInMemoryExporter()
	provider := sdk.NewTracerProvider(sdk.WithSyncer(exporter), sdk.WithSampler(sdk.NeverSample()))
	_, end := multidbotel.Tracer(provider).Start(t.Context(), multidb.Span{Name: "sync", ID: id})
	end(multidb.SpanEnd{TXID: 7})
	if n := len(exporter.GetSpans()); n != 0 {
		t.Errorf("%d spans", n)
	}
}

func ExampleTracer() {
	exporter := tracetest.NewInMemoryExporter() // in a program: OTLP, with a batcher
	provider := sdk.NewTracerProvider(sdk.WithSyncer(exporter))
	dir, err := os.MkdirTemp("", "multidbotel")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.RemoveAll(dir) }()
	m, err := multidb.New(multidb.WithDiscoverer(multidb.Glob(dir+"/{{database}}.db")), multidb.WithTracer(multidbotel.Tracer(provider)))
	if err == nil {
		err = m.Start(context.Background())
	}
	if err != nil {
		fmt.Println(err)
		return
	}
	h, err := m.Acquire(context.Background(), "orders")
	if err != nil {
		fmt.Println(err)
		return
	}
	h.Release()
	fmt.Println(exporter.GetSpans()[0].Name, m.Close(context.Background()))
	// Output: multidb.acquire <nil>
}
