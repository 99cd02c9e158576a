package s3

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/multidb-go/multidb/internal/store"
)

func mustObjects(t *testing.T, c *Client, dir string) *Objects {
	t.Helper()
	o, err := c.Objects(dir)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// onPut lets fault answer the first n PUTs, and the store all other requests.
func onPut(f *fakeS3, n int64, fault fault) {
	var puts atomic.Int64
	f.setFault(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if r.Method == http.MethodPut && puts.Add(1) <= n {
			fault(w, r, next)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// done lets the store do it, and throws its answer away.
func done(r *http.Request, next http.Handler) { next.ServeHTTP(httptest.NewRecorder(), r) }

// status answers with a status and a code, after reading the request.
func status(w http.ResponseWriter, r *http.Request, status int, code string) {
	_, _ = io.Copy(io.Discard, r.Body)
	w.WriteHeader(status)
	_, _ = io.WriteString(w, "<Error><Code>"+code+"</Code><Message>a message</Message></Error>")
}

func TestACreateWhoseAnswerWasLostIsRecognizedByItsBytes(t *testing.T) {
	data := ltxBytes(t, 1, 100_000)
	for name, fault := range map[string]fault{
		"the connection breaks":      func(w http.ResponseWriter, r *http.Request, next http.Handler) { done(r, next); hijack(w) },
		"an internal error":          func(w http.ResponseWriter, r *http.Request, next http.Handler) { done(r, next); w.WriteHeader(500) },
		"a gateway's time is over":   func(w http.ResponseWriter, r *http.Request, next http.Handler) { done(r, next); w.WriteHeader(504) },
		"a gateway throttles":        func(w http.ResponseWriter, r *http.Request, next http.Handler) { done(r, next); w.WriteHeader(503) },
		"the request's time is over": func(w http.ResponseWriter, r *http.Request, next http.Handler) { done(r, next); w.WriteHeader(408) },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFakeS3(t)
			c := newClient(t, f.config())
			onPut(f, 1, fault)
			if err := mustObjects(t, c, "log").Create(t.Context(), "1/2", data); err != nil {
				t.Fatal(err)
			}
			if s := c.Stats(); s.Put != 2 || s.Get != 1 || s.Total() != 3 {
				t.Errorf("%+v, want two puts and a get", s)
			}
			if got, _ := f.object(t, "log/1/2"); !bytes.Equal(got, data) {
				t.Errorf("it holds %d bytes", len(got))
			}
		})
	}
}

func TestALostAnswerToACreateDoesNotHideAnotherCreator(t *testing.T) {
	data := ltxBytes(t, 1, 100_000)
	for name, foreign := range map[string][]byte{
		"of the same size": ltxBytes(t, 2, 100_000), "with more at its end": append(bytes.Clone(data), 0),
		"with less": data[:99_999], "that is empty": {},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFakeS3(t)
			o := mustObjects(t, newClient(t, f.config()), "log")
			onPut(f, 1, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
				f.put(t, "log/1", foreign)
				done(r, next)
				hijack(w)
			})
			if err := o.Create(t.Context(), "1", data); !errors.Is(err, fs.ErrExist) {
				t.Errorf("want fs.ErrExist, got %v", err)
			}
			if got, _ := f.object(t, "log/1"); !bytes.Equal(got, foreign) {
				t.Error("the other's object was touched")
			}
		})
	}
}

// TestARefusalThatFollowsOnlyRefusalsIsOne: of two creators of the same bytes the
// second is told so where none of its attempts can have created the object.
func TestARefusalThatFollowsOnlyRefusalsIsOne(t *testing.T) {
	data := ltxBytes(t, 1, 300)
	conflict := func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		status(w, r, http.StatusConflict, codeConditionalConflict)
	}
	for name, tc := range map[string]struct {
		conflicts int64
		gets      int64
	}{
		"at the first attempt":     {0, 0},
		"after conflicts":          {2, 0},
		"conflicts without an end": {100, 1},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFakeS3(t)
			cfg := f.config()
			cfg.MaxAttempts = 3
			c := newClient(t, cfg)
			f.put(t, "log/1", data)
			onPut(f, tc.conflicts, conflict)
			if err := mustObjects(t, c, "log").Create(t.Context(), "1", data); !errors.Is(err, fs.ErrExist) {
				t.Errorf("want fs.ErrExist, got %v", err)
			}
			if s := c.Stats(); s.Get != tc.gets || s.Put != min(tc.conflicts, 2)+1 {
				t.Errorf("%+v, want %d gets", s, tc.gets)
			}
		})
	}
}

