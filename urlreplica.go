package multidb

import (
	"fmt"
	"net/url"
	"strings"

	"github.com/benbjohnson/litestream"
	urlstore "github.com/multidb-go/multidb/internal/store/url"
)

var (
	_ ReplicaFactory  = (*URLReplica)(nil)
	_ ReplicaPrefixer = (*URLReplica)(nil)
	_ ReplicaVars     = (*URLReplica)(nil)
)

// URLReplica replicates to any storage that litestream has a client for, named
// by litestream's replica URL. It is safe for concurrent use, and so are its
// clients.
//
// The clients are litestream's own, with their limits:
//   - Each database has a client, and from its first request a connection or a
//     connection pool, of its own. That is fine for hundreds of databases, not
//     for 100,000: prefer NewS3Replica and NewFileReplica where they fit.
//   - Level 0 is not create-only. Nothing protects a prefix that two writers
//     share, such as two Managers on copies of one state directory.
//   - With file, a volume that is not mounted is read as empty and written to
//     below its mount point: NewFileReplica detects that.
//   - They implement neither FileLister nor MetadataStore, and there is no
//     Check: wrong credentials show at the first sync. Nor are there
//     ReplicaObjects, which have to be created only once.
type URLReplica struct {
	base     url.URL // Path not set
	template *Template
	redact   urlstore.Redactor
}

// NewURLReplica returns a URLReplica. The path of the URL is a template:
//
//	gs://bucket/litestream/{{project}}/{{database}}
//	sftp://user:password@host:22/backup/{{project}}/{{database}}
//	file:///backup/{{project}}/{{database}}
//
// The path is percent-encoded as in any URL, and values are encoded on their
// way into it: `litestream restore` takes what Prefix returns (plus user and
// query). Variables are expanded in the path only. On nats the path is the
// bucket, one per database.
//
// A client is registered by importing its package. multidb itself imports the
// one for file; for the others, which bring large SDKs, the program does:
//
//	import _ "github.com/benbjohnson/litestream/gs" // or abs, nats, oss, s3, sftp, webdav
//
// It does no I/O. The error wraps ErrInvalidOption and never shows what the URL
// has for user, password and query.
func NewURLReplica(urlTemplate string) (*URLReplica, error) {
	r, err := parseURLReplica(urlTemplate)
	if err != nil {
		return nil, fmt.Errorf("%w: url replica: %w", ErrInvalidOption, err)
	}
	return r, nil
}

func parseURLReplica(urlTemplate string) (*URLReplica, error) {
	if strings.HasPrefix(strings.ToLower(urlTemplate), "s3://arn:") {
		return nil, fmt.Errorf("an access point is not a URL; use WithS3 with Bucket set to its ARN")
	}
	u, err := url.Parse(urlTemplate)
	if err != nil {
		// The cause would quote the URL, or the half of a password that was
		// taken for the port.
		return nil, fmt.Errorf("not a URL; write gs://bucket/{{project}}/{{database}}, variables in the path only, special characters of user and password percent-encoded")
	}
	if err := checkReplicaURL(u); err != nil {
		return nil, err
	}
	template, err := ParseTemplate(u.Path)
	if err != nil {
		return nil, err
	}
	r := &URLReplica{base: *u, template: template, redact: urlstore.NewRedactor(u)}
	r.base.Path, r.base.RawPath = "", ""

	// Building a client is no I/O, and finds a scheme without a client, or a
	// URL without what its client needs.
	if _, err := r.newClient("multidb"); err != nil {
		return nil, err
	}
	return r, nil
}

// checkReplicaURL refuses the parts that would be ignored, or expand to the
// same text for every database. Braces in host and user are no URL at all.
func checkReplicaURL(u *url.URL) error {
	switch {
	case u.Scheme == "":
		return fmt.Errorf("no scheme; write gs://bucket/{{project}}/{{database}}")
	case u.Opaque != "":
		return fmt.Errorf("no // after %s:; write %s://…", u.Scheme, u.Scheme)
	case u.Fragment != "":
		return fmt.Errorf("it has a fragment; write %%23 for a # in the path")
	case strings.Contains(u.RawQuery, "{{"):
		return fmt.Errorf("variables are expanded in the path only")
	case u.Scheme == "file" && u.Host != "":
		return fmt.Errorf("a file URL has no host; write file:///%s%s", u.Host, u.Path)
	case u.Scheme == "file" && u.RawQuery != "":
		return fmt.Errorf("a file URL has no query; write %%3F for a ? in the path")
	}
	return nil
}

// Prefix returns the URL of the database without user, password and query.
func (r *URLReplica) Prefix(db Database) (string, error) {
	path, err := r.expand(db)
	if err != nil {
		return "", err
	}
	u := url.URL{Scheme: r.base.Scheme, Host: r.base.Host, Path: "/" + path}
	return u.String(), nil
}

// Vars returns the variables of the path template.
func (r *URLReplica) Vars() []string { return r.template.Vars() }

// ReplicaClient returns a new client of the database's prefix. It does no I/O;
// the client connects at its first request, and stays connected.
func (r *URLReplica) ReplicaClient(db Database) (litestream.ReplicaClient, error) {
	path, err := r.expand(db)
	if err != nil {
		return nil, err
	}
	client, err := r.newClient(path)
	if err != nil {
		return nil, fmt.Errorf("url replica: %w", err)
	}
	return urlstore.NewClient(client, r.redact), nil
}

func (r *URLReplica) expand(db Database) (string, error) {
	path, err := r.template.Expand(db)
	if err != nil {
		return "", fmt.Errorf("url replica: %w", err)
	}
	return path, nil
}

// newClient returns litestream's client for a path, which is not encoded.
func (r *URLReplica) newClient(path string) (litestream.ReplicaClient, error) {
	u := r.base
	u.Path = "/" + path
	client, err := litestream.NewReplicaClientFromURL(u.String())
	if err == nil {
		return client, nil
	}
	// litestream has no way to ask which schemes are registered; a test checks
	// that its error still reads like this.
	if err.Error() == fmt.Sprintf("unsupported replica URL scheme: %q", u.Scheme) {
		return nil, noClientError(u.Scheme)
	}
	return nil, r.redact.Clean(err)
}

// noClientError says which import is missing.
func noClientError(scheme string) error {
	pkg := scheme
	switch scheme {
	case "abs", "gs", "nats", "oss", "s3", "sftp", "webdav":
	case "webdavs":
		pkg = "webdav"
	default:
		return fmt.Errorf("there is no client for %q; the schemes are abs, file, gs, nats, oss, s3, sftp, webdav and webdavs", scheme)
	}
	return fmt.Errorf("the client for %s is not linked in; add import _ %q", scheme, "github.com/benbjohnson/litestream/"+pkg)
}
