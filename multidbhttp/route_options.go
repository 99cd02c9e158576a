package multidbhttp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/multidb-go/multidb"
)

// Owners tells which node serves a database. A *multidb.Manager is one.
type Owners interface {
	// Owner returns who serves a database, as far as this node knows. It is called again for
	// every request and, while nobody serves the database, several times a second.
	Owner(ctx context.Context, id multidb.ID) (multidb.Owner, error)
}

var _ Owners = (*multidb.Manager)(nil)

// RouterOptions says how Router passes requests on. All nodes of a cluster need the same. The
// zero value is usable where nobody but clients and nodes that are trusted can reach the nodes.
type RouterOptions struct {
	// Wait is how long a request waits, in all and on all nodes together, for a database that moves
	// or that nobody serves. After that it is answered with 503. Default 5 seconds.
	Wait time.Duration
	// MaxRetryBody is how many bytes of a request's body are kept in memory, so that the request
	// can be sent again, to another node. A request with a larger body is passed on as it comes in; once
	// a byte of it was read, it is not sent again. Default 1 MiB; negative: none.
	MaxRetryBody int64
	// MaxBody is how many bytes the body of a request may have. A larger one is refused with 413, or, if
	// its length is not known beforehand, where it becomes too long: a handler of this node then
	// reads an *http.MaxBytesError. Default 0: any number.
	MaxBody int64

	// Secret is known to the nodes alone: each request that a node passes on carries it in a header, and
	// what requests without it say of having been passed on is removed. At least 16 characters. It
	// travels in the clear if a node's URL is http. Default: none, and anybody can claim that a
	// request was passed on; who does so only has it refused sooner.
	Secret string
	// DropForwarded removes the headers Forwarded and X-Forwarded-* from requests that no node has
	// passed on. Set it where no proxy stands before the nodes, as anybody can send such headers.
	// It needs a Secret. Default false: they are kept, as a load balancer has written them.
	DropForwarded bool

	// FlyReplay, if not nil, makes the value of a fly-replay header of the node that serves a
	// database, as "instance=148e21ea7ed689". The request is then answered with that header and status 409, and
	// Fly's proxy sends it again, to that node. If the value is empty, or the body has more
	// than 1 MB, which Fly's proxy does not send again, the request is passed on over HTTP. It must be safe for concurrent use.
	FlyReplay func(multidb.Owner) string

	// Transport sends requests to other nodes. Default: one that uses no proxy of the environment and
	// gives up after 2 seconds without a connection and 1 minute without the first
	// header of an answer, once the request was sent. It must not send a request again by itself.
	Transport http.RoundTripper
	// Logger is told of nodes that cannot be reached and of requests that went in a circle. Default slog.Default().
	Logger *slog.Logger
}

const (
	defaultWait     = 5 * time.Second
	defaultMaxRetry = 1 << 20
	flyMaxBody      = 1_000_000
	dialTimeout     = 2 * time.Second
	headerTimeout   = time.Minute
	idleNodeTimeout = 30 * time.Second
	idlePerNode     = 100
)

// check returns what is wrong with the options, all of it, and fills in the defaults.
func (o *RouterOptions) check() error {
	var errs []error
	wrong := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("multidbhttp: RouterOptions."+format, args...))
	}
	switch {
	case o.Wait < 0:
		wrong("Wait is %v; want a duration, or 0 for %v", o.Wait, defaultWait)
	case o.Wait == 0:
		o.Wait = defaultWait
	}
	switch {
	case o.MaxRetryBody < 0:
		o.MaxRetryBody = 0
	case o.MaxRetryBody == 0:
		o.MaxRetryBody = defaultMaxRetry
	}
	if o.MaxBody < 0 {
		wrong("MaxBody is %d; want a number of bytes, or 0 for any", o.MaxBody)
	}
	if o.Secret != "" && len(o.Secret) < minToken {
		wrong("Secret has %d characters; want at least %d, as of `openssl rand -hex 16`", len(o.Secret), minToken)
	}
	if strings.ContainsFunc(o.Secret, func(c rune) bool { return c <= ' ' || c > '~' }) {
		wrong("Secret has a space, a line end or another character that no header can carry; want visible ASCII")
	}
	if o.DropForwarded && o.Secret == "" {
		wrong("DropForwarded needs a Secret, which tells the requests of the other nodes from those of clients")
	}
	if o.Transport == nil {
		o.Transport = nodeTransport()
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return errors.Join(errs...)
}

// nodeTransport is the default of RouterOptions.Transport. Answers go through as they are, so it
// does not ask for compression; and idle connections are closed sooner than most servers
// close them, since a request that meets the closing fails.
func nodeTransport() *http.Transport {
	dialer := &net.Dialer{Timeout: dialTimeout, KeepAlive: 15 * time.Second}
	return &http.Transport{
		DialContext:           dialer.DialContext,
		ForceAttemptHTTP2:     true,
		TLSHandshakeTimeout:   dialTimeout,
		ResponseHeaderTimeout: headerTimeout,
		ExpectContinueTimeout: time.Second,
		MaxIdleConnsPerHost:   idlePerNode,
		IdleConnTimeout:       idleNodeTimeout,
		DisableCompression:    true,
	}
}
