package ctxio_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/multidb-go/multidb/internal/ctxio"
)

func TestASleepEndsAfterItsTimeOrWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		if err := ctxio.Sleep(t.Context(), time.Minute); err != nil || time.Since(began) != time.Minute {
			t.Errorf("slept %v, %v", time.Since(began), err)
		}
		cause := errors.New("enough")
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, cause)
		defer cancel()
		began = time.Now()
		if err := ctxio.Sleep(ctx, time.Hour); !errors.Is(err, cause) || time.Since(began) != time.Second {
			t.Errorf("slept %v, error is %v, want the cause", time.Since(began), err)
		}
	})
}

func TestAReaderCountsWhatItReadAndEndsWithItsContext(t *testing.T) {
	var n atomic.Int64
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r := &ctxio.Reader{Ctx: ctx, R: strings.NewReader("12345"), N: &n}
	if b, err := io.ReadAll(r); err != nil || string(b) != "12345" || n.Load() != 5 {
		t.Errorf("read %q, counted %d, %v", b, n.Load(), err)
	}
	cancel()
	// At the end of the text too.
	if _, err := r.Read(make([]byte, 1)); !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v, want context.Canceled", err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}
