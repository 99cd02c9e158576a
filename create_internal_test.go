package multidb

import (
	"context"
	"testing"
	"time"

	"github.com/benbjohnson/litestream"
	"github.com/superfly/ltx"
)

// countingLister has nothing, and counts how often it is asked.
type countingLister struct {
	litestream.ReplicaClient
	asked int
}

func (c *countingLister) AllLTXFiles(context.Context, bool) ([]*ltx.FileInfo, error) {
	c.asked++
	return nil, nil
}

// TestAnAnswerThatIsOldDoesNotSpareTheListing: whatever the replica said when the
// file was made, another machine may have written since. The wall clock alone
// tells of a machine that slept.
func TestAnAnswerThatIsOldDoesNotSpareTheListing(t *testing.T) {
	now := time.Now()
	for _, c := range []struct {
		name   string
		vacant time.Time
		l0     time.Duration
		asks   int
	}{
		{"just now", now.Add(-time.Second), 5 * time.Minute, 0},
		{"never", time.Time{}, 5 * time.Minute, 1},
		{"long ago", now.Add(-2 * time.Minute), 5 * time.Minute, 1},
		{"long ago for the retention", now.Add(-2 * time.Second), 2 * time.Second, 1},
		{"before the machine slept", now.Round(0).Add(-time.Hour), 5 * time.Minute, 1},
		{"in the future", now.Add(time.Hour), 5 * time.Minute, 1},
	} {
		client, w := &countingLister{}, &work{vacant: c.vacant}
		m := &Manager{cfg: config{now: func() time.Time { return now }, l0Retention: c.l0}}
		for range 2 {
			if _, err := m.listPrefix(t.Context(), w, client); err != nil {
				t.Fatal(err)
			}
		}
		if client.asked != c.asks+1 { // the second time nothing is spared
			t.Errorf("%s: it was asked %d times", c.name, client.asked)
		}
	}
}
