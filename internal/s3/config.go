package s3

import (
	"crypto/md5"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Defaults of Config.
const (
	DefaultConcurrency    = 64
	DefaultMaxAttempts    = 5
	DefaultRequestTimeout = 30 * time.Second
	DefaultPartSize       = 8 << 20
)

const (
	minPartSize = 5 << 20 // S3 refuses smaller parts, the last one excepted
	maxPartSize = 5 << 30 // and larger ones
	maxParts    = 10_000

	// singlePutMax is the largest object sent by one PutObject where its size is
	// known. A failure near the end costs sending it again.
	singlePutMax = 64 << 20

	dialTimeout = 3 * time.Second
)

// Config says where the bucket is and how to speak to it. Only Bucket is
// required.
type Config struct {
	// Bucket is the bucket's name, or the ARN of an access point. Required. It must
	// exist.
	Bucket string
	// Region of the bucket. Empty: AWS_REGION, AWS_DEFAULT_REGION or the shared
	// config file; with a custom endpoint, "us-east-1" if those are not set. An ARN
	// has its own.
	Region string
	// Endpoint is the URL of an S3-compatible store ("http://127.0.0.1:9000"),
	// "https://" if it has no scheme. Empty: AWS_ENDPOINT_URL_S3, else AWS.
	Endpoint string

	// AccessKeyID and SecretAccessKey are static credentials, SessionToken their
	// optional third part. All empty: the SDK's default chain (environment, shared
	// files, web identity, ECS, EC2), loaded at the first request.
	AccessKeyID     string
	SecretAccessKey string
	SessionToken    string
	// Profile of the shared config and credentials files. Empty: AWS_PROFILE,
	// else "default".
	Profile string
	// Anonymous sends requests unsigned. Excludes the credentials above.
	Anonymous bool

	// ForcePathStyle addresses the bucket as <endpoint>/<bucket> rather than
	// <bucket>.<endpoint>. Implied where the endpoint's host is an IP address or a
	// name without a dot.
	ForcePathStyle bool
	// Accelerate uses S3 Transfer Acceleration. AWS only.
	Accelerate bool
	// StorageClass of new objects ("STANDARD_IA", …). Empty: the bucket's default.
	StorageClass string

	// SSE is the server-side encryption of new objects: "" (the bucket's default),
	// "AES256" or "aws:kms".
	SSE string
	// SSEKMSKeyID is the KMS key for SSE "aws:kms", which it implies. Empty: the
	// account's default key.
	SSEKMSKeyID string
	// SSECustomerKey is a 256-bit key, base64 encoded, which the store encrypts
	// with and does not keep (SSE-C). Needed to read the objects again. Excludes
	// SSE. Needs https, but for hosts of a private network.
	SSECustomerKey string

	// Concurrency bounds the requests in flight of the whole client. Bodies that
	// a reader holds open do not count. 0: 64.
	Concurrency int
	// MaxAttempts of one request, the first included. 0: 5.
	MaxAttempts int
	// RequestTimeout bounds each attempt by its progress: it fails when no byte
	// was sent or received for this long; after a body was sent, which buffers on
	// its way may hold, as long again for every 4 MiB of it, 8 at most. 0: 30 s.
	RequestTimeout time.Duration
	// PartSize of multipart uploads, and the most that is buffered of a stream of
	// unknown length, in bytes. 5 MiB to 5 GiB. An object has at most 10,000
	// parts. 0: 8 MiB.
	PartSize int64

	// AllowUnsafeWrites accepts a store that ignores or refuses If-None-Match: each
	// write is then preceded by a look (HEAD), between which and the write another
	// writer's file may be overwritten. Otherwise writes to such a store fail with
	// ErrNoConditionalWrites.
	AllowUnsafeWrites bool
	// NoDelete sends no request that deletes an object: DeleteLTXFiles does nothing.
	NoDelete bool
	// CheckPrefix is where the first write tries out whether the store can create
	// only. Empty: the bucket itself.
	CheckPrefix string

	// WrapTransport, if set, wraps the HTTP transport: for tests and tracing.
	WrapTransport func(http.RoundTripper) http.RoundTripper
}

// withDefaults returns the config with its zero values filled in, or what is
// wrong with it. No error holds a secret.
func (cfg Config) withDefaults() (Config, error) {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }

	switch {
	case cfg.Bucket == "":
		bad("Bucket is empty: write the bucket's name")
	case cfg.isARN(): // checked below, with Endpoint in its final form
	case strings.ContainsAny(cfg.Bucket, "/ \t\n"):
		bad("Bucket %q is not a bucket name: write it without scheme and path", cfg.Bucket)
	}
	if cfg.Endpoint != "" {
		if !strings.Contains(cfg.Endpoint, "://") {
			cfg.Endpoint = "https://" + cfg.Endpoint
		}
		cfg.Endpoint = strings.TrimRight(cfg.Endpoint, "/")
		u, err := url.Parse(cfg.Endpoint)
		switch {
		case err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https"):
			// Not quoted: it might be a mistyped URL with a password in it.
			bad(`Endpoint is not a URL: write "https://host" or "http://host:port"`)
		case u.User != nil || u.RawQuery != "":
			bad("Endpoint must not hold credentials or a query: use AccessKeyID and SecretAccessKey")
		}
	}
	static := cfg.AccessKeyID != "" || cfg.SecretAccessKey != "" || cfg.SessionToken != ""
	if static && (cfg.AccessKeyID == "" || cfg.SecretAccessKey == "") {
		bad("static credentials need both AccessKeyID and SecretAccessKey")
	}
	if cfg.Anonymous && (static || cfg.Profile != "") {
		bad("Anonymous excludes AccessKeyID, SecretAccessKey, SessionToken and Profile")
	}
	if static && cfg.Profile != "" {
		bad("Profile excludes AccessKeyID and SecretAccessKey")
	}
	if cfg.Accelerate && (cfg.Endpoint != "" || cfg.ForcePathStyle) {
		bad("Accelerate excludes Endpoint and ForcePathStyle")
	}
	if slices.Contains([]string{"GLACIER", "DEEP_ARCHIVE"}, cfg.StorageClass) {
		bad("StorageClass %q is an archive, whose objects cannot be read when they are needed: write GLACIER_IR or another class", cfg.StorageClass)
	}
	errs = append(errs, cfg.checkSSE())
	if cfg.isARN() {
		errs = append(errs, cfg.checkARN())
	}

	setDefault(&cfg.Concurrency, DefaultConcurrency)
	setDefault(&cfg.MaxAttempts, DefaultMaxAttempts)
	setDefault(&cfg.RequestTimeout, DefaultRequestTimeout)
	setDefault(&cfg.PartSize, DefaultPartSize)
	if cfg.Concurrency < 1 {
		bad("Concurrency is %d: write a positive number, or 0 for %d", cfg.Concurrency, DefaultConcurrency)
	}
	if cfg.MaxAttempts < 1 {
		bad("MaxAttempts is %d: write a positive number, or 0 for %d", cfg.MaxAttempts, DefaultMaxAttempts)
	}
	if cfg.RequestTimeout < 0 {
		bad("RequestTimeout is %v: write a positive duration, or 0 for %v", cfg.RequestTimeout, DefaultRequestTimeout)
	}
	if cfg.PartSize < minPartSize || cfg.PartSize > maxPartSize {
		bad("PartSize is %d: write 5 MiB to 5 GiB in bytes, or 0 for 8 MiB", cfg.PartSize)
	}
	return cfg, errors.Join(errs...)
}

