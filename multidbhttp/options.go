package multidbhttp

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Options says what a Server serves, to whom, and what may be done by it. The zero value
// serves everything that only reads, to this machine.
type Options struct {
	// Title is what the page calls the fleet, as "eu-1". Default "multidb".
	Title string
	// Base is the path below which the caller has mounted the Server, as "/ops/multidb",
	// without a slash at its end. The Server strips it itself. Default: none.
	Base string
	// Metrics answers /metrics, as multidbprom.Handler does. Default nil: not found.
	Metrics http.Handler
	// MaxLag is from which lag on a database makes /readyz fail and the page name it, see
	// Manager.Healthy. Default 1 minute.
	MaxLag time.Duration

	// Token is what a client has to know: as "Authorization: Bearer TOKEN", or typed into the
	// page, which then keeps a cookie for 12 hours. At least 16 characters. Default: none,
	// and only connections from this machine are served, unless Authenticated.
	Token string
	// Authenticated says that the caller's own handler has let every request pass that comes
	// here, and that no Token is needed from other machines.
	Authenticated bool
	// Hosts are the names by which clients may call the Server, without port, as
	// "ops.example.com". Addresses and localhost always may. All other names are refused,
	// since a page of somebody else's could come in by a name of its own (DNS rebinding).
	Hosts []string

	// Verbs are what may be done by the Server. Default: nothing. Who may read may do them.
	Verbs []Verb
	// RestoreDir is the directory that VerbRestore restores into, an absolute path. It makes
	// a new file for each restore, and never overwrites one. Required with VerbRestore.
	RestoreDir string

	// Prices are what requests and storage cost. Default S3StandardPrices.
	Prices *Prices
	// Events are shown by the page, if the Manager's observer fills them. Default nil: none.
	Events *Events
	// Logger is told of every verb that was done, and of failures. Default slog.Default().
	Logger *slog.Logger
}

// Verb is something that a Server can do to a database.
type Verb string

// The verbs. Each is done only after it was confirmed.
const (
	VerbSync     Verb = "sync"     // Manager.Sync
	VerbEvict    Verb = "evict"    // Manager.Evict
	VerbRestore  Verb = "restore"  // Manager.Restore, to a new file in Options.RestoreDir
	VerbAdopt    Verb = "adopt"    // Manager.Adopt
	VerbTakeOver Verb = "takeover" // Manager.TakeOver
)

// Verbs returns all of them.
func Verbs() []Verb { return []Verb{VerbSync, VerbEvict, VerbRestore, VerbAdopt, VerbTakeOver} }

// ParseVerbs reads verbs with commas between them, as "sync,evict". Empty: none.
func ParseVerbs(s string) ([]Verb, error) {
	var verbs []Verb
	for word := range strings.SplitSeq(s, ",") {
		if word = strings.TrimSpace(word); word == "" {
			continue
		}
		if !slices.Contains(Verbs(), Verb(word)) {
			return nil, unknownVerb(word)
		}
		verbs = append(verbs, Verb(word))
	}
	return verbs, nil
}

func unknownVerb(word string) error {
	names := make([]string, 0, len(Verbs()))
	for _, v := range Verbs() {
		names = append(names, string(v))
	}
	return fmt.Errorf("multidbhttp: no verb %q; write some of %s", word, strings.Join(names, ", "))
}

// Prices are what requests cost, in USD per 1,000 of a kind, and what it costs to keep 1 GB
// (1,000,000,000 bytes) for a month. A multidbprom.Prices can be converted to it. It is a
// plain value.
type Prices struct {
	Put, Get, List, Head, Delete float64
	GBMonth                      float64
}

const (
	minToken      = 16
	defaultMaxLag = time.Minute
)

// check returns what is wrong with the options, all of it, and fills in the defaults.
func (o *Options) check() error {
	var errs []error
	wrong := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("multidbhttp: "+format, args...))
	}
	if o.Title == "" {
		o.Title = "multidb"
	}
	if o.Base != "" && (!strings.HasPrefix(o.Base, "/") || strings.HasSuffix(o.Base, "/") || strings.ContainsAny(o.Base, "?#%\\\"'<> ;") || strings.Contains(o.Base, "//")) {
		wrong(`Options.Base is %q; write a path as "/ops/multidb", without a slash at its end`, o.Base)
	}
	switch {
	case o.MaxLag < 0:
		wrong("Options.MaxLag is %v; want a duration, or 0 for %v", o.MaxLag, defaultMaxLag)
	case o.MaxLag == 0:
		o.MaxLag = defaultMaxLag
	}
	if o.Token != "" && len(o.Token) < minToken {
		wrong("Options.Token has %d characters; want at least %d, as of `openssl rand -hex 16`", len(o.Token), minToken)
	}
	if strings.TrimSpace(o.Token) != o.Token {
		wrong("Options.Token has a space or a line end at its begin or end, which no client can send")
	}
	for i, h := range o.Hosts {
		if h == "" || strings.ContainsAny(h, "/ *:@") {
			wrong(`Options.Hosts has %q; write a name without a port, as "ops.example.com"`, h)
		}
		o.Hosts = slices.Clone(o.Hosts)
		o.Hosts[i] = strings.ToLower(h)
	}
	for _, v := range o.Verbs {
		if !slices.Contains(Verbs(), v) {
			errs = append(errs, unknownVerb(string(v)))
		}
	}
	switch restores := slices.Contains(o.Verbs, VerbRestore); {
	case restores && o.RestoreDir == "":
		wrong("Options.Verbs has %q, but Options.RestoreDir is empty; name the directory that files are restored into", VerbRestore)
	case o.RestoreDir != "" && !filepath.IsAbs(o.RestoreDir):
		wrong("Options.RestoreDir is %q; want an absolute path", o.RestoreDir)
	}
	if o.Prices == nil {
		o.Prices = new(S3StandardPrices())
	}
	for _, p := range []float64{o.Prices.Put, o.Prices.Get, o.Prices.List, o.Prices.Head, o.Prices.Delete, o.Prices.GBMonth} {
		if p < 0 || math.IsNaN(p) || math.IsInf(p, 0) {
			wrong("Options.Prices has %v; want USD per 1,000 requests, or for a GB and month, 0 or more", p)
		}
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return errors.Join(errs...)
}