func TestEveryOtherEndOfACreateLeavesItOpen(t *testing.T) {
	data := ltxBytes(t, 1, 100_000)
	lost := func(w http.ResponseWriter, r *http.Request, next http.Handler) { done(r, next); hijack(w) }
	// then is what answers requests that are no PUT, after a lost answer.
	then := func(fault fault) fault {
		return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			if r.Method != http.MethodPut {
				fault(w, r, next)
				return
			}
			if r.Header.Get("Amz-Sdk-Request") == "attempt=1; max=2" {
				lost(w, r, next)
				return
			}
			next.ServeHTTP(w, r)
		}
	}
	for name, tc := range map[string]struct {
		fault fault
		want  error // nil: none in particular
	}{
		"all answers are lost": {lost, ErrUnreachable},
		"nothing arrives":      {func(w http.ResponseWriter, _ *http.Request, _ http.Handler) { hijack(w) }, ErrUnreachable},
		"the store fails":      {func(w http.ResponseWriter, r *http.Request, next http.Handler) { done(r, next); w.WriteHeader(500) }, nil},
		"the store throttles":  {func(w http.ResponseWriter, r *http.Request, _ http.Handler) { status(w, r, 503, "SlowDown") }, ErrThrottled},
		"access is denied":     {func(w http.ResponseWriter, r *http.Request, _ http.Handler) { status(w, r, 403, "AccessDenied") }, ErrAccessDenied},
		"another write is under way": {func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			if r.Method == http.MethodPut {
				status(w, r, 409, codeConditionalConflict)
				return
			}
			next.ServeHTTP(w, r)
		}, nil},
		"what stands there cannot be read": {then(func(w http.ResponseWriter, r *http.Request, _ http.Handler) { status(w, r, 403, "AccessDenied") }), ErrAccessDenied},
		"what stands there is gone":        {then(func(w http.ResponseWriter, r *http.Request, _ http.Handler) { status(w, r, 404, "NoSuchKey") }), nil},
		"the reading of it breaks off": {then(func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
			w.Header().Set("ETag", `"1"`)
			w.Header().Set("Content-Length", "100000")
			_, _ = w.Write(data[:70_000])
			w.(http.Flusher).Flush()
			hijack(w)
		}), ErrUnreachable},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFakeS3(t)
			f.setFault(tc.fault)
			cfg := f.config()
			cfg.MaxAttempts = 2
			err := mustObjects(t, newClient(t, cfg), "log").Create(t.Context(), "1", data)
			if err == nil || errors.Is(err, fs.ErrExist) || errors.Is(err, fs.ErrNotExist) || tc.want != nil && !errors.Is(err, tc.want) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestACreateWhoseContextEndsIsLeftOpen(t *testing.T) {
	f := newFakeS3(t)
	arrived := hang(t, f)
	o := mustObjects(t, newClient(t, f.config()), "log")
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-arrived; cancel() }()
	if err := o.Create(ctx, "1", []byte("x")); !errors.Is(err, context.Canceled) || errors.Is(err, fs.ErrExist) {
		t.Errorf("got %v", err)
	}
}

