// Package bucket gives the examples a place in S3: the store that the
// environment names, or an S3 server inside this process.
package bucket

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/multidb-go/multidb"
)

// The environment variables that name a store. Credentials and region are the
// AWS SDK's own: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, …
const (
	EnvBucket   = "LITESTREAM_S3_BUCKET"
	EnvEndpoint = "LITESTREAM_S3_ENDPOINT"
)

const embeddedBucket = "demo"

// Bucket is where an example's backups go. Close it when its replica is no
// longer used.
type Bucket struct {
	cfg    multidb.S3Config
	server *http.Server // nil if the environment named a store
	store  *store       // of the server
	joined sync.WaitGroup
	served error
}

// Open returns the bucket that the environment names; if it names none, it
// starts a server on a free port of the loopback interface, with one empty bucket
// that is kept in memory.
func Open(getenv func(string) string) (*Bucket, error) {
	name, endpoint := getenv(EnvBucket), getenv(EnvEndpoint)
	switch {
	case name != "":
		// Path style, because few stores other than AWS have a host per bucket.
		return &Bucket{cfg: multidb.S3Config{Bucket: name, Endpoint: endpoint, ForcePathStyle: endpoint != ""}}, nil
	case endpoint != "":
		return nil, fmt.Errorf("%s is set, but %s is not: set it to the name of a bucket there, or unset both to use an S3 server inside this program", EnvEndpoint, EnvBucket)
	}
	return embed()
}

func embed() (*Bucket, error) {
	store, err := newStore(embeddedBucket)
	if err != nil {
		return nil, fmt.Errorf("embedded S3 server: %w", err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("embedded S3 server: %w", err)
	}
	b := &Bucket{
		cfg: multidb.S3Config{
			Bucket: embeddedBucket, Region: "us-east-1", Endpoint: "http://" + ln.Addr().String(),
			AccessKeyID: "demo", SecretAccessKey: "demo", // any will do
		},
		store:  store,
		server: &http.Server{Handler: gofakes3.New(store).Server(), ReadHeaderTimeout: 10 * time.Second},
	}
	b.joined.Go(func() {
		if err := b.server.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			b.served = err
		}
	})
	return b, nil
}

// Embedded reports whether the bucket is inside this process, and gone after
// Close.
func (b *Bucket) Embedded() bool { return b.server != nil }

// Held is how many bytes of objects this process keeps in memory as a server.
func (b *Bucket) Held() int64 {
	if b.store == nil {
		return 0
	}
	return b.store.size()
}

// Environ is what another process needs in its environment, beside this process's own, so that
// its Open returns the same bucket.
func (b *Bucket) Environ() []string {
	if !b.Embedded() {
		return nil
	}
	return []string{
		EnvBucket + "=" + b.cfg.Bucket, EnvEndpoint + "=" + b.cfg.Endpoint, "AWS_REGION=" + b.cfg.Region,
		"AWS_ACCESS_KEY_ID=" + b.cfg.AccessKeyID, "AWS_SECRET_ACCESS_KEY=" + b.cfg.SecretAccessKey,
	}
}

// Name is the bucket's.
func (b *Bucket) Name() string { return b.cfg.Bucket }

// Replica returns a replica in the bucket after it has proved that the bucket
// can be written to. The error is one line that says what to fix.
func (b *Bucket) Replica(ctx context.Context, path string) (*multidb.S3Replica, error) {
	cfg := b.cfg
	cfg.Path = path
	r, err := multidb.NewS3Replica(cfg)
	if err != nil {
		return nil, err
	}
	if err := r.Check(ctx); err != nil {
		r.CloseIdleConnections()
		if b.Embedded() {
			return nil, err
		}
		return nil, fmt.Errorf("%w (Bucket is %s; Endpoint is %s)", err, EnvBucket, EnvEndpoint)
	}
	return r, nil
}

// String says where the bucket is.
func (b *Bucket) String() string {
	switch {
	case b.Embedded():
		return fmt.Sprintf("S3: bucket %q of a server inside this program (gofakes3, in memory), at %s;\n    set %s to use a real one", b.cfg.Bucket, b.cfg.Endpoint, EnvBucket)
	case b.cfg.Endpoint != "":
		return fmt.Sprintf("S3: bucket %q at %s", b.cfg.Bucket, b.cfg.Endpoint)
	}
	return fmt.Sprintf("S3: bucket %q at AWS", b.cfg.Bucket)
}

// Close ends the server inside this process, if there is one.
func (b *Bucket) Close() error {
	if b.server == nil {
		return nil
	}
	err := b.server.Close()
	b.joined.Wait()
	return errors.Join(err, b.served)
}
