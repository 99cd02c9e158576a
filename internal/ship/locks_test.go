package ship

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/multidb-go/multidb/internal/fsid"
	"github.com/superfly/ltx"
)

// lockHeld reports whether this process holds a lock on a file. The kernel's
// list is read piece by piece, and may miss one while other processes come and
// go; a lock that was dropped stays away.
func lockHeld(t testing.TB, path string) bool {
	t.Helper()
	for range 200 {
		if posixLocks(t, path) > 0 {
			return true
		}
	}
	return false
}

// posixLocks is how many POSIX locks this process holds on a file, by the
// kernel's own list.
func posixLocks(t testing.TB, path string) (n int) {
	t.Helper()
	b, err := os.ReadFile("/proc/locks")
	if err != nil {
		t.Skip(err)
	}
	main, err := fsid.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	pid, ino := fmt.Sprint(os.Getpid()), fmt.Sprintf(":%d", main.Ino)
	for line := range strings.Lines(string(b)) {
		// 1: POSIX  ADVISORY  READ 1234 fd:01:5678 1073741826 1073742335
		f := strings.Fields(line)
		if len(f) >= 6 && f[1] == "POSIX" && f[4] == pid && strings.HasSuffix(f[5], ino) {
			n++
		}
	}
	return n
}

// TestNothingDropsTheLocksOfAnOpenConnection: closing any descriptor of the
// database file would, and the next writer would tear the database.
func TestNothingDropsTheLocksOfAnOpenConnection(t *testing.T) {
	r := newRig(t, 4096)
	reader := r.conn()
	defer r.close(reader)
	var n int
	if err := reader.QueryRowContext(t.Context(), "SELECT count(*) FROM t").Scan(&n); err != nil {
		t.Fatal(err)
	}
	if !lockHeld(t, r.path) {
		t.Skip("this kernel does not list the locks of an open connection")
	}
	r.db.Client = &lockClient{memClient: r.client, held: func(what string) {
		t.Helper()
		if !lockHeld(t, r.path) {
			t.Fatalf("the lock is gone %s", what)
		}
	}}
	held := r.db.Client.(*lockClient).held
	step := func(what string, rule Rule) {
		t.Helper()
		r.ship(rule)
		held("after " + what)
	}
	ops := r.ops()
	do := func(op string) {
		t.Helper()
		if err := ops[op](); err != nil {
			t.Fatalf("%s: %v", op, err)
		}
		held("after " + op)
	}

	r.insert(10, 3000)
	step("a resync", RuleResync)
	step("a step without a change", RuleSame)
	r.insert(3, 100)
	step("a step", RuleSame)
	do("checkpoint")
	r.insert(3, 100)
	step("a step over a restart", RuleRestart)
	do("snapshot")
	do("seal")
	r.insert(3, 100)
	step("a step after a seal", RuleCheckpoint)
	do("seal")
	do("snapshot")
	r.exec("UPDATE t SET v = randomblob(10)")
	mustExec(t, reader, "BEGIN")
	if err := reader.QueryRowContext(t.Context(), "SELECT count(*) FROM t").Scan(&n); err != nil {
		t.Fatal(err)
	}
	r.insert(3, 100)
	do("seal") // incomplete
	do("checkpoint")
	mustExec(t, reader, "COMMIT")
	r.db.State = State{}
	r.verify()
	held("after a verification")
	r.insert(1, 100)
	step("a step after it", RuleSame)
	r.same()
}

// lockClient looks at the locks in the middle of every request.
type lockClient struct {
	*memClient
	held func(what string)
}

func (c *lockClient) WriteLTXFile(ctx context.Context, level int, minTXID, maxTXID ltx.TXID, r io.Reader) (*ltx.FileInfo, error) {
	c.held("while a file is written")
	return c.memClient.WriteLTXFile(ctx, level, minTXID, maxTXID, r)
}

func (c *lockClient) OpenLTXFile(ctx context.Context, level int, minTXID, maxTXID ltx.TXID, off, size int64) (io.ReadCloser, error) {
	c.held("while a file is read")
	return c.memClient.OpenLTXFile(ctx, level, minTXID, maxTXID, off, size)
}
