package ship

import "testing"

// TestARestartByAnotherConnectionIsProved: SQLite's sequence number is each
// connection's own. Two of one pool that write in turns make it 0, 1, 1, 2, 2, …
// while salt 1 goes up by one.
func TestARestartByAnotherConnectionIsProved(t *testing.T) {
	r := newRig(t, 4096)
	a, b := r.conn(), r.conn()
	defer r.close(a)
	defer r.close(b)
	r.insert(20, 10)
	r.ship(RuleResync)
	for i := range 6 {
		c := a
		if i%2 == 1 {
			c = b
		}
		r.checkpoint()
		mustExec(t, c, "INSERT INTO t(v) VALUES(1)")
		res := drain(t, r.s, r.db)
		h, _ := parseLog(t, r.log())
		if res.Rule != RuleRestart {
			t.Errorf("%d: rule %v, sequence %d, salt %d", i, res.Rule, h.Seq, h.Salt1)
		}
		mustExec(t, c, "INSERT INTO t(v) VALUES(randomblob(9000))") // a longer log
		drain(t, r.s, r.db)
	}
}
