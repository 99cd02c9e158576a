package multidb_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/benbjohnson/litestream"
	"github.com/superfly/ltx"

	"github.com/multidb-go/multidb"
)

// registerSpy registers a client for a scheme of the test's own and returns
// what it was last asked for.
func registerSpy(t *testing.T, scheme string, client litestream.ReplicaClient) *spyRequest {
	t.Helper()
	req := &spyRequest{}
	litestream.RegisterReplicaClientFactory(scheme, func(scheme, host, path string, query url.Values, user *url.Userinfo) (litestream.ReplicaClient, error) {
		*req = spyRequest{scheme, host, path, query, user}
		if host == "" {
			return nil, errors.New("host required")
		}
		return client, nil
	})
	return req
}

type spyRequest struct {
	scheme, host, path string
	query              url.Values
	user               *url.Userinfo
}

func TestValuesReachAURLReplicaAsTheyAre(t *testing.T) {
	req := registerSpy(t, "spyvalues", nil)
	r, err := multidb.NewURLReplica("spyvalues://me:s%40cret@bucket:99/lite%20stream/{{ project }}/{{database}}/?endpoint=x")
	if err != nil {
		t.Fatal(err)
	}
	if got := r.Vars(); !slices.Equal(got, []string{"project", "database"}) {
		t.Errorf("vars %v", got)
	}
	for value, stored := range map[string]string{
		"acme":       "acme",
		"a b":        "a b",
		"a+b":        "a+b",
		"a?b#c":      "a?b#c",
		"a&b=c;d":    "a&b=c;d",
		"été":        "été",
		"{x}":        "{x}",
		"a:b@c":      "a:b@c",
		"100%":       "100%25", // as the template writes it everywhere
		"%2e%2e":     "%252e%252e",
		"*\"'<>|$~^": "*\"'<>|$~^",
	} {
		db := multidb.Database{ID: "x", Path: "/x.db", Vars: []multidb.Var{{Name: "project", Value: value}, {Name: "database", Value: "main"}}}
		if _, err := r.ReplicaClient(db); err != nil {
			t.Errorf("%q: %v", value, err)
			continue
		}
		if want := "lite stream/" + stored + "/main"; req.path != want {
			t.Errorf("%q: the client's path is %q, want %q", value, req.path, want)
		}
		password, _ := req.user.Password()
		if req.host != "bucket:99" || req.user.Username() != "me" || password != "s@cret" || req.query.Get("endpoint") != "x" {
			t.Errorf("%q: the client was given %+v", value, req)
		}
		prefix, err := r.Prefix(db)
		if err != nil {
			t.Fatal(err)
		}
		u, err := url.Parse(prefix)
		if err != nil || u.Path != "/"+req.path || u.User != nil || u.RawQuery != "" || u.Host != "bucket:99" {
			t.Errorf("%q: prefix %q, %v", value, prefix, err)
		}
	}
	for _, value := range []string{"", "..", "a/b", "a\nb"} {
		db := multidb.Database{ID: "x", Path: "/x.db", Vars: []multidb.Var{{Name: "project", Value: value}, {Name: "database", Value: "main"}}}
		if _, err := r.ReplicaClient(db); err == nil {
			t.Errorf("the value %q was taken", value)
		}
	}
}

func TestAPasswordMayHaveBraces(t *testing.T) {
	req := registerSpy(t, "spybraces", nil)
	if _, err := multidb.NewURLReplica("spybraces://me:%7B%7Bx%7D%7D@bucket/{{project}}"); err != nil {
		t.Fatal(err)
	}
	if password, _ := req.user.Password(); password != "{{x}}" {
		t.Errorf("the password is %q", password)
	}
}

func TestASchemeWithoutAClientNamesTheImport(t *testing.T) {
	for scheme, want := range map[string]string{
		"gs":      `_ "github.com/benbjohnson/litestream/gs"`,
		"sftp":    `_ "github.com/benbjohnson/litestream/sftp"`,
		"webdav":  `_ "github.com/benbjohnson/litestream/webdav"`,
		"webdavs": `_ "github.com/benbjohnson/litestream/webdav"`,
		"ftp":     "the schemes are",
	} {
		_, err := multidb.NewURLReplica(scheme + "://user@bucket/{{project}}")
		if !errors.Is(err, multidb.ErrInvalidOption) || !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%s: error is %v, want ErrInvalidOption with %s", scheme, err, want)
		}
	}
}

