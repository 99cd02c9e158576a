package multidbtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"

	"github.com/benbjohnson/litestream"
	"github.com/superfly/ltx"

	"github.com/multidb-go/multidb"
)

func testCreateOnly(t *replicaTest) {
	if !t.suite.createOnly {
		t.Skip("the backend does not claim it")
	}
	c, second := t.client("db1"), t.client("db1")
	first := ltxFile(t.T, 1, 1, 1)
	t.write(c, 0, 1, 1, first)
	for _, writer := range []litestream.ReplicaClient{c, second} {
		for _, data := range [][]byte{ltxFile(t.T, 1, 1, 2), first} { // the same bytes are refused too
			_, err := writer.WriteLTXFile(t.ctx, 0, 1, 1, bytes.NewReader(data))
			if !errors.Is(err, fs.ErrExist) {
				t.Errorf("second write: error is %v, want fs.ErrExist", err)
			}
			t.wantBytes(c, 0, 1, 1, first)
		}
	}
	t.wantFiles(c, 0, 0, "1-1")
}

func testCreateOnlyRace(t *replicaTest) {
	if !t.suite.createOnly {
		t.Skip("the backend does not claim it")
	}
	const rounds, writers = 8, 6
	reader := t.client("db1")
	var clients []litestream.ReplicaClient
	for range writers {
		clients = append(clients, t.client("db1"))
	}
	for round := range ltx.TXID(rounds) {
		txid := round + 1
		var data [writers][]byte
		for i := range data {
			data[i] = ltxFile(t.T, txid, txid, uint64(i))
		}
		var (
			errs  [writers]error
			start = make(chan struct{})
			wg    sync.WaitGroup
		)
		for i, c := range clients {
			wg.Go(func() {
				<-start
				_, errs[i] = c.WriteLTXFile(t.ctx, 0, txid, txid, bytes.NewReader(data[i]))
			})
		}
		close(start)
		wg.Wait()

		winner := -1
		for i, err := range errs {
			switch {
			case err == nil && winner >= 0:
				t.Errorf("TXID %d: writers %d and %d both succeeded", txid, winner, i)
			case err == nil:
				winner = i
			case !errors.Is(err, fs.ErrExist):
				t.Errorf("TXID %d: a loser's error is %v, want fs.ErrExist", txid, err)
			}
		}
		if winner < 0 {
			t.Fatalf("TXID %d: nobody won", txid)
		}
		t.wantBytes(reader, 0, txid, txid, data[winner])
	}
}

var errReader = errors.New("the reader failed")

func testFailingReader(t *replicaTest) {
	c := t.client("db1")
	for _, level := range []int{0, 1} {
		data := ltxFile(t.T, 1, 1, 0)
		for _, n := range []int{0, 10, ltx.HeaderSize, len(data) / 2, len(data)} {
			r := io.MultiReader(bytes.NewReader(data[:n]), failingReader{errReader})
			_, err := c.WriteLTXFile(t.ctx, level, 1, 1, r)
			if !errors.Is(err, errReader) {
				t.Errorf("level %d, the reader failed after %d bytes: error is %v, want the reader's", level, n, err)
			}
			t.wantFiles(c, level, 0)
			t.wantMissing(c, level, 1, 1)
		}
		t.write(c, level, 1, 1, data)
		t.wantBytes(c, level, 1, 1, data)
	}

	// What was there stays.
	r := io.MultiReader(bytes.NewReader(ltxFile(t.T, 1, 1, 2)[:200]), failingReader{errReader})
	if _, err := c.WriteLTXFile(t.ctx, 1, 1, 1, r); !errors.Is(err, errReader) && !(t.suite.createOnly && errors.Is(err, fs.ErrExist)) {
		t.Errorf("error is %v, want the reader's", err)
	}
	t.wantBytes(c, 1, 1, 1, ltxFile(t.T, 1, 1, 0))
}

func testGarbage(t *replicaTest) {
	c := t.client("db1")
	for _, garbage := range [][]byte{nil, []byte("short"), bytes.Repeat([]byte("not LTX "), 100)} {
		if _, err := c.WriteLTXFile(t.ctx, 0, 1, 1, bytes.NewReader(garbage)); err == nil {
			t.Errorf("%d bytes of garbage were taken", len(garbage))
		}
		t.wantFiles(c, 0, 0)
	}
}

