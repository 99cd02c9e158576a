package s3

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/superfly/ltx"
)

func TestAListingGoesOnAfterAThousandKeys(t *testing.T) {
	f := newFakeS3(t)
	c := newClient(t, f.config())
	p := c.Prefix("p")
	const n = 2500
	for i := 1; i <= n; i++ {
		f.put(t, "p/"+ltxName(0, ltx.TXID(i), ltx.TXID(i)), []byte("x"))
	}
	files, err := p.AllLTXFiles(t.Context(), false)
	if err != nil || len(files) != n || files[n-1].MaxTXID != n {
		t.Fatalf("%d files, %v", len(files), err)
	}
	if got := c.Stats().List; got != 3 {
		t.Errorf("%d requests, want 3", got)
	}
	itr, err := p.LTXFiles(t.Context(), 0, 2499, false)
	if err != nil {
		t.Fatal(err)
	}
	rest, err := ltx.SliceFileIterator(itr)
	if err != nil || len(rest) != 2 || rest[0].MinTXID != 2499 {
		t.Errorf("from 2499: %v, %v", rest, err)
	}
	if got := c.Stats().List; got != 4 {
		t.Errorf("%d requests after a seek, want 4", got)
	}

	if err := p.DeleteAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	if files, err := p.AllLTXFiles(t.Context(), false); err != nil || len(files) != 0 {
		t.Errorf("after DeleteAll: %d files, %v", len(files), err)
	}
}

func TestAPrefixDoesNotSeeItsNeighbor(t *testing.T) {
	f := newFakeS3(t)
	c := newClient(t, f.config())
	for _, prefix := range []string{"a/b", "a/b2", "a/b/c", "a"} {
		mustWrite(t, c.Prefix(prefix), 0, 1, 1, ltxBytes(t, 1, 300))
	}
	for _, prefix := range []string{"a/b", "a/b2", "a/b/c", "a"} {
		files, err := c.Prefix(prefix).AllLTXFiles(t.Context(), false)
		if err != nil || len(files) != 1 {
			t.Errorf("%s: %v, %v", prefix, files, err)
		}
	}
	if err := c.Prefix("a/b").DeleteAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, _ := f.object(t, "a/b2/"+ltxName(0, 1, 1)); got == nil {
		t.Error("DeleteAll of a/b deleted from a/b2")
	}
}

