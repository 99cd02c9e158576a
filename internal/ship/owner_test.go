package ship

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/benbjohnson/litestream"
	"github.com/superfly/ltx"
)

// other is a machine that went on from the replica's newest state, as the given
// node: it commits n rows.
func (r *rig) other(node uint32, n int) *rig {
	r.t.Helper()
	o := newRig(r.t, 4096)
	o.closeApp()
	o.s.cfg.Node, o.s.cfg.Session = node, 7
	o.client = r.client
	o.db = &DB{Path: o.path, Client: r.client}
	r.restoreTo(o.path)
	o.app = ours(o.t, o.path)
	o.verify()
	o.insert(n, 100)
	drain(r.t, o.s, o.db)
	return o
}

// restoreTo puts the replica's newest state in the place of a database.
func (r *rig) restoreTo(path string) {
	r.t.Helper()
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := os.Remove(path + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			r.t.Fatal(err)
		}
	}
	opt := litestream.NewRestoreOptions()
	opt.OutputPath = path
	if err := litestream.NewReplicaWithClient(nil, r.client).Restore(r.t.Context(), opt); err != nil {
		r.t.Fatal(err)
	}
}

// lostState is a start that knows nothing, on the same file.
func (r *rig) lostState(node uint32) {
	cfg := r.s.cfg
	cfg.Node, cfg.Session, cfg.Mine = node, 9, nil
	r.s = New(cfg)
	r.db = &DB{Path: r.path, Client: r.client}
}

func (r *rig) refused(want error) {
	r.t.Helper()
	st, n := r.db.State, len(r.client.files)
	for range 2 {
		if err := r.tryVerify(); !errors.Is(err, want) {
			r.t.Fatalf("got %v, want %v", err, want)
		}
	}
	if r.db.State != st || len(r.client.files) != n {
		r.t.Fatal("something was written or moved")
	}
}

func TestAReplicaThatIsAsItWasKnownGoesOnWhateverTheFileIs(t *testing.T) {
	r := newRig(t, 4096)
	r.insert(3, 100)
	r.ship(RuleResync)
	r.reborn()
	r.foreign("PRAGMA wal_checkpoint(TRUNCATE)", "DELETE FROM t", "VACUUM")
	r.verify()
	r.ship(RuleResync)
	r.same()
}

func TestAFileThatOnlyLagsIsBehindAndNotShipped(t *testing.T) {
	for name, settle := range map[string]func(r *rig){
		"with its log": func(*rig) {},
		"sealed": func(r *rig) {
			r.closeApp()
			if out, err := r.s.Seal(r.t.Context(), r.db); err != nil || !out.Complete {
				r.t.Fatalf("%+v, %v", out, err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 4096)
			r.insert(3, 100)
			r.ship(RuleResync)
			settle(r)
			r.other(2, 4)
			r.reborn()
			r.refused(ErrBehind)
		})
	}
}

func TestAFileWithCommitsOfItsOwnIsFencedByWhoWentOn(t *testing.T) {
	r := newRig(t, 4096)
	r.insert(3, 100)
	r.ship(RuleResync)
	r.other(2, 4)
	r.insert(1, 100)
	r.reborn()
	r.refused(ErrFenced)
	if err := r.tryVerify(); !strings.Contains(err.Error(), "00000002/00000007") || !strings.Contains(err.Error(), "00000001/00000001") {
		t.Errorf("both writers are to be named: %v", err)
	}
}

// TestAnEqualNumberIsNotAnEqualHistory: the replica was put back, and another went
// on from there to the same TXID.
func TestAnEqualNumberIsNotAnEqualHistory(t *testing.T) {
	r := newRig(t, 4096)
	r.insert(3, 100)
	r.ship(RuleResync)
	r.insert(1, 100)
	r.ship(RuleSame)
	delete(r.client.files, [3]uint64{0, 2, 2})
	o := r.other(2, 1)
	if o.db.State.TXID != r.db.State.TXID {
		t.Fatalf("the other is at %s", o.db.State.TXID)
	}
	r.reborn()
	r.refused(ErrFenced)
	// And where it went further, the file that is known shows that it did not go on
	// from here, though nothing was committed here since.
	o.insert(1, 100)
	drain(t, o.s, o.db)
	r.refused(ErrFenced)
}

func TestALostStateGoesOnWhereTheFileIsTheReplicas(t *testing.T) {
	for name, c := range map[string]struct {
		change func(r *rig)
		rule   Rule
	}{
		"nothing since": {func(*rig) {}, RuleCheckpoint},
		"commits since, before anybody could ask": {func(r *rig) { r.insert(2, 100) }, RuleCheckpoint},
		"all of it in the log": {func(r *rig) {
			r.exec("UPDATE t SET v = zeroblob(10) WHERE k = 1")
			r.ship(RuleCheckpoint)
			r.insert(1, 100)
		}, RuleSame},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 4096)
			r.insert(5, 100)
			r.ship(RuleResync)
			r.closeApp()
			if out, err := r.s.Seal(t.Context(), r.db); err != nil || !out.Complete {
				t.Fatalf("%+v, %v", out, err)
			}
			r.app = ours(t, r.path)
			c.change(r)
			r.lostState(3)
			r.verify()
			if r.db.State.Origin.Node() != 1 {
				t.Errorf("the last file is said to be of %s", r.db.State.Origin)
			}
			r.ship(c.rule)
			r.same()
			r.insert(1, 100)
			drain(t, r.s, r.db)
			r.same()
			r.contiguous()
		})
	}
}

