package multidbhttp

import (
	"errors"
	"io"
	"net/http"
	"sync"
)

// keptBody is the body of a request that may be sent twice. It is read as it comes in, by
// one try after the other, and what was read is kept up to a limit, from which the next try begins.
//
// A try that has ended may still be reading: a Transport returns as soon as there is an
// answer. What such a read brings is kept for the next try, so nothing is lost between them.
type keptBody struct {
	src     io.Reader
	trailer func() http.Header
	max     int64 // how much may be kept

	mu       sync.Mutex
	now      *bodyTry      // the one that may read; nil: none
	kept     []byte        // all that was read, unless dropped
	dropped  bool          // something that was read is kept no longer: there is no next try
	reading  chan struct{} // closed when the read that is going on has ended; nil: none is
	err      error         // how src ended
	trailers http.Header   // at the end of src
}

// newKeptBody returns nil for a request without a body. A body that is known to be larger than
// max is not kept at all.
func newKeptBody(r *http.Request, src io.Reader, max int64) *keptBody {
	if src == nil || r.Body == http.NoBody {
		return nil
	}
	if r.ContentLength > max {
		max = 0
	}
	return &keptBody{src: src, max: max, trailer: func() http.Header { return r.Trailer }}
}

// whole reports whether another try could read all of the body.
func (b *keptBody) whole() bool {
	if b == nil {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return !b.dropped && int64(len(b.kept)) <= b.max
}

// failed returns why the client's body could not be read to its end; nil: it could, or nobody
// has tried.
func (b *keptBody) failed() error {
	if b == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == io.EOF {
		return nil
	}
	return b.err
}

// try begins a reading of the body from its start, after end has ended the former one. trailer, which
// may be nil, receives the trailers when the end was read.
func (b *keptBody) try(trailer http.Header) io.ReadCloser {
	if b == nil {
		return http.NoBody
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.now = &bodyTry{b: b, trailer: trailer, closed: make(chan struct{})}
	return b.now
}

// end has the try that there is read nothing more, but for what it is just reading.
func (b *keptBody) end() {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.now != nil {
		_ = b.now.Close() // never fails
		b.now = nil
	}
}

// bodyTry is one reading of a keptBody. Close may be called beside Read.
type bodyTry struct {
	b       *keptBody
	at      int // how much of b.kept it has read, as long as that is not dropped
	trailer http.Header
	close   sync.Once
	closed  chan struct{}
}

var errBodyClosed = errors.New("multidbhttp: the body was closed")

func (t *bodyTry) Close() error {
	t.close.Do(func() { close(t.closed) })
	return nil
}

func (t *bodyTry) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	b := t.b
	for {
		b.mu.Lock()
		switch {
		case t != b.now || isClosed(t.closed):
			b.mu.Unlock()
			return 0, errBodyClosed
		case t.at < len(b.kept):
			n := copy(p, b.kept[t.at:])
			t.at += n
			b.mu.Unlock()
			return n, nil
		case b.reading != nil: // that of a former try
			reading := b.reading
			b.mu.Unlock()
			select {
			case <-reading:
			case <-t.closed:
			}
		case b.err != nil:
			err := b.err
			if err == io.EOF && t.trailer != nil {
				for name, values := range b.trailers {
					t.trailer[name] = values
				}
			}
			b.mu.Unlock()
			return 0, err
		default:
			b.read(t, p)
		}
	}
}

// read takes more from the client and adds it to what is kept. b.mu is locked when it is called,
// and not when it returns; meanwhile others may see that it reads.
func (b *keptBody) read(t *bodyTry, p []byte) {
	if b.dropped { // what there is was only for this try, which has read it
		b.kept, t.at = b.kept[:0], 0
	} else if int64(len(b.kept)) > b.max {
		b.dropped, b.kept, t.at = true, nil, 0
	}
	done := make(chan struct{})
	b.reading = done
	b.mu.Unlock()
	n, err := b.src.Read(p)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.kept = append(b.kept, p[:n]...)
	if b.err = err; err == io.EOF {
		b.trailers = b.trailer().Clone()
	}
	b.reading = nil
	close(done)
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