func TestAStoreThatIgnoresTheConditionKeepsNoObjects(t *testing.T) {
	for name, fault := range map[string]fault{"ignores it": ignoring, "refuses it": refusing(501, "NotImplemented")} {
		for _, allowed := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, AllowUnsafeWrites %v", name, allowed), func(t *testing.T) {
				f := newFakeS3(t)
				f.setFault(fault)
				cfg := f.config()
				cfg.AllowUnsafeWrites = allowed
				c := unsureClient(t, cfg)
				for range 2 { // found out, and known
					err := mustObjects(t, c, "log").Create(t.Context(), "1", []byte("x"))
					if !errors.Is(err, ErrNoConditionalWrites) {
						t.Errorf("got %v", err)
					}
					err = mustObjects(t, c, "log").CreateFrom(t.Context(), "1", bytes.NewReader([]byte("x")), 1)
					if !errors.Is(err, ErrNoConditionalWrites) {
						t.Errorf("from a reader: got %v", err)
					}
				}
				if got := f.keys(t); len(got) != 0 {
					t.Errorf("it holds %v", got)
				}
				f.setFault(nil)
				c = unsureClient(t, cfg)
				if err := mustObjects(t, c, "log").Create(t.Context(), "1", []byte("x")); err != nil {
					t.Errorf("where the store honors it: %v", err)
				}
			})
		}
	}
}

func TestAnObjectIsCreatedByOneRequestWhateverItsSize(t *testing.T) {
	f := newFakeS3(t)
	cfg := f.config()
	cfg.PartSize = minPartSize
	c := newClient(t, cfg)
	if err := mustObjects(t, c, "log").Create(t.Context(), "1", make([]byte, 4*minPartSize)); err != nil {
		t.Fatal(err)
	}
	if s := c.Stats(); s.Put != 1 || s.Total() != 1 {
		t.Errorf("%+v", s)
	}
}

func TestARangeIsReadFromAStoreThatKnowsNone(t *testing.T) {
	f := newFakeS3(t)
	data := ltxBytes(t, 1, 1000)
	f.put(t, "log/1", data)
	o := mustObjects(t, newClient(t, f.config()), "log")
	read := func(offset, size int64) ([]byte, error) {
		rc, err := o.Open(t.Context(), "1", offset, size)
		if err != nil {
			return nil, err
		}
		got, err := io.ReadAll(rc)
		return got, errors.Join(err, rc.Close())
	}
	ranges := []struct{ offset, size, from, to int64 }{
		{0, 10, 0, 10}, {100, 0, 100, 1000}, {100, 50, 100, 150}, {-10, 0, 990, 1000}, {-10, 3, 990, 993}, {-5000, 0, 0, 1000}, {1000, 0, 1000, 1000}, {2000, 1, 1000, 1000},
	}
	f.setFault(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		r.Header.Del("Range")
		next.ServeHTTP(w, r)
	})
	for _, r := range ranges {
		if got, err := read(r.offset, r.size); err != nil || !bytes.Equal(got, data[r.from:r.to]) {
			t.Errorf("%d bytes at %d: %d bytes, %v", r.size, r.offset, len(got), err)
		}
	}
	// And from one that answers with another range nothing is.
	for _, wrong := range []string{"bytes=1-20", "bytes=5-"} {
		f.setFault(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			r.Header.Set("Range", wrong)
			next.ServeHTTP(w, r)
		})
		for _, r := range ranges {
			if got, err := read(r.offset, r.size); !errors.Is(err, ErrUnreachable) {
				t.Errorf("%d bytes at %d, answered with %s: %d bytes, %v", r.size, r.offset, wrong, len(got), err)
			}
		}
	}
}

func namesOf(t *testing.T, o *Objects, prefix, after string) (names []string, err error) {
	t.Helper()
	for info, err := range o.List(t.Context(), prefix, after) {
		if err != nil {
			return names, err
		}
		names = append(names, info.Name)
	}
	return names, nil
}

