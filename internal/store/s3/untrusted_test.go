package s3

import (
	"errors"
	"fmt"
	"testing"

	"github.com/multidb-go/multidb/internal/untrusted"
	"github.com/superfly/ltx"
)

func TestAListingOfTooManyFilesEndsWithAnError(t *testing.T) {
	f := newFakeS3(t)
	c := newClient(t, f.config())
	for i := 1; i <= 1500; i++ {
		f.put(t, "p/"+ltxName(0, ltx.TXID(i), ltx.TXID(i)), []byte("x"))
		f.put(t, fmt.Sprintf("q/generations/%016x/snapshots/%08x.snapshot.lz4", i, 1), []byte("x"))
	}
	for _, prefix := range []string{"p", "q"} {
		before := c.Stats().List
		if _, err := c.Prefix(prefix).listing(t.Context(), false, 500); !errors.Is(err, untrusted.ErrDamaged) {
			t.Errorf("%s: error is %v, want ErrDamaged", prefix, err)
		}
		if got := c.Stats().List - before; got != 1 {
			t.Errorf("%s: %d requests, want 1: it goes on", prefix, got)
		}
		if _, err := c.Prefix(prefix).listing(t.Context(), false, 1500); err != nil {
			t.Errorf("%s: as many as may be: %v", prefix, err)
		}
	}
}

func TestMetadataIsReadNoFurtherThanAMebibyte(t *testing.T) {
	f := newFakeS3(t)
	p := newClient(t, f.config()).Prefix("p")
	for _, n := range []int{untrusted.MaxMetadata, untrusted.MaxMetadata + 1} {
		f.put(t, "p/metadata.json", make([]byte, n))
		data, err := p.ReadMetadata(t.Context())
		if n > untrusted.MaxMetadata != errors.Is(err, untrusted.ErrDamaged) || err == nil && len(data) != n {
			t.Errorf("%d bytes: %d, %v", n, len(data), err)
		}
	}
}
