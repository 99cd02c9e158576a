package catalog

import (
	"context"
	"errors"
	"strings"
	"testing"
)

func TestLoadIsOrderedAndMayBeLeftEarly(t *testing.T) {
	c := open(t, t.TempDir())
	for i := range 100 {
		c.Put(record(99 - i))
	}
	flush(t, c)
	n := 0
	for r, err := range c.Load(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if r.ID != record(n).ID {
			t.Fatalf("record %d is %q", n, r.ID)
		}
		if n++; n == 10 {
			break
		}
	}
	mustClose(t, c) // waits for ever if the loop is still counted
}

func TestLoadSeesTheStateAtItsBeginning(t *testing.T) {
	c := open(t, t.TempDir())
	for i := range 100 {
		c.Put(record(i))
	}
	flush(t, c)
	n := 0
	for r, err := range c.Load(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		n++
		c.Delete(r.ID)
		c.Put(Record{ID: "zz" + r.ID})
		flush(t, c) // while the loop reads
	}
	if n != 100 {
		t.Errorf("%d records, want 100", n)
	}
}

func TestLoadEndsWithItsContext(t *testing.T) {
	c := open(t, t.TempDir())
	for i := range 1000 {
		c.Put(record(i))
	}
	flush(t, c)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var last error
	for _, err := range c.Load(ctx) {
		cancel()
		last = err
	}
	if !errors.Is(last, context.Canceled) {
		t.Errorf("Load: %v", last)
	}
}

func TestCloseEndsARunningLoadAndWaitsForIt(t *testing.T) {
	dir := t.TempDir()
	c := open(t, dir)
	for i := range 1000 {
		c.Put(record(i))
	}
	flush(t, c)
	closed := make(chan error, 1)
	var last error
	n := 0
	for _, err := range c.Load(t.Context()) {
		if n++; n == 1 {
			go func() { closed <- c.Close(context.Background()) }()
			<-c.stop.Done()
			if _, err := Open(t.Context(), dir, Options{}); !errors.Is(err, ErrLocked) {
				t.Errorf("the directory was freed while records were read: %v", err)
			}
		}
		last = err
	}
	if !errors.Is(last, ErrClosed) {
		t.Errorf("Load: %v after %d records", last, n)
	}
	if err := <-closed; err != nil {
		t.Errorf("Close: %v", err)
	}
}

func TestCloseWithARunningLoadIsBoundedByItsContext(t *testing.T) {
	c := open(t, t.TempDir())
	c.Put(record(1))
	flush(t, c)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for range c.Load(t.Context()) {
		if err := c.Close(ended); !errors.Is(err, context.Canceled) {
			t.Errorf("Close: %v", err)
		}
	}
	for _, err := range c.Load(t.Context()) {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("Load after Close was called: %v", err)
		}
	}
	mustClose(t, c)
}

func TestARecordChangedByAnotherHandIsDroppedAndReported(t *testing.T) {
	for _, column := range []string{"path", "prefix", "vars", "state", "files", "dev", "ino", "last_write", "txid", "flags", "sum", "id"} {
		t.Run(column, func(t *testing.T) {
			dir := t.TempDir()
			var told []error
			c, err := Open(t.Context(), dir, Options{OnError: func(err error) { told = append(told, err) }})
			if err != nil {
				t.Fatal(err)
			}
			c.Put(record(1))
			c.Put(record(2))
			flush(t, c)
			set := column + " = " + column + " + 4294967296"
			switch column {
			case "path", "prefix", "id":
				set = column + " = " + column + " || 'x'"
			case "vars", "state", "files":
				set = column + " = CAST(" + column + " || 'x' AS BLOB)"
			}
			if _, err := c.db.Exec("UPDATE databases SET "+set+" WHERE id = ?", record(2).ID); err != nil {
				t.Fatal(err)
			}
			expect(t, c, record(1))
			if len(told) != 1 || !strings.Contains(told[0].Error(), record(2).ID) {
				t.Errorf("OnError was told %v", told)
			}
			mustClose(t, c)
			expect(t, open(t, dir), record(1))
		})
	}
}
