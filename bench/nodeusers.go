package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"
)

// users each use a tenant of their own: a request that commits, and the next one a while after
// its answer. A request goes to any node, as behind a load balancer that knows nothing of tenants, and is sent again,
// to any node, until it is answered with success.
type users struct {
	every  time.Duration
	client *http.Client
	stop   context.CancelFunc
	ended  sync.WaitGroup
	began  time.Time

	mu      sync.Mutex
	nodes   []string   // URLs
	answers [][]answer // of each user, in order
	failed  int        // requests that were not answered with success
	why     error      // the last of them
}

// answer is one with success.
type answer struct {
	at   time.Duration // since the users began
	node string        // who gave it
}

// askAgain is the pause after a request that failed.
const askAgain = 20 * time.Millisecond

// startUsers starts n users, and returns when each has an answer.
func startUsers(ctx context.Context, n int, every time.Duration, nodes ...*node) (*users, error) {
	u := &users{
		every: every, answers: make([][]answer, n), began: time.Now(),
		client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: n}},
	}
	u.setNodes(nodes...)
	loop, stop := context.WithCancel(ctx)
	u.stop = stop
	for i := range n {
		u.ended.Go(func() { u.use(loop, i) })
	}
	if err := u.served(ctx, 0, time.Minute); err != nil {
		return nil, errors.Join(err, u.close())
	}
	return u, nil
}

func (u *users) close() error {
	u.stop()
	u.ended.Wait()
	u.client.CloseIdleConnections()
	return nil
}

// setNodes says which nodes the load balancer knows.
func (u *users) setNodes(nodes ...*node) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.nodes = nil
	for _, n := range nodes {
		u.nodes = append(u.nodes, n.url)
	}
}

// failures is how many requests were not answered with success so far.
func (u *users) failures() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.failed
}

func (u *users) now() time.Duration { return time.Since(u.began) }

// use is one user.
func (u *users) use(ctx context.Context, i int) {
	rnd := rand.New(rand.NewPCG(uint64(i), 7))
	if pause(ctx, time.Duration(rnd.Int64N(int64(u.every)))) != nil {
		return
	}
	for ctx.Err() == nil {
		u.mu.Lock()
		to := u.nodes[rnd.IntN(len(u.nodes))]
		u.mu.Unlock()
		who, err := u.request(ctx, to+"/"+string(fleetID(i)))
		u.mu.Lock()
		if err == nil {
			u.answers[i] = append(u.answers[i], answer{u.now(), who})
		} else if ctx.Err() == nil {
			u.failed++
			u.why = err
		}
		u.mu.Unlock()
		wait := u.every
		if err != nil {
			wait = askAgain
		}
		if pause(ctx, wait) != nil {
			return
		}
	}
}

func (u *users) request(ctx context.Context, url string) (who string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, nil)
	if err != nil {
		return "", err
	}
	resp, err := u.client.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, b)
	}
	return string(b), err
}

// served waits until each user has two answers since a moment: the first may be of a request
// from before.
func (u *users) served(ctx context.Context, since, limit time.Duration) error {
	err := until(ctx, "every tenant is served", 20*time.Millisecond, limit, func() (bool, error) {
		u.mu.Lock()
		defer u.mu.Unlock()
		for _, all := range u.answers {
			if len(all) < 2 || all[len(all)-2].at < since {
				return false, nil
			}
		}
		return true, nil
	})
	if err != nil {
		u.mu.Lock()
		defer u.mu.Unlock()
		err = errors.Join(err, u.why)
	}
	return err
}

// at is who answered a user last before a moment.
func at(all []answer, moment time.Duration) string {
	who := ""
	for _, a := range all {
		if a.at > moment {
			break
		}
		who = a.node
	}
	return who
}

// gaps are the longest times between two answers of each tenant that moved between two moments, in seconds: up to
// the pause of a user longer than the tenant was without service. Of all others it is the longest, in the second value.
func (u *users) gaps(from, to time.Duration) (moved []float64, rest float64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, all := range u.answers {
		longest := time.Duration(0)
		for i := 1; i < len(all); i++ {
			if all[i].at >= from && all[i-1].at <= to {
				longest = max(longest, all[i].at-all[i-1].at)
			}
		}
		if at(all, from) != at(all, to) {
			moved = append(moved, longest.Seconds())
		} else {
			rest = max(rest, longest.Seconds())
		}
	}
	return moved, rest
}

// of returns the tenants that a node has answered for last, before a moment.
func (u *users) of(name string, moment time.Duration) (tenants []int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for i, all := range u.answers {
		if at(all, moment) == name {
			tenants = append(tenants, i)
		}
	}
	return tenants
}

// gapsOf is gaps of tenants that are named.
func (u *users) gapsOf(tenants []int, from time.Duration) (gaps []float64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, t := range tenants {
		all, longest := u.answers[t], time.Duration(0)
		for i := 1; i < len(all); i++ {
			if all[i].at >= from {
				longest = max(longest, all[i].at-all[i-1].at)
			}
		}
		gaps = append(gaps, longest.Seconds())
	}
	return gaps
}

// quantiles adds the gaps of one kind of move.
func (f figures) quantiles(kind string, gaps []float64) {
	gaps = slices.Clone(gaps)
	f[kind+"-p50"], f[kind+"-p99"], f[kind+"-most"] = quantile(gaps, 0.5), quantile(gaps, 0.99), quantile(gaps, 1)
	f[kind+"-n"] = float64(len(gaps))
}
