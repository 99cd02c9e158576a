package catalog

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

func begin(t *testing.T, dir string, session uint32) *Sessions {
	t.Helper()
	c, err := Open(t.Context(), dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := c.Begin(t.Context(), session)
	if err != nil {
		t.Fatal(err)
	}
	if c.nodeID != s.NodeID() {
		t.Fatalf("the node is %x and %x", c.nodeID, s.NodeID())
	}
	if err := c.Abandon(); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestASessionIsKnownToLaterOnesOfItsDirectory(t *testing.T) {
	dir := t.TempDir()
	first := begin(t, dir, 1)
	if first.Copied() || !first.Has(1) || first.Has(2) {
		t.Fatalf("%+v", first)
	}
	second := begin(t, dir, 2)
	if second.Copied() || !second.Has(1) || !second.Has(2) || second.NodeID() != first.NodeID() {
		t.Fatalf("%+v", second)
	}
}

// TestACopyOfADirectoryIsAnotherNode: whatever either of them writes from then on
// is not the other's.
func TestACopyOfADirectoryIsAnotherNode(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	first := begin(t, dir, 1)
	copied := filepath.Join(t.TempDir(), "copy")
	if out, err := exec.Command("cp", "-a", dir, copied).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	other := begin(t, copied, 2)
	if !other.Copied() || other.Has(1) || !other.Has(2) || other.NodeID() == first.NodeID() {
		t.Fatalf("%+v", other)
	}
	if !other.WasCopied() || first.WasCopied() {
		t.Fatalf("%+v, %+v", other, first)
	}
	if again := begin(t, copied, 3); !again.WasCopied() || again.Copied() || !again.Has(2) || again.NodeID() != other.NodeID() {
		t.Fatalf("the copy is a copy for ever: %+v", again)
	}
	if still := begin(t, dir, 4); still.Copied() || !still.Has(1) || still.Has(2) || still.NodeID() != first.NodeID() {
		t.Fatalf("%+v", still)
	}
	// A directory that was renamed is the same one.
	moved := dir + "-moved"
	if err := os.Rename(dir, moved); err != nil {
		t.Fatal(err)
	}
	if s := begin(t, moved, 5); s.Copied() || !s.Has(4) {
		t.Fatalf("%+v", s)
	}
}

func TestOnlyTheNewestSessionsAreKept(t *testing.T) {
	c, err := Open(t.Context(), t.TempDir(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := c.Close(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	for n := range uint32(maxSessions + 10) {
		if n < 20 || n > maxSessions-10 { // the rest at once
			if _, err := c.begin(t.Context(), n, 1); err != nil {
				t.Fatal(err)
			}
		} else if n == 20 {
			if _, err := c.db.ExecContext(t.Context(), `WITH RECURSIVE s(n) AS (SELECT 20 UNION ALL SELECT n+1 FROM s WHERE n < ?)
				INSERT INTO meta SELECT format('session.%08x', n), n+1 FROM s`, maxSessions-10); err != nil {
				t.Fatal(err)
			}
		}
	}
	s, err := c.begin(t.Context(), 1<<20, 1)
	if err != nil {
		t.Fatal(err)
	}
	if s.Has(5) || !s.Has(100) || !s.Has(maxSessions+9) || len(s.known) > maxSessions+1 {
		t.Fatalf("%d sessions, the sixth %v", len(s.known), s.Has(5))
	}
}
