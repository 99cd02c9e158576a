package drill

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"runtime"
	"sync"

	"github.com/benbjohnson/litestream"
	"github.com/superfly/ltx"
)

// watched is a client that notes what became of the requests of one restore: where none
// failed, what is wrong is wrong with the backup. Safe for concurrent use.
type watched struct {
	litestream.ReplicaClient

	mu   sync.Mutex
	gone error // a file that was listed is not there
	err  error // a request failed otherwise
}

// saw notes the error of a request.
func (w *watched) saw(err error) error {
	if err == nil || err == io.EOF || errors.Is(err, context.Canceled) || errors.Is(err, fs.ErrClosed) {
		return err // the last two are what is left of a restore that has failed already
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if errors.Is(err, fs.ErrNotExist) {
		w.gone = err
	} else {
		w.err = err
	}
	return err
}

// failed is why a request failed; nil: none did, other than that of a missing file.
func (w *watched) failed() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// missing is why a file that was listed could not be opened, if it was not there.
func (w *watched) missing() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.gone
}

func (w *watched) LTXFiles(ctx context.Context, level int, seek ltx.TXID, useMetadata bool) (ltx.FileIterator, error) {
	itr, err := w.ReplicaClient.LTXFiles(ctx, level, seek, useMetadata)
	if w.saw(err) != nil {
		return nil, err
	}
	return watchedList{itr, w}, nil
}

func (w *watched) OpenLTXFile(ctx context.Context, level int, minTXID, maxTXID ltx.TXID, offset, size int64) (io.ReadCloser, error) {
	runtime.Gosched() // whoever ships goes first
	rc, err := w.ReplicaClient.OpenLTXFile(ctx, level, minTXID, maxTXID, offset, size)
	if w.saw(err) != nil {
		return nil, err
	}
	return watchedBody{rc, w}, nil
}

type watchedList struct {
	ltx.FileIterator
	w *watched
}

func (l watchedList) Err() error { return l.w.saw(l.FileIterator.Err()) }

type watchedBody struct {
	io.ReadCloser
	w *watched
}

func (b watchedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	return n, b.w.saw(err)
}
