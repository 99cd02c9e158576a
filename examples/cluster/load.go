package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/multidb-go/multidb/examples/cluster/internal/node"
	"github.com/multidb-go/multidb/examples/internal/cli"
)

const (
	requestLimit = 20 * time.Second       // for one request
	pause        = 200 * time.Millisecond // between two requests of a tenant, half to one and a half of it
	readEvery    = 8                      // one request of so many asks for all notes
)

// load is the clients of all tenants, and a load balancer, which sends each request to any node.
type load struct {
	nodes  *nodes
	tally  *tally
	client *http.Client
	joined sync.WaitGroup
}

func newLoad(n *nodes, t *tally) *load {
	return &load{nodes: n, tally: t, client: &http.Client{Timeout: requestLimit, Transport: &http.Transport{MaxIdleConnsPerHost: len(t.tenants)}}}
}

// begin starts the clients. Each stops after the answer that it waits for when ctx ends.
func (l *load) begin(ctx context.Context) {
	for i := range l.tally.tenants {
		l.joined.Go(func() { l.tenant(ctx, i) })
	}
}

// end returns when the clients have stopped.
func (l *load) end() {
	l.joined.Wait()
	l.client.CloseIdleConnections()
}

func tenantName(i int) string { return fmt.Sprintf("t%03d", i) }

// tenant is one client: it sends its next request when the last one was answered, and one that
// has failed again.
func (l *load) tenant(ctx context.Context, i int) {
	for n := 1; ctx.Err() == nil; n++ {
		if n%readEvery == 0 {
			known := l.tally.notes(i)
			if found, err := l.list(ctx, i); err == nil {
				if gone := lacking(known, found); len(gone) > 0 {
					l.tally.missing(fmt.Sprintf("%s: %d of %d while it was served, as %q", tenantName(i), len(gone), len(known), gone[0]))
				}
			}
		} else {
			key, text := fmt.Sprintf("note-%05d", n), sentence()
			if _, err := l.send(ctx, i, http.MethodPut, "/notes/"+key, text); err == nil {
				l.tally.acknowledged(i, key, text)
			}
		}
		if cli.Sleep(ctx, pause/2+rand.N(pause)) != nil {
			return
		}
	}
}

func sentence() string {
	words := make([]string, 3+rand.N(30))
	for i := range words {
		words[i] = fmt.Sprintf("%x", rand.N(1<<20))
	}
	return strings.Join(words, " ")
}

// list asks for all notes of a tenant.
func (l *load) list(ctx context.Context, i int) (all map[string]string, err error) {
	body, err := l.send(ctx, i, http.MethodGet, "/notes", "")
	if err == nil {
		err = json.Unmarshal(body, &all)
	}
	return all, err
}

// send sends a request until it is answered with 200, or ctx ends between two attempts.
func (l *load) send(ctx context.Context, tenant int, method, path, text string) (body []byte, err error) {
	for {
		if body, err = l.once(tenant, method, path, text); err == nil {
			return body, nil
		}
		if cli.Sleep(ctx, pause/2+rand.N(pause)) != nil {
			return nil, err
		}
	}
}

// once sends a request to a node, whichever; to the next one if that refuses the connection.
func (l *load) once(tenant int, method, path, text string) ([]byte, error) {
	urls := l.nodes.addresses()
	for _, asked := range rand.Perm(len(urls)) {
		if urls[asked] == "" {
			continue
		}
		r, err := http.NewRequest(method, urls[asked]+"/tenants/"+tenantName(tenant)+path, strings.NewReader(text))
		if err != nil {
			return nil, err
		}
		resp, err := l.client.Do(r)
		if op := (*net.OpError)(nil); errors.As(err, &op) && op.Op == "dial" {
			l.tally.connectionRefused()
			continue
		} else if err != nil {
			l.tally.failure("no answer", err.Error())
			return nil, err
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close() // it was read
		switch {
		case err != nil:
			l.tally.failure("half an answer", err.Error())
			return nil, err
		case resp.StatusCode != http.StatusOK:
			text := strings.TrimSpace(string(body))
			l.tally.failure(fmt.Sprint(resp.StatusCode), text)
			return nil, fmt.Errorf("%s: %s", resp.Status, text)
		}
		by := resp.Header.Get(node.ServedBy)
		l.tally.answered(tenant, by, by != l.nodes.all[asked].Name, time.Now())
		return body, nil
	}
	err := errors.New("no node takes connections")
	l.tally.failure("no answer", err.Error())
	return nil, err
}
