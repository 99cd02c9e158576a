package s3

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/logging"
	"github.com/multidb-go/multidb/internal/trace"
)

// Client is one bucket. Safe for concurrent use; made by New.
type Client struct {
	cfg   Config
	keyMD string // digest of cfg.SSECustomerKey

	gate  *gate
	stats counters

	loading   chan struct{} // held while the AWS config is loaded; a channel so that a context can end the wait
	loaded    atomic.Pointer[api]
	oneDelete atomic.Bool // the store refused DeleteObjects once
	sums      atomic.Bool // the store demanded a checksum once
	// through wraps the transport, for tests. Nil: the transport as it is. Set before
	// the first request.
	through func(http.RoundTripper) http.RoundTripper

	tracer atomic.Pointer[trace.Tracer]
	known  atomic.Pointer[createOnly]

	mu     sync.Mutex
	trying *trial // of If-None-Match, under way; nil if none is
}

// api is what needs the loaded AWS config.
type api struct {
	*s3.Client
	region string
	custom bool // an endpoint of its own, not AWS
	where  string
	idle   func()
}

// Deletes reports whether anything is ever deleted; see Config.NoDelete.
func (c *Client) Deletes() bool { return !c.cfg.NoDelete }

// New checks cfg. It does no I/O and starts no goroutine: credentials and
// region are looked up by the first request.
func New(cfg Config) (*Client, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	c := &Client{cfg: cfg, gate: newGate(cfg.Concurrency), loading: make(chan struct{}, 1)}
	if cfg.SSECustomerKey != "" {
		c.keyMD = cfg.customerKeyMD5()
	}
	return c, nil
}

// Bucket returns the bucket's name.
func (c *Client) Bucket() string { return c.cfg.Bucket }

// Stats returns the requests made so far.
func (c *Client) Stats() Stats { return c.stats.snapshot() }

// CloseIdleConnections closes the connections no request uses, and with them
// their goroutines. The client stays usable.
func (c *Client) CloseIdleConnections() {
	if a := c.loaded.Load(); a != nil {
		a.idle()
	}
}