func TestObjectsAreListedAndDeletedAThousandARequest(t *testing.T) {
	f := newFakeS3(t)
	const n = 2500
	for i := range n {
		f.put(t, fmt.Sprintf("log/a/%05d", i), nil)
	}
	f.put(t, "log/a/", nil) // a folder, as some tools make
	f.put(t, "log/", nil)
	f.put(t, "log/.multidb-check", nil)
	f.put(t, "log2/x", nil)
	c := newClient(t, f.config())
	o := mustObjects(t, c, "log")
	names, err := namesOf(t, o, "", "")
	if err != nil || len(names) != n || names[n-1] != "a/02499" {
		t.Fatalf("%d names, %v", len(names), err)
	}
	if s := c.Stats(); s.List != 3 || s.Total() != 3 {
		t.Errorf("%+v, want 3 listings", s)
	}
	if rest, err := namesOf(t, o, "a/", "a/01999"); err != nil || len(rest) != 500 || c.Stats().List != 4 {
		t.Errorf("behind 1999: %d names, %v, %+v", len(rest), err, c.Stats())
	}
	if err := o.Delete(t.Context(), names...); err != nil {
		t.Fatal(err)
	}
	if s := c.Stats(); s.Delete != 3 || s.Errors != 0 {
		t.Errorf("%+v, want 3 deletions", s)
	}
	if rest, err := namesOf(t, o, "", ""); err != nil || len(rest) != 0 {
		t.Errorf("%q are left, %v", rest, err)
	}
	if got, _ := f.object(t, "log2/x"); got == nil {
		t.Error("another directory's object is gone")
	}
}

// TestAListingOutOfOrderIsAnError: a reader that stops at the first gap would else
// take the log for shorter than it is.
func TestAListingOutOfOrderIsAnError(t *testing.T) {
	f := newFakeS3(t)
	page := func(keys ...string) fault {
		return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
			_, _ = io.WriteString(w, "<ListBucketResult><Name>backups</Name><IsTruncated>false</IsTruncated>")
			for _, key := range keys {
				_, _ = fmt.Fprintf(w, "<Contents><Key>%s</Key><Size>1</Size><LastModified>2024-05-06T07:08:09Z</LastModified></Contents>", key)
			}
			_, _ = io.WriteString(w, "</ListBucketResult>")
		}
	}
	o := mustObjects(t, newClient(t, f.config()), "log")
	f.setFault(page("log/1", "log/3", "log/2"))
	if names, err := namesOf(t, o, "", ""); err == nil || !strings.Contains(err.Error(), "in the order of their bytes") || len(names) != 2 {
		t.Errorf("%q, %v", names, err)
	}
	// One that begins too early, or says a name twice, can be put right.
	f.setFault(page("log/1", "log/2", "log/3", "log/3", "log/4"))
	if names, err := namesOf(t, o, "", "2"); err != nil || strings.Join(names, " ") != "3 4" {
		t.Errorf("%q, %v", names, err)
	}
	for info, err := range o.List(t.Context(), "", "3") {
		want := store.ObjectInfo{Name: "4", Size: 1, Created: time.Date(2024, 5, 6, 7, 8, 9, 0, time.UTC)}
		if err != nil || info != want {
			t.Errorf("%+v, %v", info, err)
		}
	}
	// Names that were not asked for are another store's answer.
	f.setFault(page("log/1", "other/2"))
	if _, err := namesOf(t, o, "", ""); !errors.Is(err, ErrUnreachable) {
		t.Errorf("got %v", err)
	}
}

func TestAnAnswerThatNoStoreGivesIsNoSuccessOfAnObject(t *testing.T) {
	f := newFakeS3(t)
	f.setFault(func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, "<html>Please log in.</html>")
	})
	o := mustObjects(t, newClient(t, f.config()), "log")
	if err := o.Create(t.Context(), "1", []byte("x")); !errors.Is(err, ErrUnreachable) {
		t.Errorf("create: %v", err)
	}
	if _, err := o.Open(t.Context(), "1", -5, 0); !errors.Is(err, ErrUnreachable) {
		t.Errorf("open: %v", err)
	}
	if _, err := namesOf(t, o, "", ""); !errors.Is(err, ErrUnreachable) {
		t.Errorf("list: %v", err)
	}
}

func TestWithNoDeleteObjectsStay(t *testing.T) {
	f := newFakeS3(t)
	cfg := f.config()
	cfg.NoDelete = true
	c := newClient(t, cfg)
	o := mustObjects(t, c, "log")
	if err := errors.Join(o.Create(t.Context(), "1", []byte("x")), o.Delete(t.Context(), "1")); err != nil {
		t.Error(err)
	}
	if got, _ := f.object(t, "log/1"); string(got) != "x" || c.Stats().Delete != 0 {
		t.Errorf("it holds %q, %+v", got, c.Stats())
	}
}

