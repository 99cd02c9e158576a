package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/config"
	"github.com/multidb-go/multidb/multidbhttp"
	"github.com/multidb-go/multidb/multidbprom"
)

// listenFlags say where the page is served, in place of what the configuration says.
type listenFlags struct {
	address, tokenFile, verbs, restoreDir, hosts string
}

func (l *listenFlags) add(fs *flag.FlagSet) {
	fs.StringVar(&l.address, "listen", "", "serve a page, metrics and an API at `HOST:PORT`, as "+multidbhttp.DefaultAddr+" for this machine alone")
	fs.StringVar(&l.tokenFile, "listen-token-file", "", "`FILE` that has the token that clients must know; needed where other machines can reach the address")
	fs.StringVar(&l.verbs, "listen-verbs", "", "what the page may do, with commas: sync, evict, restore, adopt, takeover; default: nothing")
	fs.StringVar(&l.restoreDir, "listen-restore-dir", "", "`DIR` that the page restores into")
	fs.StringVar(&l.hosts, "listen-hosts", "", "names by which this machine is called, with commas, beside its addresses")
}

// over returns what a configuration says (nil: nothing), with the flags in place of its keys;
// nil if nothing is to be served.
func (l *listenFlags) over(c *config.Listen) (*config.Listen, error) {
	if c == nil {
		c = &config.Listen{}
	}
	if l.restoreDir != "" {
		dir, err := filepath.Abs(l.restoreDir)
		if err != nil {
			return nil, err
		}
		c.RestoreDir = dir
	}
	c.Address, c.TokenFile = cmp.Or(l.address, c.Address), cmp.Or(l.tokenFile, c.TokenFile)
	if l.verbs != "" {
		c.Verbs = strings.Split(l.verbs, ",")
	}
	if l.hosts != "" {
		c.Hosts = strings.Split(l.hosts, ",")
	}
	if c.Address != "" {
		return c, nil
	}
	if *l != (listenFlags{}) {
		return nil, usagef("-listen is missing: say where, as -listen %s", multidbhttp.DefaultAddr)
	}
	return nil, nil
}

// port serves the page of a Manager.
type port struct {
	listener net.Listener
	server   *multidbhttp.Server
	end      context.CancelFunc
	ended    chan error
}

// openPort opens the listener. serve must be called then. Only an address that cannot be had is
// no mistake of the command line or the configuration.
func openPort(ctx context.Context, l *config.Listen, m *multidb.Manager, events *multidbhttp.Events, logger *slog.Logger) (*port, error) {
	opt := multidbhttp.Options{Title: l.Title, MaxLag: l.MaxLag, RestoreDir: l.RestoreDir, Events: events, Logger: logger}
	var err error
	if opt.Token, err = readToken(l.TokenFile); err != nil {
		return nil, usagef("%v", err)
	}
	if opt.Verbs, err = multidbhttp.ParseVerbs(strings.Join(l.Verbs, ",")); err != nil {
		return nil, usagef("%v", err)
	}
	if slices.Contains(opt.Verbs, multidbhttp.VerbRestore) && opt.RestoreDir == "" {
		return nil, usagef("restore is among the verbs: say with -listen-restore-dir (restore-dir) into which directory")
	}
	for _, h := range l.Hosts {
		opt.Hosts = append(opt.Hosts, strings.TrimSpace(h))
	}
	if opt.Metrics, err = multidbprom.Handler(m); err != nil {
		return nil, err
	}
	p := &port{ended: make(chan error, 1)}
	if p.server, err = multidbhttp.Handler(m, opt); err != nil {
		return nil, usagef("%v", err)
	}
	if p.listener, err = p.server.Listen(ctx, l.Address); errors.As(err, new(*net.OpError)) {
		return nil, err
	} else if err != nil {
		return nil, usagef("%v", err)
	}
	return p, nil
}

// serve answers until close, also while the Manager starts and stops: /readyz says so. If it
// fails before, the databases are replicated all the same.
func (p *port) serve(logger *slog.Logger) {
	ctx, end := context.WithCancel(context.Background())
	p.end = end
	go func() {
		err := p.server.Serve(ctx, p.listener)
		if err != nil {
			logger.Error("the page is not served any more", "err", err)
		}
		p.ended <- err
	}()
	logger.Info("serving the page", "url", "http://"+p.listener.Addr().String()+"/")
}

// close ends serve, and returns why it failed.
func (p *port) close() error {
	p.end()
	if err := <-p.ended; err != nil {
		return stopped{err}
	}
	return nil
}

// maxToken is more than any token has.
const maxToken = 4096

func readToken(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("the token: %w", err)
	}
	defer func() { _ = f.Close() }() // read only: nothing to lose
	b, err := io.ReadAll(io.LimitReader(f, maxToken+1))
	switch token := strings.TrimSpace(string(b)); {
	case err != nil:
		return "", fmt.Errorf("the token: %w", err)
	case len(b) > maxToken:
		return "", fmt.Errorf("the token: %s is larger than %d bytes; give a file that has the token and nothing else", path, maxToken)
	case token == "":
		return "", errors.New("the token: " + path + " is empty; write one with `openssl rand -hex 16`")
	default:
		return token, nil
	}
}