// api returns the SDK's client, loading its config on first use. A failure is
// not kept: the next request tries again. ctx bounds the wait for another
// goroutine's load; the load itself only reads local files.
func (c *Client) api(ctx context.Context) (*api, error) {
	if a := c.loaded.Load(); a != nil {
		return a, nil
	}
	select {
	case c.loading <- struct{}{}:
		defer func() { <-c.loading }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if a := c.loaded.Load(); a != nil {
		return a, nil
	}
	// Providers may keep the context they are made with: this one must not end.
	a, err := c.load(context.WithoutCancel(ctx))
	if err != nil {
		return nil, err
	}
	c.loaded.Store(a)
	return a, nil
}

func (c *Client) load(ctx context.Context) (*api, error) {
	opts := []func(*config.LoadOptions) error{
		// A plain *http.Client here fails wherever AWS_CA_BUNDLE is set.
		config.WithHTTPClient(awshttp.NewBuildableClient().
			WithDialerOptions(func(d *net.Dialer) { d.Timeout = dialTimeout }).
			WithTransportOptions(c.tune)),
		config.WithLogger(logging.Nop{}),
	}
	if c.cfg.Region != "" {
		opts = append(opts, config.WithRegion(c.cfg.Region))
	}
	if c.cfg.Profile != "" {
		opts = append(opts, config.WithSharedConfigProfile(c.cfg.Profile))
	}
	switch {
	case c.cfg.Anonymous:
		opts = append(opts, config.WithCredentialsProvider(aws.AnonymousCredentials{}))
	case c.cfg.AccessKeyID != "":
		opts = append(opts, config.WithCredentialsProvider(credentials.NewStaticCredentialsProvider(
			c.cfg.AccessKeyID, c.cfg.SecretAccessKey, c.cfg.SessionToken)))
	}
	cfg, err := config.LoadDefaultConfig(ctx, opts...)
	if err != nil {
		return nil, &Error{Op: "load the AWS config", Msg: c.clean(err.Error()), Err: err}
	}
	buildable, ok := cfg.HTTPClient.(*awshttp.BuildableClient)
	if !ok {
		return nil, &Error{Op: "load the AWS config", Msg: fmt.Sprintf("unexpected HTTP client %T", cfg.HTTPClient)}
	}
	tr := buildable.GetTransport() // with the CA bundle in it
	var next http.RoundTripper = tr
	if c.through != nil {
		next = c.through(tr)
	}
	if !c.cfg.Anonymous {
		cfg.Credentials = aws.NewCredentialsCache(credentialsProvider{cfg.Credentials})
	}

	a := &api{idle: tr.CloseIdleConnections}
	a.Client = s3.NewFromConfig(cfg, func(o *s3.Options) {
		if c.cfg.Endpoint != "" {
			o.BaseEndpoint = aws.String(c.cfg.Endpoint)
		}
		o.UsePathStyle = c.cfg.ForcePathStyle
		if o.Region == "" {
			o.Region = c.cfg.arnRegion()
		}
		if endpoint := aws.ToString(o.BaseEndpoint); endpoint != "" {
			a.custom, a.where = true, endpoint
			o.UsePathStyle = o.UsePathStyle || !c.cfg.isARN() && pathStyle(endpoint)
			// Many stores know neither trailing checksums nor their encoding.
			o.RequestChecksumCalculation, o.ResponseChecksumValidation = asked(cfg.ConfigSources,
				aws.RequestChecksumCalculationWhenRequired, aws.ResponseChecksumValidationWhenRequired)
			if o.Region == "" {
				o.Region = "us-east-1"
			}
		} else {
			a.where = "AWS region " + o.Region
		}
		a.region = o.Region
		o.UseAccelerate = c.cfg.Accelerate
		o.UseARNRegion = true
		o.APIOptions = append(o.APIOptions, leaveUnsigned)
		o.Retryer = newRetryer(c.cfg.MaxAttempts)
		o.HTTPClient = &transport{next: next, gate: c.gate, stats: &c.stats, timeout: c.cfg.RequestTimeout,
			tracer: &c.tracer, bucket: c.cfg.Bucket, pathStyle: o.UsePathStyle}
		o.DisableLogOutputChecksumValidationSkipped = true
	})
	if a.region == "" {
		return nil, &Error{Op: "load the AWS config", Msg: "no region: set Region, or AWS_REGION"}
	}
	return a, nil
}

// tune sets the connection pool. Connections are not bounded here: the gate
// bounds requests, and a body that a slow reader holds open keeps its
// connection, so that a bound on these could deadlock a restore of many files.
func (c *Client) tune(tr *http.Transport) {
	tr.MaxConnsPerHost = 0
	tr.MaxIdleConnsPerHost = c.cfg.Concurrency
	tr.MaxIdleConns = max(tr.MaxIdleConns, c.cfg.Concurrency)
	tr.IdleConnTimeout = 90 * time.Second
	tr.TLSHandshakeTimeout = 2 * dialTimeout
}

// credentialsProvider marks the failures of a provider, which the SDK reports
// as failures of the request.
type credentialsProvider struct{ aws.CredentialsProvider }

func (p credentialsProvider) Retrieve(ctx context.Context) (aws.Credentials, error) {
	creds, err := p.CredentialsProvider.Retrieve(ctx)
	if err != nil {
		return creds, &credentialsError{err}
	}
	return creds, nil
}

type credentialsError struct{ err error }

func (e *credentialsError) Error() string { return e.err.Error() }
func (e *credentialsError) Unwrap() error { return e.err }

// Prefix returns the view of everything under prefix. Slashes around it and
// doubled ones inside are dropped.
func (c *Client) Prefix(prefix string) *Prefix {
	return &Prefix{c: c, root: CleanPrefix(prefix)}
}

// CleanPrefix returns prefix as Prefix uses it.
func CleanPrefix(prefix string) string {
	return strings.Join(strings.FieldsFunc(prefix, func(r rune) bool { return r == '/' }), "/")
}