func TestAListingIsSortedAndSkipsWhatIsNotLTX(t *testing.T) {
	f := newFakeS3(t)
	p := newClient(t, f.config()).Prefix("p")
	for _, name := range []string{
		ltxName(9, 1, 3), ltxName(1, 1, 2), ltxName(0, 2, 2), ltxName(0, 1, 1),
		"metadata.json", "0000/notes.txt", "000a/" + ltx.FormatFilename(1, 1), "0000/sub/" + ltx.FormatFilename(7, 7),
	} {
		f.put(t, "p/"+name, []byte("x"))
	}
	l, err := p.Listing(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, info := range l.Files {
		got = append(got, fmt.Sprintf("%d:%d-%d", info.Level, info.MinTXID, info.MaxTXID))
	}
	if s := strings.Join(got, " "); s != "0:1-1 0:2-2 1:1-2 9:1-3" {
		t.Errorf("files %s", s)
	}
	if n := len(l.v3.generations); n != 0 {
		t.Errorf("%d generations of v0.3", n)
	}
}

func TestTimesAreThoseOfTheHeaderOnlyWhenAskedFor(t *testing.T) {
	f := newFakeS3(t)
	c := newClient(t, f.config())
	p := c.Prefix("p")
	for i := range ltx.TXID(40) {
		mustWrite(t, p, 0, i+1, i+1, ltxBytes(t, 1, 300))
	}
	f.put(t, "p/"+ltxName(0, 99, 99), []byte("without metadata"))
	for _, exact := range []bool{false, true} {
		before := c.Stats()
		files, err := p.AllLTXFiles(t.Context(), exact)
		if err != nil {
			t.Fatal(err)
		}
		if got := files[0].CreatedAt.Equal(testTime); got != exact {
			t.Errorf("exact=%v: created at %v", exact, files[0].CreatedAt)
		}
		if files[40].CreatedAt.IsZero() {
			t.Error("a file without metadata has no time at all")
		}
		want := int64(0)
		if exact {
			want = 41
		}
		if got := c.Stats().Head - before.Head; got != want {
			t.Errorf("exact=%v: %d HEAD requests, want %d", exact, got, want)
		}
	}
	f.setFault(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if r.Method == http.MethodHead {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
	if _, err := p.AllLTXFiles(t.Context(), true); !errors.Is(err, ErrAccessDenied) {
		t.Errorf("a failed HEAD: want ErrAccessDenied, got %v", err)
	}
}

func TestAMissingFileIsNotExist(t *testing.T) {
	f := newFakeS3(t)
	p := newClient(t, f.config()).Prefix("p")
	_, err := p.OpenLTXFile(t.Context(), 0, 1, 1, 0, 0)
	if !errors.Is(err, fs.ErrNotExist) || !os.IsNotExist(err) {
		t.Errorf("got %v", err)
	}
	if _, err := p.ReadMetadata(t.Context()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("metadata: got %v", err)
	}
}

func TestAFileIsReadInRanges(t *testing.T) {
	f := newFakeS3(t)
	c := newClient(t, f.config())
	p := c.Prefix("p")
	data := ltxBytes(t, 1, 3*smallBody) // more than is read ahead
	mustWrite(t, p, 0, 1, 1, data)
	for _, tc := range [][2]int64{{0, 0}, {0, 100}, {100, 50}, {smallBody, 0}, {1, 0}} {
		rc, err := p.OpenLTXFile(t.Context(), 0, 1, 1, tc[0], tc[1])
		if err != nil {
			t.Fatal(err)
		}
		before := c.Stats().BytesIn
		got, err := io.ReadAll(rc)
		if err := errors.Join(err, rc.Close()); err != nil {
			t.Fatal(err)
		}
		want := data[tc[0]:]
		if tc[1] > 0 {
			want = want[:tc[1]]
		}
		if !bytes.Equal(got, want) {
			t.Errorf("offset %d size %d: %d bytes, want %d", tc[0], tc[1], len(got), len(want))
		}
		if n := c.Stats().BytesIn - before; len(want) > smallBody && n != int64(len(want)) {
			t.Errorf("%d bytes counted, want %d", n, len(want))
		}
	}
}

func TestMetadataComesBack(t *testing.T) {
	f := newFakeS3(t)
	p := newClient(t, f.config()).Prefix("a/b")
	for _, want := range []string{`{"id":"x"}`, `{"id":"y"}`} {
		if err := p.WriteMetadata(t.Context(), []byte(want)); err != nil {
			t.Fatal(err)
		}
		got, err := p.ReadMetadata(t.Context())
		if err != nil || string(got) != want {
			t.Errorf("got %s, %v", got, err)
		}
	}
	if got, _ := f.object(t, "a/b/metadata.json"); got == nil {
		t.Error("not at a/b/metadata.json")
	}
}

func TestFilesAreDeletedInBatches(t *testing.T) {
	f := newFakeS3(t)
	c := newClient(t, f.config())
	p := c.Prefix("p")
	var files []*ltx.FileInfo
	for i := 1; i <= 1500; i++ {
		info := &ltx.FileInfo{MinTXID: ltx.TXID(i), MaxTXID: ltx.TXID(i)}
		f.put(t, "p/"+ltxName(0, info.MinTXID, info.MaxTXID), []byte("x"))
		files = append(files, info)
	}
	keep := ltxName(0, 9999, 9999)
	f.put(t, "p/"+keep, []byte("x"))
	if err := p.DeleteLTXFiles(t.Context(), append(files, &ltx.FileInfo{MinTXID: 7777, MaxTXID: 7777})); err != nil {
		t.Fatal(err)
	}
	if s := c.Stats(); s.Delete != 2 || s.Total() != 2 {
		t.Errorf("stats %+v, want 2 deletes", s)
	}
	for _, r := range f.seen() {
		if r.Header.Get("Content-Md5") == "" {
			t.Error("no Content-MD5, which older stores insist on")
		}
	}
	if l, err := p.AllLTXFiles(t.Context(), false); err != nil || len(l) != 1 {
		t.Errorf("left: %d files, %v", len(l), err)
	}
}

func TestAStoreWithoutBatchDeleteIsAskedKeyByKey(t *testing.T) {
	f := newFakeS3(t)
	c := newClient(t, f.config())
	p := c.Prefix("p")
	batches := 0
	f.setFault(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if r.Method == http.MethodPost {
			batches++
			w.WriteHeader(http.StatusNotImplemented)
			_, _ = io.WriteString(w, `<Error><Code>NotImplemented</Code></Error>`)
			return
		}
		next.ServeHTTP(w, r)
	})
	for range 2 {
		var files []*ltx.FileInfo
		for i := range ltx.TXID(30) {
			files = append(files, mustWrite(t, p, 1, i+1, i+1, ltxBytes(t, 1, 300)))
		}
		if err := p.DeleteLTXFiles(t.Context(), files); err != nil {
			t.Fatal(err)
		}
		if l, err := p.AllLTXFiles(t.Context(), false); err != nil || len(l) != 0 {
			t.Errorf("left: %d files, %v", len(l), err)
		}
	}
	if batches != 1 {
		t.Errorf("the store was asked %d times for a batch, want once", batches)
	}
}

func TestAKeyThatIsNotDeletedIsReported(t *testing.T) {
	f := newFakeS3(t)
	p := newClient(t, f.config()).Prefix("p")
	f.setFault(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		next.ServeHTTP(httptest.NewRecorder(), r)
		_, _ = io.WriteString(w, `<DeleteResult><Error><Key>p/x</Key><Code>AccessDenied</Code><Message>no</Message></Error></DeleteResult>`)
	})
	err := p.DeleteLTXFiles(t.Context(), []*ltx.FileInfo{{MinTXID: 1, MaxTXID: 1}})
	if !errors.Is(err, ErrAccessDenied) || !strings.Contains(err.Error(), "1 of 1 objects") {
		t.Errorf("got %v", err)
	}
}

// TestAnAnswerThatIsNoWholeListingIsAnError: a listing that ends too soon would be
// taken for all there is. Red without isListing and place.moved.
func TestAnAnswerThatIsNoWholeListingIsAnError(t *testing.T) {
	const key = "<Contents><Key>p/0000/0000000000000001-0000000000000001.ltx</Key></Contents>"
	for name, test := range map[string]struct {
		body string
		want error
	}{
		"nothing":                 {"", ErrUnreachable},
		"no listing":              {"<html/>", ErrUnreachable},
		"more, from nowhere":      {"<ListBucketResult><IsTruncated>true</IsTruncated>" + key + "</ListBucketResult>", ErrUnreachable},
		"more, from the same key": {"<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>x</NextContinuationToken>" + key + "</ListBucketResult>", ErrUnreachable},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFakeS3(t)
			f.setFault(func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
				w.Header().Set("Content-Type", "application/xml")
				_, _ = io.WriteString(w, test.body)
			})
			c := newClient(t, f.config())
			if _, err := c.Prefix("p").AllLTXFiles(t.Context(), false); !errors.Is(err, test.want) {
				t.Errorf("all files: %v", err)
			}
			itr, err := c.Prefix("p").LTXFiles(t.Context(), 0, 0, false)
			if err == nil {
				_, err = ltx.SliceFileIterator(itr)
			}
			if !errors.Is(err, test.want) {
				t.Errorf("one level: %v", err)
			}
			var last error
			for _, err := range c.Dir(t.Context(), "p") {
				last = err
			}
			if !errors.Is(last, test.want) {
				t.Errorf("a directory: %v", last)
			}
		})
	}
}
