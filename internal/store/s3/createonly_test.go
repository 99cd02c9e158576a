package s3

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/superfly/ltx"
)

type fault = func(http.ResponseWriter, *http.Request, http.Handler)

// ignoring is a store that does not know If-None-Match.
func ignoring(w http.ResponseWriter, r *http.Request, next http.Handler) {
	r.Header.Del("If-None-Match")
	next.ServeHTTP(w, r)
}

// refusing is a store that refuses it.
func refusing(status int, code string) fault {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if r.Header.Get("If-None-Match") != "" {
			w.WriteHeader(status)
			_, _ = io.WriteString(w, "<Error><Code>"+code+"</Code><Message>a header is not implemented</Message></Error>")
			return
		}
		next.ServeHTTP(w, r)
	}
}

// keys are those that are in the store.
func (f *fakeS3) keys(t *testing.T) (all []string) {
	t.Helper()
	for name, err := range newClient(t, f.config()).Dir(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, name)
	}
	return all
}

func writes(p *Prefix, data []byte) func(context.Context) error {
	return func(ctx context.Context) error {
		_, err := p.WriteLTXFile(ctx, 0, 1, 1, bytes.NewReader(data))
		return err
	}
}

func TestAStoreThatDoesNotCreateOnlyIsRefused(t *testing.T) {
	for name, tc := range map[string]struct {
		fault fault
		text  string
	}{
		"it ignores the condition":           {ignoring, "lets a file be created twice"},
		"it does not implement it":           {refusing(501, "NotImplemented"), "refuses If-None-Match (501 NotImplemented)"},
		"it takes it for a bad request":      {refusing(400, "InvalidArgument"), "refuses If-None-Match (400 InvalidArgument)"},
		"a proxy breaks the signature of it": {refusing(403, "SignatureDoesNotMatch"), "refuses If-None-Match (403 SignatureDoesNotMatch)"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFakeS3(t)
			f.setFault(tc.fault)
			c := unsureClient(t, f.config())
			p, data := c.Prefix("p"), ltxBytes(t, 1, 300)
			for op, do := range map[string]func(context.Context) error{
				"check": func(ctx context.Context) error { return c.Check(ctx, "") },
				"write": writes(p, data),
				"in parts": func(ctx context.Context) error {
					_, err := p.WriteLTXFile(ctx, 9, 1, 1, onlyReader{bytes.NewReader(ltxBytes(t, 1, DefaultPartSize+1))})
					return err
				},
			} {
				err := do(t.Context())
				if !errors.Is(err, ErrNoConditionalWrites) || !strings.Contains(err.Error(), tc.text) || !strings.Contains(err.Error(), "set AllowUnsafeWrites") {
					t.Errorf("%s: got %v", op, err)
				}
			}
			if got := f.keys(t); len(got) != 0 {
				t.Errorf("it holds %v", got)
			}

			cfg := f.config()
			cfg.AllowUnsafeWrites = true
			c = unsureClient(t, cfg)
			p = c.Prefix("p")
			if err := errors.Join(c.Check(t.Context(), ""), writes(p, data)(t.Context())); err != nil {
				t.Errorf("where the risk is accepted: %v", err)
			}
			if s := c.Stats(); s.Head != 1 {
				t.Errorf("%d looks before one write", s.Head)
			}
			if err := writes(p, ltxBytes(t, 2, 300))(t.Context()); !errors.Is(err, fs.ErrExist) {
				t.Errorf("want fs.ErrExist, got %v", err)
			}
			big := ltxBytes(t, 1, DefaultPartSize+1)
			for i, want := range []error{nil, fs.ErrExist} {
				if _, err := p.WriteLTXFile(t.Context(), 9, 1, 1, onlyReader{bytes.NewReader(big)}); !errors.Is(err, want) {
					t.Errorf("in parts, write %d: want %v, got %v", i, want, err)
				}
			}
			if got, _ := f.object(t, "p/0000/0000000000000001-0000000000000001.ltx"); !bytes.Equal(got, data) {
				t.Error("the existing file was touched")
			}
		})
	}
}

