package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/benbjohnson/litestream"
	"github.com/multidb-go/multidb/internal/fleetlog/format"
	"github.com/multidb-go/multidb/internal/fleetlog/journal"
	"github.com/multidb-go/multidb/internal/store"
	"github.com/multidb-go/multidb/internal/store/file"
	"github.com/superfly/ltx"
)

// commit is an LTX file of one transaction, whose pages are filled with what.
func commit(t *testing.T, txid ltx.TXID, what byte) []byte {
	t.Helper()
	var b bytes.Buffer
	enc, err := ltx.NewEncoder(&b)
	if err != nil {
		t.Fatal(err)
	}
	if err := enc.EncodeHeader(ltx.Header{Version: ltx.Version, Flags: ltx.HeaderFlagNoChecksum, PageSize: 512, Commit: 1, MinTXID: txid, MaxTXID: txid, Timestamp: int64(txid), NodeID: uint64(what)}); err != nil {
		t.Fatal(err)
	}
	if err := enc.EncodePage(ltx.PageHeader{Pgno: 1}, bytes.Repeat([]byte{what}, 512)); err != nil {
		t.Fatal(err)
	}
	if err := enc.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// write ships transactions first to last of a tenant, and waits until they are durable.
func (w *world) write(prefix string, first, last ltx.TXID, what byte) {
	w.t.Helper()
	c := w.client(prefix)
	for txid := first; txid <= last; txid++ {
		if _, err := c.WriteLTXFile(w.t.Context(), 0, txid, txid, bytes.NewReader(commit(w.t, txid, what))); err != nil {
			w.t.Fatal(err)
		}
	}
	if err := c.Await(w.t.Context(), last); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) client(prefix string) *Client {
	return w.log.Client(prefix, prefix, w.store.Client(prefix))
}

// erase erases a tenant as a Manager does: the log first, then the prefix.
func (w *world) erase(prefix string) time.Time {
	w.t.Helper()
	until, err := w.client(prefix).Erase(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.store.Client(prefix).ErasePrefix(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	return until
}

// found is what each kind of reader finds of a tenant, from the store alone: who wrote each
// transaction.
func (w *world) found(prefix string) string {
	w.t.Helper()
	ctx := w.t.Context()
	all, err := Read(ctx, w.objects)
	if err != nil {
		w.t.Fatal(err)
	}
	newest, err := ReadTenant(ctx, w.objects, prefix, false)
	if err != nil {
		w.t.Fatal(err)
	}
	history, err := ReadTenant(ctx, w.objects, prefix, true)
	if err != nil {
		w.t.Fatal(err)
	}
	var texts []string
	for _, l := range []*Log{all, newest, history} {
		c := l.Client("", prefix, w.store.Client(prefix))
		files, err := c.AllLTXFiles(ctx, false)
		if err != nil {
			w.t.Fatal(err)
		}
		var text []string
		for _, f := range files {
			rc, err := c.OpenLTXFile(ctx, 0, f.MinTXID, f.MaxTXID, 0, 0)
			if err != nil {
				w.t.Fatal(err)
			}
			hdr, err := header(rc)
			if err != nil {
				w.t.Fatal(err)
			}
			text = append(text, fmt.Sprintf("%d-%d by %c", f.MinTXID, f.MaxTXID, byte(hdr.NodeID)))
		}
		texts = append(texts, strings.Join(text, ", "))
	}
	if texts[0] != texts[1] {
		w.t.Errorf("of all logs %q, of one tenant %q", texts[0], texts[1])
	}
	return texts[0] + " | " + texts[2]
}

func (w *world) wantFound(prefix, want string) {
	w.t.Helper()
	if got := w.found(prefix); got != want+" | "+want {
		w.t.Errorf("%s: found %q, want %q", prefix, got, want)
	}
}

func TestWhatWasErasedIsReadByNobodyAndANewHistoryStandsAlone(t *testing.T) {
	w := newWorld(t)
	w.write("a", 1, 5, 'o')
	w.write("b", 1, 1, 'b')
	if until := w.erase("a"); until.IsZero() {
		t.Error("the log is said to have nothing of it")
	}
	w.wantFound("a", "")
	w.wantFound("b", "1-1 by b")
	if tail := w.log.Tail("a"); tail.Files != 0 {
		t.Errorf("there is a tail: %+v", tail)
	}
	w.write("a", 1, 3, 'n')
	w.wantFound("a", "1-1 by n, 2-2 by n, 3-3 by n")
	if _, err := w.client("a").Unpack(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if got := w.found("a"); strings.Contains(got, "o") {
		t.Errorf("unpacked: %s", got)
	}
}

func TestWhoTakesOverKnowsWhatWasErased(t *testing.T) {
	for _, anew := range []bool{false, true} {
		w := newWorld(t)
		w.write("a", 1, 5, 'o')
		w.write("b", 1, 1, 'b')
		w.erase("a")
		want := ""
		if anew {
			w.write("a", 1, 2, 'n')
			want = "1-1 by n, 2-2 by n"
		}
		w.journal.Stop() // a crash
		w.begin(2)
		if _, err := w.log.Former(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.wantFound("a", want)
		if err := w.log.UnpackAll(t.Context(), w.prefix); err != nil {
			t.Fatal(err)
		}
		if err := w.log.FinishFormer(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := w.level0("a"); anew != (got != "") {
			t.Errorf("made anew %v: the prefix has %q", anew, got)
		}
		if got := w.found("a"); strings.Contains(got, "o") {
			t.Errorf("made anew %v: %s", anew, got)
		}
	}
}

func TestWhatAFormerLogHasIsErasedToo(t *testing.T) {
	w := newWorld(t)
	w.write("a", 1, 5, 'o')
	w.write("b", 1, 1, 'b')
	w.journal.Stop()
	w.begin(2)
	w.erase("a")
	w.wantFound("a", "")
	w.write("a", 1, 3, 'n')
	w.write("c", 1, 1, 'c')
	// Nothing of this life is needed any more, but that "a" was erased before it.
	for _, prefix := range []string{"a", "c"} {
		if _, err := w.client(prefix).Unpack(t.Context(), true); err != nil {
			t.Fatal(err)
		}
	}
	w.write("c", 2, 2, 'c') // carries what is packed
	w.wantFound("c", "1-1 by c, 2-2 by c")
	none := func(when string) {
		t.Helper()
		if got := w.found("a"); strings.Contains(got, "o") {
			t.Errorf("%s: %s", when, got)
		}
	}
	none("in the same life")
	w.journal.Stop()
	w.begin(3)
	if _, err := w.log.Former(t.Context()); err != nil {
		t.Fatal(err)
	}
	none("in the next life")

	// The log that says so is not finished before the one that it speaks of.
	if err := w.journal.Finish(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	none("when the second log was to be finished")
	if got := fmt.Sprint(w.journal.Former()); got != "[1 2]" {
		t.Errorf("former logs are %s", got)
	}
	if err := w.log.UnpackAll(t.Context(), w.prefix); err != nil {
		t.Fatal(err)
	}
	if err := w.log.FinishFormer(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := w.journal.Former(); len(got) != 0 {
		t.Errorf("former logs are %v", got)
	}
	none("when all are finished")
}

func TestAnErasureTakesWhatIsQueuedWithIt(t *testing.T) {
	w := newWorldOf(t, 0)
	c := w.client("a")
	for txid := ltx.TXID(1); txid <= 4; txid++ {
		if _, err := c.WriteLTXFile(t.Context(), 0, txid, txid, bytes.NewReader(commit(t, txid, 'o'))); err != nil {
			t.Fatal(err)
		}
	}
	w.erase("a")
	w.wantFound("a", "")
	if s := w.journal.Stats(); s.Queued != 0 {
		t.Errorf("%d are queued", s.Queued)
	}
}

func TestOfAPrefixThatTheLogNeverHadNothingIsErased(t *testing.T) {
	w := newWorld(t)
	w.write("b", 1, 1, 'b')
	before := w.journal.Stats().Acked
	if until := w.erase("a"); !until.IsZero() {
		t.Errorf("until %s", until)
	}
	if w.journal.Stats().Acked != before {
		t.Error("an object was written")
	}
}

func TestALogThatIsOnlyReadErasesNothing(t *testing.T) {
	w := newWorld(t)
	w.write("a", 1, 1, 'o')
	l, err := Read(t.Context(), w.objects)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Client("", "a", w.store.Client("a")).Erase(t.Context()); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("error is %v", err)
	}
}

// held blocks Creates until it is let go.
type held struct {
	store.Objects
	wait chan struct{}
}

func (h *held) Create(ctx context.Context, name string, data []byte) error {
	select {
	case <-h.wait:
	case <-ctx.Done():
		return ctx.Err()
	}
	return h.Objects.Create(ctx, name, data)
}

func TestNothingIsErasedBeforeTheLogHasAcknowledgedIt(t *testing.T) {
	w := newWorld(t)
	w.write("a", 1, 2, 'o')
	w.journal.Stop()
	objects := &held{w.objects, make(chan struct{})}
	j := journal.New(journal.Config{Store: objects, Life: format.ID{9}, Node: "test", Interval: time.Millisecond, Soon: time.Millisecond})
	l := New(Config{Journal: j, Objects: objects, Durable: func(string, ltx.TXID, error) {}})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	c := l.Client("a", "a", w.store.Client("a"))
	if _, err := c.Erase(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v, want context.Canceled", err)
	}
	close(objects.wait)
	if _, err := c.Erase(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.wantFound("a", "")
	if err := j.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.begin(10)
}

func TestTheObjectsOfWhatWasErasedAreDeletedInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := file.New(t.TempDir())
		objects, err := s.Objects("fleet")
		if err != nil {
			t.Fatal(err)
		}
		j := journal.New(journal.Config{Store: objects, Life: format.ID{1}, Node: "test", Retention: time.Hour})
		l := New(Config{Journal: j, Objects: objects, UnpackInterval: 5 * time.Minute, Durable: func(string, ltx.TXID, error) {}})
		w := &world{t: t, store: s, objects: objects, journal: j, log: l}
		w.write("a", 1, 5, 'o')
		w.write("b", 1, 1, 'b')
		until := w.erase("a")
		if left := time.Until(until); left < time.Hour || left > time.Hour+15*time.Minute {
			t.Errorf("it takes %s", left)
		}
		if again := w.erase("a"); again.After(until) {
			t.Errorf("a second erasure puts it off to %s", again)
		}
		// Another tenant's file that is not unpacked yet keeps the object.
		time.Sleep(time.Until(until) - 10*time.Minute - time.Second)
		if _, err := w.client("b").Unpack(t.Context(), true); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Until(until))
		synctest.Wait()
		for o, err := range objects.List(t.Context(), format.LogDir(1), "") {
			if err != nil {
				t.Fatal(err)
			}
			if _, seq, _ := format.ParseObjectName(o.Name); seq <= 5 {
				t.Errorf("there is %s", o.Name)
			}
		}
		if held, err := j.Holds(t.Context(), "a"); err != nil || len(held) != 0 {
			t.Errorf("there is %+v, %v", held, err)
		}
		if until := w.erase("a"); !until.IsZero() {
			t.Errorf("then until %s", until)
		}
		if err := j.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

// hooked calls a function before the log of an epoch is listed, once.
type hooked struct {
	store.Objects
	epoch uint64
	hook  func()
}

func (h *hooked) List(ctx context.Context, prefix, after string) iter.Seq2[store.ObjectInfo, error] {
	if hook := h.hook; hook != nil && prefix == format.LogDir(h.epoch) {
		h.hook = nil
		hook()
	}
	return h.Objects.List(ctx, prefix, after)
}

func TestAReaderLeavesOutWhatALogHadThatIsFinishedMeanwhile(t *testing.T) {
	w := newWorld(t)
	w.write("a", 1, 5, 'o')
	w.journal.Stop()
	w.begin(2)
	w.erase("a")
	w.write("a", 1, 3, 'n')
	w.journal.Stop()
	l, err := Read(t.Context(), &hooked{Objects: w.objects, epoch: 2, hook: func() { // the first log has been read
		w.begin(3)
		if _, err := w.log.Former(t.Context()); err != nil {
			t.Error(err)
		}
		if err := errors.Join(w.log.UnpackAll(t.Context(), w.prefix), w.log.FinishFormer(t.Context())); err != nil {
			t.Error(err)
		}
		if left := w.journal.Former(); len(left) > 0 {
			t.Errorf("%d are not finished", left)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	files, err := l.Client("", "a", w.store.Client("a")).AllLTXFiles(t.Context(), false)
	if err != nil || len(files) == 0 || files[len(files)-1].MaxTXID != 3 {
		t.Errorf("%s, %v", ranges(files), err)
	}
}

func TestNobodyUnpacksWhatIsBeingErased(t *testing.T) {
	w := newWorld(t)
	w.write("a", 1, 5, 'o')
	inside, release := make(chan struct{}), make(chan struct{})
	inner := &waiting{w.store.Client("a"), inside, release}
	unpacked := make(chan error, 1)
	go func() {
		_, err := w.log.Unpack(t.Context(), "a", inner, true)
		unpacked <- err
	}()
	<-inside
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.client("a").Erase(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("beside an unpacking: error is %v, want context.Canceled", err)
	}
	close(release)
	w.erase("a") // waits for it
	if err := <-unpacked; err != nil {
		t.Fatal(err)
	}
	w.wantFound("a", "")
}

// waiting is a prefix whose first write waits.
type waiting struct {
	*file.Client
	inside, release chan struct{}
}

func (c *waiting) WriteLTXFile(ctx context.Context, level int, minTXID, maxTXID ltx.TXID, r io.Reader) (*ltx.FileInfo, error) {
	select {
	case <-c.inside:
	default:
		close(c.inside)
	}
	<-c.release
	return c.Client.WriteLTXFile(ctx, level, minTXID, maxTXID, r)
}

func (w *world) prefix(prefix string) (litestream.ReplicaClient, error) {
	return w.store.Client(prefix), nil
}
