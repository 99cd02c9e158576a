package multidb

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/benbjohnson/litestream"
	"github.com/multidb-go/multidb/internal/store/s3"
)

var (
	_ ReplicaFactory  = (*S3Replica)(nil)
	_ ReplicaPrefixer = (*S3Replica)(nil)
	_ ReplicaVars     = (*S3Replica)(nil)
	_ ReplicaChecker  = (*S3Replica)(nil)
	_ ReplicaStats    = (*S3Replica)(nil)
	_ ReplicaObjects  = (*S3Replica)(nil)
	_ FileLister      = (*s3.Prefix)(nil)
	_ MetadataStore   = (*s3.Prefix)(nil)
	_ PrefixEraser    = (*s3.Prefix)(nil)
	_ PrefixSizer     = (*s3.Prefix)(nil)
	_ LTXCopier       = (*s3.Prefix)(nil)
)

// S3Config says where the backups are in S3, or in a store that speaks its
// protocol. Bucket and Path are required. It is a plain value; printing it
// shows no secret.
type S3Config struct {
	// Bucket is the bucket's name, or the ARN of an access point
	// ("arn:aws:s3:eu-west-1:123456789012:accesspoint/backups"). Required. It must
	// exist.
	Bucket string
	// Path is the template of a database's prefix in the bucket, such as
	// "litestream/{{project}}/{{database}}/". Required. See Template.
	Path string
	// Region of the bucket. Empty: AWS_REGION, AWS_DEFAULT_REGION or the shared
	// config file; with a custom endpoint, "us-east-1" if those are not set. The
	// region in an ARN takes precedence.
	Region string
	// Endpoint is the URL of an S3-compatible store ("http://127.0.0.1:9000"),
	// "https://" if it has no scheme. Empty: AWS_ENDPOINT_URL_S3, else AWS.
	Endpoint string

	// AccessKeyID and SecretAccessKey are static credentials. Both empty: the AWS
	// SDK's default chain (environment, shared files, web identity, ECS, EC2), read
	// at the first request.
	AccessKeyID     string
	SecretAccessKey string
	// SessionToken goes with temporary static credentials. Empty: none.
	SessionToken string
	// Profile of the shared config and credentials files. Empty: AWS_PROFILE, else
	// "default". Excludes static credentials.
	Profile string
	// Anonymous sends unsigned requests. Excludes all credentials.
	Anonymous bool

	// ForcePathStyle addresses the bucket as <endpoint>/<bucket> rather than
	// <bucket>.<endpoint>, as most self-hosted stores need. Implied where the
	// endpoint's host is an IP address or a name without a dot.
	ForcePathStyle bool
	// Accelerate uses S3 Transfer Acceleration. AWS only.
	Accelerate bool
	// StorageClass of new objects ("STANDARD_IA", …). Empty: the bucket's default.
	// "GLACIER" and "DEEP_ARCHIVE" are refused: compaction and restores read.
	StorageClass string

	// SSE is the server-side encryption of new objects: "" (the bucket's default),
	// "AES256" or "aws:kms".
	SSE string
	// SSEKMSKeyID is the KMS key of SSE "aws:kms", which it implies. Empty: the
	// account's default key.
	SSEKMSKeyID string
	// SSECustomerKey is a 256-bit key, base64 encoded, which the store encrypts
	// with and does not keep (SSE-C): without it no backup can be read. Excludes
	// SSE. Needs https, except to hosts of a private network. Empty: none.
	SSECustomerKey string

	// Concurrency bounds the requests in flight, of all databases together. When
	// the store throttles, it narrows by itself. 0: 64.
	Concurrency int
	// MaxAttempts of one request, the first included. 0: 5.
	MaxAttempts int
	// RequestTimeout bounds each attempt by its progress: it fails when no byte
	// moved for this long; after a body was sent, which buffers on its way may
	// hold, as long again for every 4 MiB of it, 8 at most. 0: 30 s.
	RequestTimeout time.Duration
	// PartSize of multipart uploads, in bytes, and the most that is buffered of
	// each snapshot or compaction being written. 5 MiB to 5 GiB; an object has at
	// most 10,000 parts. 0: 8 MiB.
	PartSize int64

	// AllowUnsafeWrites accepts a store that does not honor If-None-Match, such as
	// Google's XML interface, or that refuses it (501, 400). Each file is then
	// looked for before it is written, for one HEAD more: a second writer on a
	// prefix may be overwritten in between, and may make backups that cannot be
	// restored. So something else must ensure that there is one writer. False: writes
	// to such a store fail with ErrNoConditionalWrites, and so does Check. Where the
	// store honors it this changes nothing.
	AllowUnsafeWrites bool
	// NoDelete deletes nothing, for credentials that may not: files that the
	// retention would delete stay in the bucket, and no request is made for them. A bucket's
	// lifecycle rule must not expire files by their age: it cannot know the newest
	// file of level 0 of a tenant, nor what its newest restore needs, which may be
	// years old; see docs/OPERATIONS.md.
	NoDelete bool
}