func TestTheFirstWriteTriesOutThatTheStoreCreatesOnly(t *testing.T) {
	f := newFakeS3(t)
	cfg := f.config()
	cfg.Path = "home/"
	c := unsureClient(t, cfg)
	var wg sync.WaitGroup
	for i := range ltx.TXID(20) {
		wg.Go(func() { mustWrite(t, c.Prefix("p"), 0, i+1, i+1, ltxBytes(t, 1, 300)) })
	}
	wg.Wait()
	if s := c.Stats(); s.Put != 22 || s.Delete != 1 || s.Total() != 23 || s.Errors != 0 {
		t.Errorf("%+v, want 20 writes and 3 requests to try it out", s)
	}
	if r := f.seen()[0]; !strings.HasPrefix(r.URL.Path, "/"+testBucket+"/home/.multidb-check-") {
		t.Errorf("the first request is for %s", r.URL.Path)
	}
	if got := f.keys(t); len(got) != 1 || got[0] != "p/" {
		t.Errorf("it holds %v", got)
	}
	if err := c.Check(t.Context(), "home"); err != nil {
		t.Error(err)
	}
}

func TestWhatACheckFoundTheWritesKnow(t *testing.T) {
	f := newFakeS3(t)
	c := unsureClient(t, f.config())
	if err := c.Check(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	before := c.Stats()
	mustWrite(t, c.Prefix("p"), 0, 1, 1, ltxBytes(t, 1, 300))
	if n := c.Stats().Total() - before.Total(); n != 1 {
		t.Errorf("%d requests, want 1", n)
	}
}

func TestATrialThatFailsIsMadeAgainAtTheNextWrite(t *testing.T) {
	for name, tc := range map[string]struct {
		fault fault
		want  error
	}{
		"the connection breaks": {func(w http.ResponseWriter, _ *http.Request, _ http.Handler) { hijack(w) }, ErrUnreachable},
		"the store throttles":   {func(w http.ResponseWriter, _ *http.Request, _ http.Handler) { w.WriteHeader(503) }, ErrThrottled},
		"access is denied":      {func(w http.ResponseWriter, _ *http.Request, _ http.Handler) { w.WriteHeader(403) }, ErrAccessDenied},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFakeS3(t)
			cfg := f.config()
			cfg.MaxAttempts = 1
			c := unsureClient(t, cfg)
			f.setFault(tc.fault)
			write := writes(c.Prefix("p"), ltxBytes(t, 1, 300))
			if err := write(t.Context()); !errors.Is(err, tc.want) || errors.Is(err, ErrNoConditionalWrites) {
				t.Errorf("want %v, got %v", tc.want, err)
			}
			f.setFault(nil)
			if err := write(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestALostAnswerDoesNotMakeAStoreUnsafe(t *testing.T) {
	f := newFakeS3(t)
	loseFirstPut(f, nil)
	c := unsureClient(t, f.config())
	mustWrite(t, c.Prefix("p"), 0, 1, 1, ltxBytes(t, 1, 300))
	if !c.known.Load().honored {
		t.Error("the store is taken for one that ignores the condition")
	}
}

func TestAWriterThatGivesUpLeavesTheTrialToTheNext(t *testing.T) {
	f := newFakeS3(t)
	arrived, release := make(chan struct{}), make(chan struct{})
	var first sync.Once
	f.setFault(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		first.Do(func() {
			close(arrived)
			<-release
		})
		next.ServeHTTP(w, r)
	})
	c := unsureClient(t, f.config())
	ctx, cancel := context.WithCancel(t.Context())
	impatient, patient := make(chan error, 1), make(chan error, 1)
	go func() { impatient <- writes(c.Prefix("p"), ltxBytes(t, 1, 300))(ctx) }()
	<-arrived
	go func() { patient <- writes(c.Prefix("q"), ltxBytes(t, 1, 300))(t.Context()) }()
	cancel()
	if err := <-impatient; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	close(release)
	if err := <-patient; err != nil {
		t.Error(err)
	}
}

func TestAStoreThatWasMendedIsTriedAgain(t *testing.T) {
	f := newFakeS3(t)
	f.setFault(ignoring)
	c := unsureClient(t, f.config())
	write := writes(c.Prefix("p"), ltxBytes(t, 1, 300))
	if err := write(t.Context()); !errors.Is(err, ErrNoConditionalWrites) {
		t.Fatal(err)
	}
	n := c.Stats().Total()
	if err := write(t.Context()); !errors.Is(err, ErrNoConditionalWrites) || c.Stats().Total() != n {
		t.Errorf("%v, after %d requests more", err, c.Stats().Total()-n)
	}
	f.setFault(nil)
	old := *c.known.Load()
	old.at = old.at.Add(-tryAgain - time.Second)
	c.known.Store(&old)
	if err := write(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestWhereTheCommonDirectoryIsDeniedTheOwnPrefixServes(t *testing.T) {
	f := newFakeS3(t)
	f.setFault(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if !strings.HasPrefix(r.URL.Path, "/"+testBucket+"/home/p/") {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
	cfg := f.config()
	cfg.Path = "home"
	mustWrite(t, unsureClient(t, cfg).Prefix("home/p"), 0, 1, 1, ltxBytes(t, 1, 300))
}

func TestWithNoDeleteNothingIsDeleted(t *testing.T) {
	f := newFakeS3(t)
	f.setFault(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if r.Method == http.MethodDelete || r.URL.Query().Has("delete") {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
	cfg := f.config()
	cfg.NoDelete = true
	for range 2 { // another process finds what the first left
		c := unsureClient(t, cfg)
		p := c.Prefix("p")
		if err := c.Check(t.Context(), ""); err != nil {
			t.Error(err)
		}
		info := &ltx.FileInfo{MinTXID: 1, MaxTXID: 1}
		if err := writes(p, ltxBytes(t, 1, 300))(t.Context()); err != nil && !errors.Is(err, fs.ErrExist) {
			t.Error(err)
		}
		if err := p.DeleteLTXFiles(t.Context(), []*ltx.FileInfo{info}); err != nil {
			t.Error(err)
		}
		if err := p.DeleteAll(t.Context()); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("got %v", err)
		}
		if s := c.Stats(); s.Delete != 0 || s.Errors != 0 {
			t.Errorf("%+v", s)
		}
	}
	if got := f.keys(t); len(got) != 2 || got[0] != "p/" && got[1] != "p/" {
		t.Errorf("it holds %v, want the file and %s", got, checkFile)
	}

	cfg.NoDelete = false
	err := unsureClient(t, cfg).Check(t.Context(), "")
	if !errors.Is(err, ErrAccessDenied) || !strings.Contains(err.Error(), "check by deleting") || !strings.Contains(err.Error(), "or set NoDelete") {
		t.Errorf("without the option: %v", err)
	}
}

func TestAWriteGoesOnWhereTheTrialCannotBeCleanedUp(t *testing.T) {
	f := newFakeS3(t)
	f.setFault(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if r.Method == http.MethodDelete {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
	mustWrite(t, unsureClient(t, f.config()).Prefix("p"), 0, 1, 1, ltxBytes(t, 1, 300))
}

func TestAWriteThatAppearsAfterTheLookIsSeenBeforeThePartsAreCompleted(t *testing.T) {
	f := newFakeS3(t)
	foreign := ltxBytes(t, 2, 300)
	f.setFault(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if r.URL.Query().Get("partNumber") == "1" {
			f.put(t, "p/0009/0000000000000001-0000000000000001.ltx", foreign)
		}
		ignoring(w, r, next)
	})
	cfg := f.config()
	cfg.AllowUnsafeWrites = true
	_, err := unsureClient(t, cfg).Prefix("p").WriteLTXFile(t.Context(), 9, 1, 1, onlyReader{bytes.NewReader(ltxBytes(t, 1, DefaultPartSize+1))})
	if !errors.Is(err, fs.ErrExist) {
		t.Errorf("want fs.ErrExist, got %v", err)
	}
}
