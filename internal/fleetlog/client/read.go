package client

import (
	"bytes"
	"context"
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
		f.data = l.fetched(f)
	}
	if f.data != nil {
		return io.NopCloser(bytes.NewReader(f.data[offset : offset+size])), nil
	}
	if size == 0 { // for a store it means all that is left
		return io.NopCloser(bytes.NewReader(nil)), nil
	}
	rc, err := l.cfg.Objects.Open(ctx, f.name(), f.offset+offset, size)
	if err != nil || !whole {
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

// readAhead reads a file and those behind it into memory, several at once: whoever reads one
// whole file of a tail is about to restore, and each would cost a round trip. What it could
// not read is read when it is opened, and the error found then.
func (l *Log) readAhead(ctx context.Context, tail []*tailFile) {
	var files []*tailFile
	var sum int64
	l.mu.Lock()
	for i, f := range tail {
		if f.large != 0 || l.ahead[f.key()] != nil {
			if i == 0 {
				break
			}
			continue
		}
		if sum += f.size; len(files) == aheadFiles || sum > aheadBytes {
			break
		}
		files = append(files, f)
	}
	l.mu.Unlock()
	if len(files) < 2 {
		return
	}
	slots := make(chan struct{}, parallel)
	var wg sync.WaitGroup
	for _, f := range files {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			data, err := l.fetch(ctx, f)
			if err != nil {
				return
			}
			l.mu.Lock()
			defer l.mu.Unlock()
			l.ahead[f.key()] = data
		})
	}
	wg.Wait()
}

// fetched takes what was read ahead of a file, which is read once; nil: nothing was.
func (l *Log) fetched(f *tailFile) []byte {
	k := f.key()
	l.mu.Lock()
	defer l.mu.Unlock()
	data := l.ahead[k]
	delete(l.ahead, k)
	return data
}
