package multidbhttp

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync/atomic"

	"github.com/multidb-go/multidb"
)

// notOwnerHeader marks an answer that says: no handler has done anything for this request,
// send it to whoever serves the database. Its value is one of the reasons below.
const notOwnerHeader = "Multidb-Not-Owner"

const (
	reasonMoved       = "moved"       // the node's handler was told ErrNotOwner
	reasonCircle      = "circle"      // the request was passed on too often
	reasonUnreachable = "unreachable" // the node that this one has asked could not be reached
)

// NotOwner answers a request for a database that another node serves. A handler behind a Router
// calls it with the error of Acquire or Do, before it has done anything that must not be
// done twice, and returns if the result is true:
//
//	err := m.Do(r.Context(), id, serve)
//	if multidbhttp.NotOwner(w, r, err) {
//		return
//	}
//
// NotOwner reports whether err is an ErrNotOwner; if not, it has answered nothing.
//
// Behind a Router, the Router sends the request to the right node. It forgets the headers that the handler
// has set for its answer, and drops what the handler writes afterwards. If the handler had written something
// before, the Router ends the connection, so that nobody takes half an answer for a whole one. On a node
// without a Router, NotOwner answers with status 421 and a header, by which the Router of the node that has passed the
// request on knows that it may send it again.
func NotOwner(w http.ResponseWriter, r *http.Request, err error) bool {
	if !errors.Is(err, multidb.ErrNotOwner) {
		return false
	}
	if t, ok := r.Context().Value(localTryKey{}).(*localTry); ok {
		t.notOwner.Store(true)
		return true
	}
	answerNotOwner(w, reasonMoved, "another node serves this database")
	return true
}

// answerNotOwner tells the node that has passed a request on that no handler has seen it. The body
// need not have been read: a server of package net/http takes its time to close such a connection, in which the
// other node reads the answer.
func answerNotOwner(w http.ResponseWriter, reason, text string) {
	w.Header().Set(notOwnerHeader, reason)
	w.Header().Set("Cache-Control", "no-store") // a cache may keep a 421 otherwise
	http.Error(w, text, http.StatusMisdirectedRequest)
}

type localTryKey struct{}

// localTry is the answer of this node's handler, until it is known whether it is one. What the
// handler does with it after NotOwner has no effect.
type localTry struct {
	http.ResponseWriter
	notOwner atomic.Bool
	wrote    atomic.Bool
}

func (t *localTry) with(ctx context.Context) context.Context {
	return context.WithValue(ctx, localTryKey{}, t)
}

// Unwrap is for http.ResponseController.
func (t *localTry) Unwrap() http.ResponseWriter { return t.ResponseWriter }

func (t *localTry) WriteHeader(status int) {
	if t.notOwner.Load() {
		return
	}
	if status >= 200 || status == http.StatusSwitchingProtocols {
		t.wrote.Store(true)
	}
	t.ResponseWriter.WriteHeader(status)
}

func (t *localTry) Write(p []byte) (int, error) {
	if t.notOwner.Load() {
		return len(p), nil
	}
	t.wrote.Store(true)
	return t.ResponseWriter.Write(p)
}

// ReadFrom leaves the copying to the ResponseWriter, which may have a faster way.
func (t *localTry) ReadFrom(src io.Reader) (int64, error) {
	if t.notOwner.Load() {
		return io.Copy(io.Discard, src)
	}
	t.wrote.Store(true)
	return io.Copy(t.ResponseWriter, src)
}

func (t *localTry) Flush() { _ = t.FlushError() } // as http.Flusher has it

func (t *localTry) FlushError() error {
	if t.notOwner.Load() {
		return nil
	}
	t.wrote.Store(true)
	return http.NewResponseController(t.ResponseWriter).Flush()
}

func (t *localTry) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	if t.notOwner.Load() {
		return nil, nil, errors.New("multidbhttp: hijack: another node serves this request")
	}
	conn, rw, err := http.NewResponseController(t.ResponseWriter).Hijack()
	if err == nil {
		t.wrote.Store(true)
	}
	return conn, rw, err
}
