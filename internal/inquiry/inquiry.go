// Package inquiry asks elsewhere about keys, and remembers the answers for a while. Callers
// who want to know the same at the same time share one question. Safe for concurrent use.
package inquiry

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"github.com/multidb-go/multidb/internal/ctxio"
)

// ErrClosed is the answer after Close.
var ErrClosed = errors.New("inquiry closed")

// Config says what is asked.
type Config[V any] struct {
	// Ask finds out about a key. Its context ends with Close, or after Timeout, and not with
	// that of a caller.
	Ask     func(ctx context.Context, key string) (V, error)
	Timeout time.Duration
	// Keep is for how long an answer is remembered, and Max how many are. An error never is.
	Keep time.Duration
	Max  int
	Now  func() time.Duration // of a clock that never goes back
}

// Inquiry asks, and remembers.
type Inquiry[V any] struct {
	cfg     Config[V]
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup // the questions under way; grows under mu only

	mu      sync.Mutex // guards what is below; nothing is called under it but cfg.Now
	closed  bool
	asked   map[string]*question[V]
	answers *simplelru.LRU[string, answer[V]]
}

type answer[V any] struct {
	v  V
	at time.Duration // when it was asked for
}

type question[V any] struct {
	done chan struct{} // closed when v and err are set
	v    V
	err  error
}

// New returns an Inquiry that has asked nothing.
func New[V any](cfg Config[V]) *Inquiry[V] {
	answers, err := simplelru.NewLRU[string, answer[V]](cfg.Max, nil)
	if err != nil {
		panic(err) // only for a Max of zero or less
	}
	q := &Inquiry[V]{cfg: cfg, asked: map[string]*question[V]{}, answers: answers}
	q.ctx, q.cancel = context.WithCancel(context.Background())
	return q
}

// Ask returns what is known of a key, or asks. ctx bounds the waiting; the question goes on
// for others.
func (q *Inquiry[V]) Ask(ctx context.Context, key string) (v V, err error) {
	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		return v, ErrClosed
	}
	if a, ok := q.answers.Get(key); ok {
		if age := q.cfg.Now() - a.at; age >= 0 && age < q.cfg.Keep {
			q.mu.Unlock()
			return a.v, nil
		}
		q.answers.Remove(key)
	}
	ask := q.asked[key]
	if ask == nil {
		ask = &question[V]{done: make(chan struct{})}
		q.asked[key] = ask
		at := q.cfg.Now()
		q.running.Go(func() { q.find(key, ask, at) })
	}
	q.mu.Unlock()
	select {
	case <-ask.done:
		return ask.v, ask.err
	case <-ctx.Done():
		return v, context.Cause(ctx)
	}
}

// errAborted is the answer where Ask panics, which ends the process, or its goroutine.
var errAborted = errors.New("the question was not answered")

func (q *Inquiry[V]) find(key string, ask *question[V], at time.Duration) {
	ask.err = errAborted
	defer func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		if q.asked[key] == ask { // else it was forgotten meanwhile
			delete(q.asked, key)
			if ask.err == nil {
				q.answers.Add(key, answer[V]{ask.v, at})
			}
		}
		close(ask.done)
	}()
	ctx, cancel := context.WithTimeout(q.ctx, q.cfg.Timeout)
	defer cancel()
	ask.v, ask.err = q.cfg.Ask(ctx, key)
}

// Forget drops what is remembered of keys, since it is another by now, and what is being
// asked about them: that is the answer of those who wait for it, and of nobody else.
func (q *Inquiry[V]) Forget(keys ...string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, key := range keys {
		q.answers.Remove(key)
		delete(q.asked, key)
	}
}

// Len is how many answers are remembered, and how many questions are under way.
func (q *Inquiry[V]) Len() (answers, asked int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.answers.Len(), len(q.asked)
}

// Close ends the questions, and returns when none is under way, or ctx ends; then it may be
// called again.
func (q *Inquiry[V]) Close(ctx context.Context) error {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.cancel()
	return ctxio.Wait(ctx, &q.running)
}