// String returns the place, and nothing of the credentials.
func (cfg S3Config) String() string { return "s3://" + cfg.Bucket + "/" + cfg.Path }

// GoString is String, so that no verb of fmt prints a secret.
func (cfg S3Config) GoString() string { return cfg.String() }

// S3Replica keeps every database's LTX files under a prefix of one bucket, as
// litestream does: `litestream restore` reads them.
//
//	<expanded Path>/<level>/<min>-<max>.ltx
//	<expanded Path>/metadata.json
//
// All databases share one connection pool, one bound on requests, one back-off
// and one set of counters. Files are create-only (If-None-Match). A few stores
// ignore that: the first write of a process tries it out, by two PUTs and a
// DELETE of an empty object where Check has its own, and fails with
// ErrNoConditionalWrites unless AllowUnsafeWrites is set. Safe for concurrent use.
type S3Replica struct {
	client   *s3.Client
	template *Template
}

// NewS3Replica checks cfg. It does no I/O: Check does. The error wraps
// ErrInvalidOption and says what to write instead.
func NewS3Replica(cfg S3Config) (*S3Replica, error) {
	var errs []error
	if cfg.Path == "" {
		errs = append(errs, fmt.Errorf(`%w: s3 replica: Path is empty: write a template such as "litestream/{{path}}/"`, ErrInvalidOption))
	}
	template, err := ParseTemplate(cfg.Path)
	if err != nil && cfg.Path != "" {
		errs = append(errs, fmt.Errorf("s3 replica: Path: %w", err))
	}
	if err := s3.CheckName(cfg.Path); err != nil {
		errs = append(errs, fmt.Errorf("%w: s3 replica: Path: %w", ErrInvalidOption, err))
	}
	client, err := s3.New(s3.Config(cfg))
	if err != nil {
		errs = append(errs, fmt.Errorf("%w: s3 replica: %w", ErrInvalidOption, err))
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return &S3Replica{client: client, template: template}, nil
}

// ReplicaClient returns the client of the database's prefix. It does no I/O and
// holds nothing. It implements FileLister and MetadataStore too, and reads the
// backups of litestream v0.3.
func (r *S3Replica) ReplicaClient(db Database) (litestream.ReplicaClient, error) {
	p, err := r.prefix(db)
	if err != nil {
		return nil, err // not a nil *s3.Prefix in an interface
	}
	return p, nil
}

// Prefix returns the database's place as "s3://bucket/path".
func (r *S3Replica) Prefix(db Database) (string, error) {
	p, err := r.prefix(db)
	if err != nil {
		return "", err
	}
	return p.String(), nil
}

func (r *S3Replica) prefix(db Database) (*s3.Prefix, error) {
	path, err := r.template.Expand(db)
	if err != nil {
		return nil, fmt.Errorf("s3 replica: %w", err)
	}
	if err := s3.CheckName(path); err != nil { // before the first write, which could not be listed
		return nil, fmt.Errorf("s3 replica: %w", err)
	}
	return r.client.Prefix(path), nil
}

// Vars returns the variables of Path.
func (r *S3Replica) Vars() []string { return r.template.Vars() }

// Check proves that the bucket can be reached, listed and written to under what
// Path begins with, and that the store refuses to create a file twice: it creates
// an empty object, .multidb-check-… and some random letters, and deletes it (with
// NoDelete, .multidb-check stays). It answers within 10 seconds; the error is one
// line that says what to fix.
func (r *S3Replica) Check(ctx context.Context) error {
	return r.client.Check(ctx, s3.CheckPrefix(r.template.String()))
}

// RequestStats returns the requests made so far, of all databases together.
// Requests for credentials are not among them.
func (r *S3Replica) RequestStats() RequestStats { return RequestStats(r.client.Stats()) }

// Dir implements ReplicaObjects: it is what Path expands to.
func (r *S3Replica) Dir(db Database) (string, error) {
	if _, err := r.prefix(db); err != nil {
		return "", err
	}
	return r.template.Expand(db)
}

// DatabaseAt implements ReplicaObjects.
func (r *S3Replica) DatabaseAt(dir string) (Database, error) { return TenantAt(r.template, dir, nil) }

// Objects implements ReplicaObjects: objects below <bucket>/<dir>, over the same
// connections, bounds and counters. Unlike LTX files they are refused with
// ErrNoConditionalWrites by a store that does not honor If-None-Match also where
// AllowUnsafeWrites is set.
func (r *S3Replica) Objects(dir string) (ObjectStore, error) {
	o, err := r.client.Objects(dir)
	if err != nil {
		return nil, err
	}
	return objectStore{o}, nil
}

// CloseIdleConnections closes the connections that no request uses, and ends
// their goroutines. The replica stays usable.
func (r *S3Replica) CloseIdleConnections() { r.client.CloseIdleConnections() }