func TestAWrongReplicaURLIsRefusedAndKeepsItsSecrets(t *testing.T) {
	registerSpy(t, "spywrong", nil)
	for _, raw := range []string{
		"",
		"/backup/{{project}}",
		"file://backup/{{project}}",
		"file:///backup/{{project}}?x=hunter2",
		"file:backup/{{project}}",
		"file:///",
		"spywrong://bucket",
		"spywrong://bucket/{{project",
		"spywrong://bucket/{project}",
		"spywrong://bucket/../{{project}}",
		"spywrong://{{project}}/x",
		"spywrong://me:hunter2@{{project}}/x",
		"spywrong://me:hunter2{{project}}@bucket/x",
		"spywrong://{{project}}:hunter2@bucket/x",
		"spywrong://me:hun/ter2@bucket/{{project}}",
		"spywrong://me:hunter2@bucket/{{project}}#fragment",
		"spywrong://me:hunter2@bucket/%zz",
		"spywrong://me:hunter2%@bucket/{{project}}",
		"spywrong://me:hunter2@bucket:port/{{project}}",
		"spywrong://me:hunter2@bucket/{{project}}?key={{database}}",
		"spywrong://me:hunter2@/{{project}}",
		"unknown://me:hunter2@bucket/{{project}}?token=hunter2",
		"s3://arn:aws:s3:us-east-1:1:accesspoint/a/{{project}}",
	} {
		_, err := multidb.NewURLReplica(raw)
		if !errors.Is(err, multidb.ErrInvalidOption) {
			t.Errorf("%s: error is %v, want ErrInvalidOption", raw, err)
			continue
		}
		if text := err.Error(); strings.Contains(text, "hunter2") || strings.Contains(text, "ter2") || strings.Contains(text, "hun") {
			t.Errorf("%s: the secret shows in %q", raw, text)
		}
	}
}

// leakyClient fails with its URL's password in every message.
type leakyClient struct{ err error }

func (c leakyClient) Type() string               { return "leaky" }
func (c leakyClient) SetLogger(*slog.Logger)     {}
func (c leakyClient) Init(context.Context) error { return c.err }
func (c leakyClient) LTXFiles(_ context.Context, level int, _ ltx.TXID, _ bool) (ltx.FileIterator, error) {
	if level == 1 {
		return leakyIterator{ltx.NewFileInfoSliceIterator(nil), c.err}, nil
	}
	return nil, c.err
}
func (c leakyClient) OpenLTXFile(context.Context, int, ltx.TXID, ltx.TXID, int64, int64) (io.ReadCloser, error) {
	return nil, c.err
}
func (c leakyClient) WriteLTXFile(context.Context, int, ltx.TXID, ltx.TXID, io.Reader) (*ltx.FileInfo, error) {
	return nil, c.err
}
func (c leakyClient) DeleteLTXFiles(context.Context, []*ltx.FileInfo) error { return c.err }
func (c leakyClient) DeleteAll(context.Context) error                       { return c.err }

type leakyIterator struct {
	ltx.FileIterator
	err error
}

func (i leakyIterator) Err() error   { return i.err }
func (i leakyIterator) Close() error { return i.err }

func TestAClientsErrorsDoNotShowTheSecretsOfItsURL(t *testing.T) {
	cause := errors.New("refused")
	leak := fmt.Errorf("dial spyleak://me:s%%40cret@host/ (password s@cret, key k/1): %w", cause)
	registerSpy(t, "spyleak", leakyClient{leak})
	r, err := multidb.NewURLReplica("spyleak://me:s%40cret@host/{{project}}?sseCustomerKey=k/1")
	if err != nil {
		t.Fatal(err)
	}
	c, ctx := replicaClient(t, r, acme), t.Context()
	itr, err := c.LTXFiles(ctx, 1, 0, false)
	if err != nil {
		t.Fatal(err)
	}
	errs := map[string]error{"Init": c.Init(ctx), "DeleteAll": c.DeleteAll(ctx), "DeleteLTXFiles": c.DeleteLTXFiles(ctx, nil),
		"iterator Err": itr.Err(), "iterator Close": itr.Close()}
	_, errs["LTXFiles"] = c.LTXFiles(ctx, 0, 0, false)
	_, errs["OpenLTXFile"] = c.OpenLTXFile(ctx, 0, 1, 1, 0, 0)
	_, errs["WriteLTXFile"] = c.WriteLTXFile(ctx, 0, 1, 1, bytes.NewReader(ltxBytes(t, 1, time.UnixMilli(0))))
	for call, err := range errs {
		if !errors.Is(err, cause) {
			t.Errorf("%s: error is %v, want one that is its cause", call, err)
		}
		for e := err; e != nil; e = errors.Unwrap(e) {
			if text := e.Error(); strings.Contains(text, "s@cret") || strings.Contains(text, "s%40cret") || strings.Contains(text, "k/1") {
				t.Errorf("%s shows %q", call, text)
			}
		}
		if err != nil && !strings.Contains(err.Error(), "dial spyleak://me:…@host/") {
			t.Errorf("%s hides too much: %v", call, err)
		}
	}
}

func TestAURLReplicaOfFilesIsWhereStockLitestreamLooks(t *testing.T) {
	base := "file://" + t.TempDir()
	r, err := multidb.NewURLReplica(base + "/{{project}}/{{database}}")
	if err != nil {
		t.Fatal(err)
	}
	db := multidb.Database{ID: "a", Path: "/a.db", Vars: []multidb.Var{{Name: "project", Value: "a b?"}, {Name: "database", Value: "c%d"}}}
	putLTX(t, replicaClient(t, r, db), 0, 1)
	prefix, err := r.Prefix(db)
	if err != nil {
		t.Fatal(err)
	}
	stock, err := litestream.NewReplicaClientFromURL(prefix)
	if err != nil {
		t.Fatal(err)
	}
	itr, err := stock.LTXFiles(t.Context(), 0, 0, false)
	if err != nil {
		t.Fatal(err)
	}
	if infos, err := ltx.SliceFileIterator(itr); err != nil || len(infos) != 1 {
		t.Errorf("stock litestream finds %d files at %s, %v; want 1", len(infos), prefix, err)
	}
}