func TestAStoreThatDemandsAChecksumKeepsObjects(t *testing.T) {
	f := newFakeS3(t)
	c := newClient(t, f.config())
	f.setFault(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if r.Method == http.MethodPut && r.Header.Get("Content-MD5") == "" {
			status(w, r, 400, "InvalidRequest")
			return
		}
		next.ServeHTTP(w, r)
	})
	o := mustObjects(t, c, "log")
	for i, want := range []error{nil, fs.ErrExist} {
		if err := o.Create(t.Context(), "1", []byte("x")); !errors.Is(err, want) {
			t.Errorf("create %d: %v, want %v", i, err, want)
		}
	}
	if s := c.Stats(); s.Put != 3 || s.Get != 0 {
		t.Errorf("%+v, want three puts", s)
	}
}

// TestOfCreatorsWhoseAnswersAreLostAtMostOneWins lets several race for each object over
// a transport that loses requests and answers and throws in errors, before or after the
// store has done what it was asked.
func TestOfCreatorsWhoseAnswersAreLostAtMostOneWins(t *testing.T) {
	f := newFakeS3(t)
	raceOverAFaultyTransport(t, f.config(), "log", uint64(time.Now().UnixNano()), 60)
}

func raceOverAFaultyTransport(t *testing.T, cfg Config, dir string, seed uint64, rounds int) {
	t.Helper()
	t.Logf("seed %d", seed)
	var mu sync.Mutex
	random := rand.New(rand.NewPCG(seed, 0))
	cfg.MaxAttempts = 3
	faulty := newClient(t, cfg)
	faulty.through = func(next http.RoundTripper) http.RoundTripper {
		return roundTrip(func(r *http.Request) (*http.Response, error) {
			mu.Lock()
			dice := random.IntN(10)
			mu.Unlock()
			if r.Method == http.MethodDelete || dice == 0 {
				dice = 9 // one of ten and all that cleans up is left alone
			}
			if dice < 2 {
				if r.Body != nil {
					_ = r.Body.Close() // as a RoundTripper must
				}
				return nil, errors.New("the request is lost")
			}
			resp, err := next.RoundTrip(r)
			if err != nil || dice > 5 {
				return resp, err
			}
			if dice < 4 {
				_ = resp.Body.Close() // the store has done it
				return nil, errors.New("the answer is lost")
			}
			resp.StatusCode, resp.Status = http.StatusBadGateway, "502 Bad Gateway"
			return resp, nil
		})
	}
	const creators = 3
	o := mustObjects(t, faulty, dir)
	plain := mustObjects(t, newClient(t, cfg), dir)
	var wg sync.WaitGroup
	var won, refused, open atomic.Int64
	for round := range rounds {
		wg.Go(func() {
			name := fmt.Sprintf("%04d", round)
			var errs [creators]error
			var racing sync.WaitGroup
			for i := range errs {
				racing.Go(func() { errs[i] = o.Create(t.Context(), name, fmt.Appendf(nil, "%d of creator %d", round, i)) })
			}
			racing.Wait()
			var got []byte
			rc, err := plain.Open(t.Context(), name, 0, 0)
			if err == nil {
				got, err = io.ReadAll(rc)
				err = errors.Join(err, rc.Close())
			}
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("read %s: %v", name, err)
			}
			for i, err := range errs {
				mine := string(got) == fmt.Sprintf("%d of creator %d", round, i)
				switch {
				case err == nil:
					if won.Add(1); !mine {
						t.Errorf("%s: creator %d won, and it has %q", name, i, got)
					}
				case errors.Is(err, fs.ErrExist):
					if refused.Add(1); mine || got == nil {
						t.Errorf("%s: creator %d was refused, and it has %q", name, i, got)
					}
				default:
					open.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if won.Load() == 0 || refused.Load() == 0 || open.Load() == 0 {
		t.Errorf("%d won, %d refused, %d open: the faults are too few or too many to show anything", won.Load(), refused.Load(), open.Load())
	}
}
