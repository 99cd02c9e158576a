package multidbhttp

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
)

func bodyOf(t *testing.T, src io.Reader, max int64) *keptBody {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), "POST", "/", io.NopCloser(src))
	r.ContentLength = -1
	return newKeptBody(r, src, max)
}

func TestWhatATryIsJustReadingIsNotLostForTheNext(t *testing.T) {
	for _, max := range []int64{3, 100} { // with 3 the read that goes on exceeds the limit when it has ended
		synctest.Test(t, func(t *testing.T) {
			from, to := io.Pipe()
			b := bodyOf(t, from, max)
			first := b.try(nil)
			go func() { _, _ = io.WriteString(to, "one") }()
			p := make([]byte, 100)
			if n, err := first.Read(p); err != nil || string(p[:n]) != "one" {
				t.Fatalf("%q %v", p[:n], err)
			}
			ended := make(chan error, 1)
			go func() {
				_, err := first.Read(p)
				ended <- err
			}()
			synctest.Wait() // it reads
			b.end()
			if !b.whole() {
				t.Fatal("it is not kept")
			}
			all := make(chan string, 1)
			go func() {
				got, err := io.ReadAll(b.try(nil))
				if err != nil {
					t.Error(err)
				}
				all <- string(got)
			}()
			synctest.Wait()
			for _, part := range []string{"two", "three", "four"} {
				if _, err := io.WriteString(to, part); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
			}
			_ = to.Close()
			if got := <-all; got != "onetwothreefour" {
				t.Errorf("got %q", got)
			}
			if err := <-ended; !errors.Is(err, errBodyClosed) {
				t.Errorf("the former: %v", err)
			}
		})
	}
}

func TestATryThatWaitsForAFormerOneEndsWhenItIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		from, to := io.Pipe()
		b := bodyOf(t, from, 100)
		first := b.try(nil)
		go func() { _, _ = first.Read(make([]byte, 1)) }()
		synctest.Wait()
		b.end()
		second := b.try(nil)
		ended := make(chan error, 1)
		go func() {
			_, err := second.Read(make([]byte, 1))
			ended <- err
		}()
		synctest.Wait()
		_ = second.Close()
		if err := <-ended; !errors.Is(err, errBodyClosed) {
			t.Errorf("got %v", err)
		}
		_ = to.Close()
	})
}

func TestEveryTryReadsTheSameBody(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		want := make([]byte, rnd.IntN(200))
		for i := range want {
			want[i] = byte(rnd.Uint32())
		}
		const max = 100
		b := bodyOf(t, bytes.NewReader(want), max)
		for range 4 {
			part := rnd.IntN(len(want) + 1)
			try := b.try(nil)
			got := make([]byte, part)
			if _, err := io.ReadFull(try, got); err != nil || !bytes.Equal(got, want[:part]) {
				t.Fatalf("%v", err)
			}
			b.end()
			if _, err := try.Read(make([]byte, 1)); !errors.Is(err, errBodyClosed) {
				t.Fatalf("after the end: %v", err)
			}
			if part > max && b.whole() {
				t.Fatalf("%d bytes are kept", part)
			}
			if !b.whole() {
				break
			}
		}
		if !b.whole() {
			continue
		}
		if got, err := io.ReadAll(b.try(nil)); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%d bytes of %d, %v", len(got), len(want), err)
		}
		if b.whole() != (len(want) <= max) {
			t.Fatalf("whole is %v after %d bytes", b.whole(), len(want))
		}
	}
}

func TestABodyThatIsKnownToBeTooLargeIsNotKept(t *testing.T) {
	r := httptest.NewRequestWithContext(t.Context(), "POST", "/", strings.NewReader("12345"))
	b := newKeptBody(r, r.Body, 4)
	if !b.whole() {
		t.Error("nothing was read yet")
	}
	if _, err := b.try(nil).Read(make([]byte, 1)); err != nil || b.whole() {
		t.Errorf("%v, whole: %v", err, b.whole())
	}
	r.Body = http.NoBody
	if b := newKeptBody(r, r.Body, 4); b != nil || !b.whole() || b.failed() != nil {
		t.Errorf("got %v", b)
	}
}
