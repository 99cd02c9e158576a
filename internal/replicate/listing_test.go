package replicate

import (
	"context"
	"testing"
	"time"

	"github.com/benbjohnson/litestream"
	"github.com/superfly/ltx"
)

// countingLister has nothing, or some files, and counts how often it is asked.
type countingLister struct {
	litestream.ReplicaClient
	asked int
	has   []*ltx.FileInfo
}

func (c *countingLister) AllLTXFiles(context.Context, bool) ([]*ltx.FileInfo, error) {
	c.asked++
	return c.has, nil
}

// TestAnAnswerThatIsOldDoesNotSpareTheListing: whatever the replica said when the
// file was made, another machine may have written since.
func TestAnAnswerThatIsOldDoesNotSpareTheListing(t *testing.T) {
	const now = time.Hour
	for _, c := range []struct {
		name   string
		vacant time.Duration
		asks   int
	}{
		{"just now", now - time.Second, 0},
		{"never", 0, 1},
		{"long ago, or before the machine slept", now - 2*time.Minute, 1},
	} {
		client := &countingLister{}
		x := &run{st: &State{emptyAt: c.vacant}, Replicator: New(Config{
			Boot: func() time.Duration { return now }, Grace: 5 * time.Minute,
		})}
		for i := range 2 {
			l, err := x.listing(t.Context(), client)
			if err != nil {
				t.Fatal(err)
			}
			if want := now; i == 0 && c.asks == 0 && l.Began != c.vacant || i == 1 && l.Began != want {
				t.Errorf("%s, %d: the listing is of %v", c.name, i, l.Began)
			}
		}
		if client.asked != c.asks+1 { // the second time nothing is spared
			t.Errorf("%s: it was asked %d times", c.name, client.asked)
		}
	}
}