func (cfg Config) checkSSE() error {
	if !slices.Contains([]string{"", "AES256", "aws:kms"}, cfg.SSE) {
		return fmt.Errorf(`SSE is %q: write "AES256" or "aws:kms", or leave it empty`, cfg.SSE)
	}
	if cfg.SSEKMSKeyID != "" && cfg.SSE == "AES256" {
		return errors.New(`SSEKMSKeyID needs SSE "aws:kms"`)
	}
	if cfg.SSECustomerKey == "" {
		return nil
	}
	if cfg.SSE != "" || cfg.SSEKMSKeyID != "" {
		return errors.New("SSECustomerKey excludes SSE and SSEKMSKeyID")
	}
	// The decoder's own error would quote a piece of the key.
	if key, err := base64.StdEncoding.DecodeString(cfg.SSECustomerKey); err != nil || len(key) != 32 {
		return errors.New("SSECustomerKey must be 32 bytes in base64")
	}
	if u, err := url.Parse(cfg.Endpoint); err == nil && u.Scheme == "http" {
		ip := net.ParseIP(u.Hostname())
		if u.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback() && !ip.IsPrivate()) {
			return errors.New("SSECustomerKey needs an https Endpoint: the key is sent with every request")
		}
	}
	return nil
}

// pathStyle reports whether the bucket belongs into the path for endpoint: a
// host name cannot be put before an IP address, and rarely resolves before a
// bare name ("localhost", "minio").
func pathStyle(endpoint string) bool {
	u, err := url.Parse(endpoint)
	if err != nil {
		return false
	}
	host := u.Hostname()
	return net.ParseIP(host) != nil || !strings.Contains(host, ".")
}

// customerKeyMD5 is the digest that goes with SSECustomerKey, which is valid.
func (cfg Config) customerKeyMD5() string {
	key, _ := base64.StdEncoding.DecodeString(cfg.SSECustomerKey)
	sum := md5.Sum(key)
	return base64.StdEncoding.EncodeToString(sum[:])
}

func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}