func testContext(t *replicaTest) {
	c := t.client("db1")
	data := t.put(c, 0, 1, 1)
	infos := t.list(c, 0, 0, false)
	ctx, cancel := context.WithCancel(t.ctx)
	cancel()

	calls := map[string]func() error{
		"LTXFiles": func() error {
			_, err := list(ctx, c, 0, 0, false)
			return err
		},
		"OpenLTXFile": func() error {
			_, err := readFile(ctx, c, 0, 1, 1, 0, 0)
			return err
		},
		"WriteLTXFile": func() error {
			_, err := c.WriteLTXFile(ctx, 0, 2, 2, bytes.NewReader(ltxFile(t.T, 2, 2, 0)))
			return err
		},
		"DeleteLTXFiles": func() error { return c.DeleteLTXFiles(ctx, infos) },
		"DeleteAll":      func() error { return c.DeleteAll(ctx) },
	}
	if lister, ok := c.(multidb.FileLister); ok {
		calls["AllLTXFiles"] = func() error {
			_, err := lister.AllLTXFiles(ctx, true)
			return err
		}
	}
	if m, ok := c.(multidb.MetadataStore); ok {
		calls["WriteMetadata"] = func() error { return m.WriteMetadata(ctx, []byte("{}")) }
		calls["ReadMetadata"] = func() error {
			_, err := m.ReadMetadata(ctx)
			return err
		}
	}
	if checker, ok := t.factory.(multidb.ReplicaChecker); ok {
		calls["Check"] = func() error { return checker.Check(ctx) }
	}
	for call, run := range calls {
		if err := run(); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: error is %v, want context.Canceled", call, err)
		}
	}
	t.wantBytes(c, 0, 1, 1, data)
	t.wantFiles(c, 0, 0, "1-1")
}

func testContextDuringWrite(t *replicaTest) {
	c := t.client("db1")
	for _, level := range []int{0, 1} {
		ctx, cancel := context.WithCancel(t.ctx)
		data := ltxFile(t.T, 1, 1, 0)
		r := io.MultiReader(bytes.NewReader(data[:len(data)/2]), callReader{cancel}, bytes.NewReader(data[len(data)/2:]))
		if _, err := c.WriteLTXFile(ctx, level, 1, 1, r); !errors.Is(err, context.Canceled) {
			t.Errorf("level %d: error is %v, want context.Canceled", level, err)
		}
		cancel()
		t.wantFiles(c, level, 0)
		t.wantMissing(c, level, 1, 1)
	}
}

func testConcurrentWriters(t *replicaTest) {
	const writers, files = 4, 8
	errs := make([]error, writers)
	var wg sync.WaitGroup
	for w := range writers {
		// Two writers share a database, and two share a client.
		c := t.client(fmt.Sprintf("db%d", w%2))
		var data [files][]byte
		for i := range data {
			txid := ltx.TXID(1 + w*files + i)
			data[i] = ltxFile(t.T, txid, txid, uint64(w))
		}
		wg.Go(func() {
			for i := range data {
				txid := ltx.TXID(1 + w*files + i)
				if _, err := c.WriteLTXFile(t.ctx, i%3, txid, txid, bytes.NewReader(data[i])); err != nil {
					errs[w] = err
					return
				}
				got, err := readFile(t.ctx, c, i%3, txid, txid, 0, 0)
				if err == nil && !bytes.Equal(got, data[i]) {
					err = fmt.Errorf("TXID %d: read back other bytes", txid)
				}
				if err != nil {
					errs[w] = err
					return
				}
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	for db := range 2 {
		c, n := t.client(fmt.Sprintf("db%d", db)), 0
		for level := range 3 {
			n += len(t.list(c, level, 0, false))
		}
		if n != writers/2*files {
			t.Errorf("db%d has %d files, want %d", db, n, writers/2*files)
		}
	}
}

func testInit(t *replicaTest) {
	c := t.client("db1") // the first Init
	data := t.put(c, 0, 1, 1)
	for range 2 {
		if err := c.Init(t.ctx); err != nil {
			t.Fatal(err)
		}
	}
	t.wantBytes(c, 0, 1, 1, data)

	// And a client that nobody initialized does it itself.
	raw, err := t.factory.ReplicaClient(testDatabase("project0", "db1"))
	if err != nil {
		t.Fatal(err)
	}
	t.wantBytes(raw, 0, 1, 1, data)
}

// onlyReader hides every other method of a reader.
type onlyReader struct{ io.Reader }

type failingReader struct{ err error }

func (r failingReader) Read([]byte) (int, error) { return 0, r.err }

// callReader is an empty reader that calls f when it is reached.
type callReader struct{ f func() }

func (r callReader) Read([]byte) (int, error) {
	r.f()
	return 0, io.EOF
}
