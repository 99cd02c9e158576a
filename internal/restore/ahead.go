package restore

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"sync"
	"time"

	"github.com/benbjohnson/litestream"
	"github.com/multidb-go/multidb/internal/ctxio"
	"github.com/multidb-go/multidb/internal/untrusted"
	"github.com/superfly/ltx"
)

const (
	// aheadBytes is up to which size a file is read before its turn, and aheadFiles how many
	// at once. It bounds what a restore holds in memory.
	aheadBytes = 1 << 20
	aheadFiles = 8
)

// ahead reads the files of a plan, the newest first, and small ones before their turn: each
// is a request, and most of a request is waiting.
type ahead struct {
	client litestream.ReplicaClient
	cancel context.CancelFunc
	files  chan chan *opened // in their order
	last   *opened
	wg     sync.WaitGroup
}

// opened is a file that is read.
type opened struct {
	window
	end func()
	err error
}

// readAhead begins to read. stop must be called.
func readAhead(ctx context.Context, client litestream.ReplicaClient, plan []*ltx.FileInfo) *ahead {
	ctx, cancel := context.WithCancel(ctx)
	a := &ahead{client: client, cancel: cancel, files: make(chan chan *opened, len(plan))}
	a.wg.Go(func() { a.read(ctx, plan) })
	return a
}

func (a *ahead) read(ctx context.Context, plan []*ltx.FileInfo) {
	defer close(a.files)
	room := make(chan struct{}, aheadFiles)
	for i := len(plan) - 1; i >= 0; i-- {
		info, file := plan[i], make(chan *opened, 1)
		// One alone is decoded while it arrives.
		if info.Size > aheadBytes || len(plan) == 1 {
			s := newStream(ctx, a.client, info)
			buf := buffer(windowBytes)
			file <- &opened{window: window{src: s, buf: buf}, end: func() { s.close(); putBuffer(buf) }}
			a.files <- file
			continue
		}
		select {
		case room <- struct{}{}:
		case <-ctx.Done():
			return
		}
		a.files <- file
		a.wg.Go(func() {
			s := newStream(ctx, a.client, info)
			defer s.close()
			buf := buffer(int(info.Size) + 1)
			n, err := readAll(s, buf[:info.Size+1])
			file <- &opened{window: window{buf: buf, end: n}, end: func() { putBuffer(buf); <-room }, err: err}
		})
	}
}

// readAll reads a file that is shorter than b to its end.
func readAll(r io.Reader, b []byte) (n int, err error) {
	for n < len(b) {
		k, err := r.Read(b[n:])
		if n += k; err == io.EOF {
			return n, nil
		} else if err != nil {
			return n, err
		}
	}
	return n, errLonger
}

// next returns the next file. The one before is not read any more.
func (a *ahead) next(ctx context.Context) (*window, error) {
	a.done()
	select {
	case file, ok := <-a.files:
		if !ok {
			return nil, context.Cause(ctx)
		}
		select {
		case a.last = <-file:
			return &a.last.window, a.last.err
		case <-ctx.Done():
		}
	case <-ctx.Done():
	}
	return nil, context.Cause(ctx)
}

func (a *ahead) done() {
	if a.last != nil {
		a.last.end()
		a.last = nil
	}
}

// stop ends the requests, and waits for their end.
func (a *ahead) stop() {
	a.done()
	a.cancel()
	a.wg.Wait()
}

const (
	// streamTries is how often a file is opened again without a byte of it in between, the
	// first time after streamPause, and twice as long each time.
	streamTries = 3
	streamPause = 250 * time.Millisecond
	// streamPatience is how long one read may take.
	streamPatience = 30 * time.Second
)

// stream reads a file, and goes on where it was if the connection breaks.
type stream struct {
	ctx    context.Context
	client litestream.ReplicaClient
	info   *ltx.FileInfo
	rc     io.ReadCloser
	cancel context.CancelFunc // of rc
	pos    int64
	tries  int
}

func newStream(ctx context.Context, client litestream.ReplicaClient, info *ltx.FileInfo) *stream {
	return &stream{ctx: ctx, client: client, info: info}
}

func (s *stream) Read(p []byte) (int, error) {
	for {
		n, err := s.read(p)
		switch {
		case n > 0:
			s.tries = 0
			if err == io.EOF || err == nil {
				return n, err
			}
			s.close()
			return n, nil
		case err == nil, err == io.EOF:
			return n, err
		case s.ctx.Err() != nil:
			return 0, context.Cause(s.ctx)
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, untrusted.ErrDamaged), s.tries == streamTries:
			return 0, err
		case s.pos >= s.info.Size: // there is no more of it: it was cut off before it was listed
			return 0, err
		}
		s.close()
		if err := ctxio.Sleep(s.ctx, streamPause<<s.tries); err != nil {
			return 0, err
		}
		s.tries++
	}
}

// read reads once. A stream that ends before the file has an error.
func (s *stream) read(p []byte) (int, error) {
	if s.rc == nil {
		ctx, cancel := context.WithCancel(s.ctx)
		rc, err := s.client.OpenLTXFile(ctx, s.info.Level, s.info.MinTXID, s.info.MaxTXID, s.pos, 0)
		if err != nil {
			cancel()
			return 0, err
		}
		s.rc, s.cancel = rc, cancel
	}
	late := time.AfterFunc(streamPatience, s.cancel)
	n, err := s.rc.Read(p)
	late.Stop()
	if s.pos += int64(n); err == io.EOF && s.pos < s.info.Size {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

func (s *stream) close() {
	if s.rc != nil {
		s.cancel()
		_ = s.rc.Close() // only read from
		s.rc = nil
	}
}
