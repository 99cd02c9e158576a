package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"

	"github.com/multidb-go/multidb/internal/fleetlog/format"
)

// open reads a file of a tail: from memory, or from its object.
func (l *Log) open(ctx context.Context, f *tailFile, offset, size int64) (io.ReadCloser, error) {
	if offset < 0 || offset > f.size {
		return nil, fmt.Errorf("read from byte %d of a file of %d: %w", offset, f.size, fs.ErrInvalid)
	}
	whole := offset == 0 && (size <= 0 || size >= f.size)
	if size <= 0 || size > f.size-offset {
		size = f.size - offset
	}
	if f.data == nil && whole {
		f.data = l.fetched(ctx, f)
	}
	if f.data != nil {
		return io.NopCloser(bytes.NewReader(f.data[offset : offset+size])), nil
	}
	if size == 0 { // for a store it means all that is left
		return io.NopCloser(bytes.NewReader(nil)), nil
	}
	return l.openObject(ctx, f, offset, size)
}

// openObject reads a part of a file from its object; the whole of it is checked.
func (l *Log) openObject(ctx context.Context, f *tailFile, offset, size int64) (io.ReadCloser, error) {
	rc, err := l.cfg.Objects.Open(ctx, f.name(), f.offset+offset, size)
	if err != nil || size < f.size {
		return rc, err
	}
	return &checked{ReadCloser: rc, f: f, crc: format.NewChecksum()}, nil
}

// checked reads a whole file, and compares it with its record before it gives its last byte.
type checked struct {
	io.ReadCloser
	f   *tailFile
	crc interface {
		io.Writer
		Sum32() uint32
	}
	n int64
}

func (c *checked) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	_, _ = c.crc.Write(p[:n]) // a hash never fails
	c.n += int64(n)
	switch {
	case c.n >= c.f.size && (c.n > c.f.size || c.crc.Sum32() != c.f.crc):
		return 0, c.f.damaged()
	case err == io.EOF && c.n < c.f.size:
		return n, c.f.damaged()
	}
	return n, err
}

// damaged is the error of a file that does not match its record.
func (f *tailFile) damaged() error {
	return fmt.Errorf("%s: %w", f.name(), (format.Record{Min: uint64(f.min), Max: uint64(f.max), Size: -1}).Check(nil))
}

// fetch reads a file that is not large into memory.
func (l *Log) fetch(ctx context.Context, f *tailFile) (data []byte, err error) {
	if f.data != nil {
		return f.data, nil
	}
	rc, err := l.open(ctx, f, 0, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rc.Close() }()
	return io.ReadAll(io.LimitReader(rc, f.size+1))
}

const (
	// aheadFiles and aheadBytes are how much of a tail is read ahead at once.
	aheadFiles = 512
	aheadBytes = 16 << 20
	parallel   = 32
)

// aheadKey is a file by its place.
type aheadKey struct {
	object
	large  uint64
	offset int64
}

func (f *tailFile) key() aheadKey { return aheadKey{f.place, f.large, f.offset} }

// ahead is a file that is read ahead. data is set before done is closed; nil: it failed.
type ahead struct {
	done chan struct{}
	data []byte
}

// readAhead reads a file and those behind it into memory, several at once: whoever reads one
// whole file of a tail is about to restore, and each would cost a round trip. What it could
// not read is read when it is opened, and the error found then. It returns when all is read.
func (l *Log) readAhead(ctx context.Context, tail []*tailFile) {
	type reading struct {
		f *tailFile
		a *ahead
	}
	var files []reading
	var sum int64
	l.mu.Lock()
	for i, f := range tail {
		k := f.key()
		if f.large != 0 || l.ahead[k] != nil {
			if i == 0 {
				break // somebody reads it, and those behind it
			}
			continue
		}
		if sum += f.size; len(files) == aheadFiles || sum > aheadBytes {
			break
		}
		a := &ahead{done: make(chan struct{})}
		l.ahead[k] = a
		files = append(files, reading{f, a})
	}
	l.mu.Unlock()
	slots := make(chan struct{}, parallel)
	var wg sync.WaitGroup
	for _, r := range files {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			defer close(r.a.done)
			if rc, err := l.openObject(ctx, r.f, 0, r.f.size); err == nil {
				r.a.data, err = io.ReadAll(io.LimitReader(rc, r.f.size+1))
				if err = errors.Join(err, rc.Close()); err != nil {
					r.a.data = nil
				}
			}
		})
	}
	wg.Wait()
}

// fetched takes what is read ahead of a file, which is read once; nil: it is not.
func (l *Log) fetched(ctx context.Context, f *tailFile) []byte {
	k := f.key()
	l.mu.Lock()
	a := l.ahead[k]
	l.mu.Unlock()
	if a == nil {
		return nil
	}
	select {
	case <-a.done:
	case <-ctx.Done():
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ahead[k] == a {
		delete(l.ahead, k)
	}
	return a.data
}
