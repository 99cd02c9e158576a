package s3

import (
	"crypto/md5"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
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
// required. It has the fields of multidb.S3Config, which documents each with its
// default, in the same order, so that one converts to the other. Of Path only
// CheckPrefix counts here: the first write tries there whether the store can
// create without overwriting.
type Config struct {
	Bucket, Path, Region, Endpoint string

	AccessKeyID, SecretAccessKey, SessionToken string
	Profile                                    string
	Anonymous                                  bool

	ForcePathStyle, Accelerate bool
	StorageClass               string

	SSE, SSEKMSKeyID, SSECustomerKey string

	Concurrency, MaxAttempts int
	RequestTimeout           time.Duration
	PartSize                 int64

	AllowUnsafeWrites, NoDelete bool
}

// CheckPrefix is the directory that all prefixes of a path template have in common.
// Empty: the bucket itself.
func CheckPrefix(template string) string {
	dir, _, variable := strings.Cut(template, "{{")
	if variable {
		dir = dir[:strings.LastIndexByte(dir, '/')+1]
	}
	return dir
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

// pathStyle reports whether endpoint needs the bucket in the path: a
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