func TestALostStateIsFencedWhereTheFileDiffers(t *testing.T) {
	for name, change := range map[string]func(r *rig){
		"by a commit that was checkpointed": func(r *rig) { r.insert(1, 100); r.foreign("PRAGMA wal_checkpoint(TRUNCATE)") },
		"by the other's commits":            func(r *rig) { r.other(2, 3) },
		"by an older copy":                  func(r *rig) { r.other(2, 3); r.insert(1, 10) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 4096)
			r.insert(5, 100)
			r.ship(RuleResync)
			change(r)
			r.foreign("PRAGMA wal_checkpoint(TRUNCATE)")
			r.lostState(3)
			r.refused(ErrFenced)
			l := r.listing()
			l.TakeOverUnknown = true // WithTakeover
			if err := r.s.Verify(t.Context(), r.db, l); err != nil {
				t.Fatal(err)
			}
			r.ship(RuleResync)
			r.same()
		})
	}
}

func TestAnOperatorMayChooseTheLocalFile(t *testing.T) {
	r := newRig(t, 4096)
	r.insert(3, 100)
	r.ship(RuleResync)
	o := r.other(2, 4)
	theirs := o.db.State.TXID
	want := restore(t, r.client, theirs)
	r.insert(1, 100)
	r.reborn()
	r.refused(ErrFenced)
	l := r.listing()
	l.TakeOver = true
	if err := r.s.Verify(t.Context(), r.db, l); err != nil {
		t.Fatal(err)
	}
	r.ship(RuleResync)
	r.same()
	if got := restore(t, r.client, theirs); got != want {
		t.Error("the other history is not restorable by its TXID any more")
	}
	o.insert(1, 100)
	if _, err := o.s.Step(t.Context(), o.db); !errors.Is(err, ErrFenced) {
		t.Errorf("the other: %v", err)
	}
}

// TestAWriterThatSleptListsBeforeItWrites: a file that is created only if it does
// not exist cannot tell that one of its name existed.
func TestAWriterThatSleptListsBeforeItWrites(t *testing.T) {
	r := newRig(t, 4096)
	var slept time.Duration
	r.s.cfg.Boot = func() time.Duration { return time.Hour + slept }
	r.insert(3, 100)
	r.ship(RuleResync)
	o := r.other(2, 1)
	for range 5 {
		o.insert(1, 100)
		drain(t, o.s, o.db)
	}
	for txid := ltx.TXID(2); txid < o.db.State.TXID; txid++ { // compacted and deleted meanwhile
		delete(r.client.files, [3]uint64{0, uint64(txid), uint64(txid)})
	}
	r.insert(1, 100)
	slept = DefaultWindow + time.Second
	st, n := r.db.State, len(r.client.files)
	if _, err := r.s.Step(t.Context(), r.db); !errors.Is(err, ErrStale) {
		t.Fatalf("got %v", err)
	}
	if r.db.State != st || len(r.client.files) != n {
		t.Fatal("something was written or moved")
	}
	r.refused(ErrFenced)
}

// TestAWriteThatTookTooLongIsNotAcknowledged: it may have come after another's file
// of its name had come and gone. Neither is one whose answer was lost.
func TestAWriteThatTookTooLongIsNotAcknowledged(t *testing.T) {
	for name, lost := range map[string]bool{"it is answered": false, "its answer is lost": true} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 4096)
			var slept time.Duration
			r.s.cfg.Boot = func() time.Duration { return time.Hour + slept }
			r.insert(3, 100)
			r.ship(RuleResync)
			o := r.other(2, 1)
			o.insert(1, 100)
			drain(t, o.s, o.db)
			delete(r.client.files, [3]uint64{0, 2, 2}) // its own
			r.insert(1, 100)
			r.client.fault = func(level int, txid ltx.TXID) (error, bool) {
				slept = 2 * DefaultWindow // while the write is under way
				if lost {
					return errLost, true
				}
				return nil, false
			}
			_, err := r.s.Step(t.Context(), r.db)
			r.client.fault = nil
			if lost {
				if !errors.Is(err, errLost) {
					t.Fatal(err)
				}
				_, err = r.s.Step(t.Context(), r.db)
			}
			if !errors.Is(err, ErrStale) || r.db.State.TXID != 1 {
				t.Fatalf("got %v at %s", err, r.db.State.TXID)
			}
			r.refused(ErrFenced)
		})
	}
}

// TestASlowWriteThatNobodyOvertookIsAcknowledged costs one listing.
func TestASlowWriteThatNobodyOvertookIsAcknowledged(t *testing.T) {
	r := newRig(t, 4096)
	var slept time.Duration
	r.s.cfg.Boot = func() time.Duration { return time.Hour + slept }
	r.insert(3, 100)
	r.ship(RuleResync)
	for range 3 {
		r.insert(1, 100)
		r.client.fault = func(int, ltx.TXID) (error, bool) { slept += 2 * DefaultWindow; return nil, false }
		r.ship(RuleSame)
	}
	r.client.fault = nil
	r.same()
	r.contiguous()
}
