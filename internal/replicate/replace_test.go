package replicate

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/multidb-go/multidb/internal/fsid"
)

// willing is a Caller that lets the local file be replaced.
type willing struct{ Caller }

func (willing) MayReplace() bool { return true }

func (willing) MayVacate(context.Context, *State) error { return nil }

// TestOnlyAnOperatorsWordReplacesAFileThatWasWrittenSince: it may have commits of its own.
func TestOnlyAnOperatorsWordReplacesAFileThatWasWrittenSince(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	x := &run{Replicator: New(Config{Stat: fsid.StatWith}), in: Input{Path: path, Caller: willing{}, Order: OrderCheck}}
	var err error
	if x.r.Files, err = x.stat(); err != nil {
		t.Fatal(err)
	}
	if !x.mayReplace() {
		t.Error("a file that nobody has touched may not be replaced")
	}
	if err := os.WriteFile(path, []byte("written since"), 0o600); err != nil {
		t.Fatal(err)
	}
	if x.mayReplace() {
		t.Error("a file that was written since may be replaced without an operator's word")
	}
	if x.in.Order = OrderAdopt; !x.mayReplace() {
		t.Error("an operator's word does not count")
	}
}
