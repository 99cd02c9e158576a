package ship

import (
	"bytes"
	"testing"
)

func TestALostStateIsTakenFromTheLastFile(t *testing.T) {
	for name, write := range map[string]func(r *rig){
		"of one commit":        func(r *rig) { r.insert(1, 100); r.ship(RuleSame) },
		"of several commits":   func(r *rig) { r.insert(3, 6000); r.ship(RuleSame) },
		"of a resync":          func(*rig) {},
		"of a restart":         func(r *rig) { r.checkpoint(); r.insert(2, 100); r.ship(RuleRestart) },
		"after a shrink":       func(r *rig) { r.exec("DELETE FROM t WHERE k > 2", "VACUUM"); r.ship(RuleSame) },
		"and more is to ship":  func(r *rig) { r.insert(1, 100); r.ship(RuleSame); r.insert(2, 100) },
		"and all is in a file": func(r *rig) { r.insert(1, 100); r.ship(RuleSame); r.foreign("PRAGMA wal_checkpoint(FULL)") },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 4096)
			r.insert(10, 100)
			r.ship(RuleResync)
			write(r)
			txid := r.db.State.TXID
			r.db.State = State{}
			r.reborn()
			r.verify()
			if r.db.State.TXID != txid {
				t.Fatalf("the state is at %s, want %s", r.db.State.TXID, txid)
			}
			r.ship(RuleSame)
			r.same()
			r.insert(1, 100)
			if name == "and all is in a file" {
				r.ship(RuleResync) // SQLite is not known to have it
			} else {
				r.ship(RuleSame)
			}
			r.same()
			r.contiguous()
		})
	}
}

func (r *rig) checkpoint() {
	r.t.Helper()
	if got, err := r.s.Checkpoint(r.t.Context(), r.db); err != nil || !got.Complete {
		r.t.Fatalf("checkpoint: %+v, %v", got, err)
	}
}

// TestARestartIsNotProvedFromAPositionTakenFromTheReplica: what stood in the
// slot when the file was shipped is not known any more.
func TestARestartIsNotProvedFromAPositionTakenFromTheReplica(t *testing.T) {
	r := newRig(t, 4096)
	r.insert(10, 100)
	r.ship(RuleResync)
	r.exec("UPDATE t SET v = 'missed' WHERE k = 2") // stands in the slot
	r.db.State = State{}
	r.reborn()
	r.verify()
	r.foreign("PRAGMA wal_checkpoint(FULL)")
	r.exec("UPDATE t SET v = 'seen' WHERE k = 3")
	r.ship(RuleResync)
	r.same()
}

func TestALastFileThatDiffersFromTheLogCostsAResync(t *testing.T) {
	for name, edit := range map[string]func(f *file){
		"in one byte":             func(f *file) { f.pages[maxPage(f)][4000] ^= 1 },
		"by a missing page":       func(f *file) { delete(f.pages, maxPage(f)) },
		"in the salts":            func(f *file) { f.hdr.WALSalt2++ },
		"by ending inside a page": func(f *file) { f.hdr.WALSize -= 8 },
		"by ending too late":      func(f *file) { f.hdr.WALSize += 24 + 4096 },
		"by having no log":        func(f *file) { f.hdr.WALOffset, f.hdr.WALSize, f.hdr.WALSalt1, f.hdr.WALSalt2 = 0, 0, 0, 0 },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 4096)
			r.insert(10, 100)
			r.ship(RuleResync)
			r.insert(2, 100)
			r.ship(RuleSame)
			f := r.client.read(t, 0, 2, 2)
			edit(&f)
			r.client.files[[3]uint64{0, 2, 2}] = encode(t, f)
			r.db.State = State{}
			r.reborn()
			r.verify()
			if r.db.State.TXID != 2 || r.db.State.Offset != 0 {
				t.Fatalf("the state is %+v", r.db.State)
			}
			r.ship(RuleResync)
			r.same()
		})
	}
}

func maxPage(f *file) (pgno uint32) {
	for p := range f.pages {
		pgno = max(pgno, p)
	}
	return pgno
}

func encode(t testing.TB, f file) []byte {
	t.Helper()
	var b bytes.Buffer
	enc, err := newEncoder(&b, f.hdr)
	if err != nil {
		t.Fatal(err)
	}
	for pgno := uint32(1); pgno <= f.hdr.Commit; pgno++ {
		if p := f.pages[pgno]; p != nil {
			if err := enc.page(pgno, p); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := enc.close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestAReplicaThatLostFilesIsBroughtBack(t *testing.T) {
	for name, restarted := range map[string]bool{"in the same log": false, "after the log restarted": true} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 4096)
			r.insert(10, 100)
			for range 5 {
				r.insert(2, 100)
				drain(t, r.s, r.db)
			}
			if restarted {
				r.checkpoint()
				r.insert(2, 100)
				r.ship(RuleRestart)
			}
			for txid := uint64(4); txid <= uint64(r.db.State.TXID); txid++ {
				delete(r.client.files, [3]uint64{0, txid, txid})
			}
			r.reborn()
			r.verify()
			if r.db.State.TXID != 3 {
				t.Fatalf("the state is at %s", r.db.State.TXID)
			}
			want := RuleSame
			if restarted {
				want = RuleResync
			}
			r.ship(want)
			r.same()
			r.contiguous()
		})
	}
}

func TestAnEmptyReplicaIsFilledAgain(t *testing.T) {
	r := newRig(t, 4096)
	r.insert(10, 100)
	r.ship(RuleResync)
	clear(r.client.files)
	r.reborn()
	r.verify()
	r.ship(RuleResync)
	r.same()
	if r.db.State.TXID != 1 {
		t.Errorf("at %s", r.db.State.TXID)
	}
}

func TestAStateOfAnotherTimeEndsInTheTruth(t *testing.T) {
	for name, between := range map[string]func(r *rig){
		"in the same log":             func(*rig) {},
		"with a restart between":      func(r *rig) { r.checkpoint(); r.insert(1, 100); r.ship(RuleRestart) },
		"sealed since":                func(r *rig) { r.closeApp(); r.seal(); r.app = ours(r.t, r.path) },
		"with unseen commits":         func(r *rig) { r.insert(4, 100) },
		"with an unseen checkpoint":   func(r *rig) { r.insert(4, 100); r.foreign("PRAGMA wal_checkpoint(TRUNCATE)"); r.insert(1, 100) },
		"with a snapshot as the last": func(r *rig) { r.ops()["snapshot"]() },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 4096)
			r.insert(10, 100)
			r.ship(RuleResync)
			old := r.db.State
			for range 4 {
				r.insert(2, 100)
				r.ship(RuleSame)
			}
			between(r)
			r.db.State = old
			r.reborn()
			r.verify()
			drain(t, r.s, r.db)
			r.same()
			r.insert(1, 100)
			drain(t, r.s, r.db)
			r.same()
			r.contiguous()
		})
	}
}
