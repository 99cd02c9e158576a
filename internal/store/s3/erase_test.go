package s3

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/johannesboyne/gofakes3"
	"github.com/multidb-go/multidb/internal/store"
	"github.com/superfly/ltx"
)

func (f *fakeS3) versioning(t *testing.T, on bool) {
	t.Helper()
	v := gofakes3.VersioningConfiguration{}
	v.SetEnabled(on)
	if err := f.store.SetVersioningConfiguration(testBucket, v); err != nil {
		t.Fatal(err)
	}
}

// kept are the keys of all versions and delete markers in the bucket, sorted.
func (f *fakeS3) kept(t *testing.T) (keys []string) {
	t.Helper()
	out, err := f.store.ListBucketVersions(testBucket, nil, &gofakes3.ListBucketVersionsPage{MaxKeys: 100_000})
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range out.Versions {
		switch v := v.(type) {
		case *gofakes3.Version:
			keys = append(keys, v.Key)
		case *gofakes3.DeleteMarker:
			keys = append(keys, v.Key+" deleted")
		}
	}
	slices.Sort(keys)
	return keys
}

func mustErase(t *testing.T, p *Prefix) store.ErasedPrefix {
	t.Helper()
	done, err := p.ErasePrefix(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return done
}

// deny answers as S3 does to whom a request is not allowed.
func deny(w http.ResponseWriter) {
	w.WriteHeader(http.StatusForbidden)
	_, _ = io.WriteString(w, `<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>`)
}

// locked refuses to delete some versions in the answer to DeleteObjects, as a bucket with
// Object Lock does, and lets the store delete the others.
func locked(lock func(key, version string) bool) func(w http.ResponseWriter, r *http.Request, next http.Handler) {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if _, ok := r.URL.Query()["delete"]; !ok || r.Method != http.MethodPost {
			next.ServeHTTP(w, r)
			return
		}
		type object struct {
			Key       string
			VersionId string `xml:",omitempty"`
		}
		var in struct {
			XMLName xml.Name `xml:"Delete"`
			Objects []object `xml:"Object"`
			Quiet   bool
		}
		if err := xml.NewDecoder(r.Body).Decode(&in); err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		var errs strings.Builder
		var rest []object
		for _, o := range in.Objects {
			if lock(o.Key, o.VersionId) {
				fmt.Fprintf(&errs, "<Error><Key>%s</Key><VersionId>%s</VersionId><Code>AccessDenied</Code><Message>protected by object lock</Message></Error>", o.Key, o.VersionId)
				continue
			}
			rest = append(rest, o)
		}
		if in.Objects = rest; len(rest) > 0 {
			body, err := xml.Marshal(in)
			if err != nil {
				w.WriteHeader(http.StatusInternalServerError)
				return
			}
			again := r.Clone(r.Context())
			again.Body, again.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
			again.Header.Del("Content-Md5")
			next.ServeHTTP(discard{http.Header{}}, again)
		}
		_, _ = io.WriteString(w, "<DeleteResult>"+errs.String()+"</DeleteResult>")
	}
}

type discard struct{ h http.Header }

func (d discard) Header() http.Header         { return d.h }
func (d discard) Write(p []byte) (int, error) { return len(p), nil }
func (d discard) WriteHeader(int)             {}

func TestAnErasureDeletesWhateverIsBelowThePrefixAndNothingElse(t *testing.T) {
	f := newFakeS3(t)
	p := newClient(t, f.config()).Prefix("a/b")
	for _, key := range []string{
		"a/b/0000/0000000000000001-0000000000000001.ltx", "a/b/0009/0000000000000001-0000000000000002.ltx", "a/b/metadata.json",
		"a/b/generations/0123456789abcdef/snapshots/0.snapshot.lz4", "a/b/notes from support.txt", "a/b/x/y",
		"a/bc/0000/0000000000000001-0000000000000001.ltx", "a/b.txt", "a/b", "a/b-old/metadata.json",
	} {
		f.put(t, key, []byte("four"))
	}
	if done := mustErase(t, p); done.Objects != 6 || done.Bytes != 24 || done.Versions != 0 || done.Versioned || len(done.Left) != 0 {
		t.Errorf("%+v", done)
	}
	if got := fmt.Sprint(f.kept(t)); got != "[a/b a/b-old/metadata.json a/b.txt a/bc/0000/0000000000000001-0000000000000001.ltx]" {
		t.Error(got)
	}
	if done := mustErase(t, p); done.Objects != 0 || len(done.Left) != 0 {
		t.Errorf("the second time %+v", done)
	}
}

func TestAnErasureLeavesThePrefixOfAnotherDatabaseBelowItAndSaysSo(t *testing.T) {
	f := newFakeS3(t)
	p := newClient(t, f.config()).Prefix("a")
	const file = "/0000000000000001-0000000000000001.ltx"
	others := []string{"a/0000/0001" + file, "a/b/!first", "a/b/0000" + file, "a/b/zzz", "a/c/d/metadata.json"}
	for _, key := range append(others, "a/0000"+file, "a/metadata.json", "a/c/x", "a/bb") {
		f.put(t, key, nil)
	}
	done := mustErase(t, p)
	if done.Objects != 4 || len(done.Left) != 3 {
		t.Errorf("%+v", done)
	}
	for i, name := range []string{"a/0000/", "a/b/", "a/c/d/"} {
		if len(done.Left) > i && (done.Left[i].Name != name || !errors.Is(done.Left[i].Err, store.ErrOtherPrefix)) {
			t.Errorf("left %+v, want %s", done.Left[i], name)
		}
	}
	if got := f.kept(t); fmt.Sprint(got) != fmt.Sprint(others) {
		t.Errorf("there is %v, want %v", got, others)
	}
	n, _, err := p.PrefixSize(t.Context())
	if err != nil || n != 0 {
		t.Errorf("%d objects, %v", n, err)
	}
}

func TestAnErasureDeletesAllVersionsAndDeleteMarkers(t *testing.T) {
	for name, on := range map[string]bool{"enabled": true, "suspended": false} {
		t.Run(name, func(t *testing.T) {
			f := newFakeS3(t)
			f.versioning(t, true)
			for range 3 {
				f.put(t, "a/metadata.json", []byte("12"))
				f.put(t, "a/0000/x", []byte("34"))
			}
			if _, err := f.store.DeleteObject(testBucket, "a/0000/x"); err != nil {
				t.Fatal(err)
			}
			f.put(t, "ab", nil)
			f.versioning(t, on)
			p := newClient(t, f.config()).Prefix("a")
			if done := mustErase(t, p); done.Objects != 1 || done.Versions != 6 || !done.Versioned || done.Bytes != 12 || len(done.Left) != 0 {
				t.Errorf("%+v", done)
			}
			if got := fmt.Sprint(f.kept(t)); got != "[ab]" {
				t.Error(got)
			}
			if done := mustErase(t, p); done.Objects+done.Versions != 0 || len(done.Left) != 0 {
				t.Errorf("the second time %+v", done)
			}
		})
	}
}

// pagedVersions answers a listing of versions in pages, which the fake does not, and refuses to
// go on from a version that is gone.
func (f *fakeS3) pagedVersions(t *testing.T, size int) func(w http.ResponseWriter, r *http.Request, next http.Handler) {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		q := r.URL.Query()
		if !q.Has("versions") {
			next.ServeHTTP(w, r)
			return
		}
		all, err := f.store.ListBucketVersions(testBucket, &gofakes3.Prefix{HasPrefix: true, Prefix: q.Get("prefix")}, &gofakes3.ListBucketVersionsPage{MaxKeys: 100_000})
		if err != nil {
			t.Error(err)
			return
		}
		type item struct {
			Key, VersionId string
			IsLatest       bool
			Size           int64
		}
		var items []item
		for _, v := range all.Versions {
			if v, ok := v.(*gofakes3.Version); ok {
				items = append(items, item{v.Key, string(v.VersionID), v.IsLatest, v.Size})
			}
		}
		slices.SortStableFunc(items, func(a, b item) int { return strings.Compare(a.Key, b.Key) })
		if key := q.Get("key-marker"); key != "" {
			i := slices.IndexFunc(items, func(v item) bool { return v.Key == key && v.VersionId == q.Get("version-id-marker") })
			if i < 0 {
				w.WriteHeader(http.StatusBadRequest)
				return
			}
			items = items[i:] // with what the page before ended in, as versitygw does
		}
		out := struct {
			XMLName                            xml.Name `xml:"ListVersionsResult"`
			Name                               string
			IsTruncated                        bool
			NextKeyMarker, NextVersionIdMarker string `xml:",omitempty"`
			Version                            []item
		}{Name: testBucket, Version: items}
		if len(items) > size {
			last := items[size-1]
			out.Version, out.IsTruncated, out.NextKeyMarker, out.NextVersionIdMarker = items[:size], true, last.Key, last.VersionId
		}
		if err := xml.NewEncoder(w).Encode(out); err != nil {
			t.Error(err)
		}
	}
}

func TestAnErasureOfThousandsOfVersionsGoesPageByPage(t *testing.T) {
	f := newFakeS3(t)
	f.versioning(t, true)
	for i := range 1203 {
		for range 2 {
			f.put(t, fmt.Sprintf("a/%04d", i), []byte("x"))
		}
	}
	f.setFault(f.pagedVersions(t, 501))
	f.put(t, "a/metadata.json", nil)
	p := newClient(t, f.config()).Prefix("a")
	if done := mustErase(t, p); done.Objects != 1204 || done.Versions != 1203 || len(done.Left) != 0 {
		t.Errorf("%+v", done)
	}
	if got := f.kept(t); len(got) != 0 {
		t.Errorf("%d are left, %s first", len(got), got[0])
	}
}

func TestMetadataIsErasedLast(t *testing.T) {
	for _, versions := range []bool{false, true} {
		f := newFakeS3(t)
		if versions {
			f.versioning(t, true)
		}
		for _, key := range []string{"a/0000/x", "a/metadata.json", "a/zzz"} {
			f.put(t, key, nil)
		}
		var deletions []string
		f.setFault(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			if r.Method == http.MethodPost {
				body, _ := io.ReadAll(r.Body)
				r.Body = io.NopCloser(bytes.NewReader(body))
				deletions = append(deletions, string(body))
			}
			next.ServeHTTP(w, r)
		})
		mustErase(t, newClient(t, f.config()).Prefix("a"))
		last := len(deletions) - 1
		if last < 1 || strings.Contains(strings.Join(deletions[:last], ""), "metadata.json") || !strings.Contains(deletions[last], "metadata.json") {
			t.Errorf("versions %v: %q", versions, deletions)
		}
	}
}

func TestAVersionThatIsLockedIsLeftHiddenAndNamed(t *testing.T) {
	f := newFakeS3(t)
	f.versioning(t, true)
	for _, key := range []string{"a/0000/1", "a/0000/2", "a/metadata.json"} {
		f.put(t, key, []byte("x"))
	}
	f.setFault(locked(func(key, version string) bool { return key == "a/0000/2" && version != "" }))
	p := newClient(t, f.config()).Prefix("a")
	for run := range 2 { // the marker that hides it stays the second time
		done := mustErase(t, p)
		if want := int64(2 - 2*run); done.Objects != want || len(done.Left) != 1 {
			t.Fatalf("run %d: %+v", run, done)
		}
		if l := done.Left[0]; l.Name != "a/0000/2" || l.Version == "" || !errors.Is(l.Err, ErrAccessDenied) || !strings.Contains(l.Err.Error(), "object lock") {
			t.Errorf("left %+v", l)
		}
		if data, _ := f.object(t, "a/0000/2"); data != nil {
			t.Error("what is left can be seen")
		}
		if got := fmt.Sprint(f.kept(t)); got != "[a/0000/2 a/0000/2 deleted]" {
			t.Error(got)
		}
	}
}

func TestWhileAnObjectIsLeftThatCanBeSeenSoIsMetadata(t *testing.T) {
	f := newFakeS3(t)
	for _, key := range []string{"a/0000/1", "a/0000/2", "a/metadata.json"} {
		f.put(t, key, []byte("x"))
	}
	f.setFault(locked(func(key, _ string) bool { return key == "a/0000/2" }))
	p := newClient(t, f.config()).Prefix("a")
	done := mustErase(t, p)
	if done.Objects != 1 || len(done.Left) != 2 || done.Left[0].Name != "a/0000/2" ||
		done.Left[1].Name != "a/metadata.json" || !errors.Is(done.Left[1].Err, store.ErrKept) {
		t.Errorf("%+v", done)
	}
	f.setFault(nil)
	if done := mustErase(t, p); done.Objects != 2 || len(done.Left) != 0 {
		t.Errorf("when it is not locked any more: %+v", done)
	}
}

func TestWhereVersionsCannotBeListedTheErasureSaysThatTheyMayBeLeft(t *testing.T) {
	has := func(r *http.Request, name string) bool { _, ok := r.URL.Query()[name]; return ok }
	for name, refuse := range map[string]func(http.ResponseWriter){
		"denied": deny,
		"not implemented": func(w http.ResponseWriter) {
			w.WriteHeader(http.StatusNotImplemented)
			_, _ = io.WriteString(w, `<Error><Code>NotImplemented</Code></Error>`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFakeS3(t)
			f.versioning(t, true)
			f.put(t, "a/0000/x", []byte("12"))
			f.put(t, "a/metadata.json", nil)
			f.setFault(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
				if has(r, "versioning") || has(r, "versions") {
					refuse(w)
					return
				}
				next.ServeHTTP(w, r)
			})
			p := newClient(t, f.config()).Prefix("a")
			done := mustErase(t, p)
			if done.Objects != 2 || len(done.Left) != 1 || done.Left[0].Name != "a/" || !done.Versioned || !errors.Is(done.Left[0].Err, store.ErrVersionsUnknown) {
				t.Errorf("%+v", done)
			}
		})
	}
}

func TestABucketThatNeverKeptVersionsNeedsNoRightToListThem(t *testing.T) {
	f := newFakeS3(t)
	f.put(t, "a/x", nil)
	f.setFault(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if _, ok := r.URL.Query()["versions"]; ok {
			deny(w)
			return
		}
		next.ServeHTTP(w, r)
	})
	if done := mustErase(t, newClient(t, f.config()).Prefix("a")); done.Objects != 1 || len(done.Left) != 0 {
		t.Errorf("%+v", done)
	}
}

func TestAnErasureWhoseListingFailsIsAnError(t *testing.T) {
	for _, query := range []string{"list-type", "versions", "versioning", "uploads"} {
		f := newFakeS3(t)
		if query == "versions" {
			f.versioning(t, true)
		}
		f.put(t, "a/metadata.json", nil)
		f.setFault(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			if _, ok := r.URL.Query()[query]; ok {
				w.WriteHeader(http.StatusInternalServerError)
				return
			}
			next.ServeHTTP(w, r)
		})
		cfg := f.config()
		cfg.MaxAttempts = 1
		if done, err := newClient(t, cfg).Prefix("a").ErasePrefix(t.Context()); err == nil {
			t.Errorf("%s: no error, and %+v", query, done)
		}
		if data, _ := f.object(t, "a/metadata.json"); data == nil {
			t.Errorf("%s: metadata.json is gone, though the erasure has failed", query)
		}
	}
}

func TestWithNoDeleteAnErasureNamesAllThatIsLeft(t *testing.T) {
	f := newFakeS3(t)
	f.put(t, "a/0000/x", nil)
	f.put(t, "a/metadata.json", nil)
	cfg := f.config()
	cfg.NoDelete = true
	done := mustErase(t, newClient(t, cfg).Prefix("a"))
	if done.Objects != 0 || len(done.Left) != 2 || !errors.Is(done.Left[0].Err, errNoDelete) || !errors.Is(done.Left[1].Err, errNoDelete) {
		t.Errorf("%+v", done)
	}
	if got := fmt.Sprint(f.kept(t)); got != "[a/0000/x a/metadata.json]" {
		t.Error(got)
	}
}

func TestAnErasureEndsUploadsThatWereNotCompleted(t *testing.T) {
	f := newFakeS3(t)
	c := newClient(t, f.config())
	a, err := c.api(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	bucket := testBucket
	for _, key := range []string{"a/0009/x", "ab/0009/x"} {
		if _, err := a.CreateMultipartUpload(t.Context(), &s3.CreateMultipartUploadInput{Bucket: &bucket, Key: &key}); err != nil {
			t.Fatal(err)
		}
	}
	if done := mustErase(t, c.Prefix("a")); len(done.Left) != 0 {
		t.Errorf("%+v", done)
	}
	out, err := a.ListMultipartUploads(t.Context(), &s3.ListMultipartUploadsInput{Bucket: &bucket})
	if err != nil {
		t.Fatal(err)
	}
	if len(out.Uploads) != 1 || *out.Uploads[0].Key != "ab/0009/x" {
		t.Errorf("%d uploads are left", len(out.Uploads))
	}
}

func TestAStoreThatDeletesOneByOneErasesToo(t *testing.T) {
	f := newFakeS3(t)
	f.versioning(t, true)
	for i := range 40 {
		f.put(t, fmt.Sprint("a/", i), nil)
	}
	f.setFault(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if r.Method == http.MethodPost {
			w.WriteHeader(http.StatusNotImplemented)
			return
		} else if r.Method == http.MethodDelete && strings.HasSuffix(r.URL.Path, "/7") && r.URL.Query().Get("versionId") != "" {
			deny(w)
			return
		}
		next.ServeHTTP(w, r)
	})
	done := mustErase(t, newClient(t, f.config()).Prefix("a"))
	if done.Objects != 39 || len(done.Left) != 1 || done.Left[0].Name != "a/7" || !errors.Is(done.Left[0].Err, ErrAccessDenied) {
		t.Errorf("%+v", done)
	}
}

func TestACopyWhoseAnswerIsLostCountsAsCopied(t *testing.T) {
	f := newFakeS3(t)
	c := newClient(t, f.config())
	from, to := c.Prefix("a+b c"), c.Prefix("d")
	data := ltxBytes(t, 1, 1000)
	info := mustWrite(t, from, 0, 1, 1, data)
	lost := 0
	f.setFault(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if r.Header.Get("X-Amz-Copy-Source") == "" {
			next.ServeHTTP(w, r)
			return
		}
		if lost++; lost == 1 {
			next.ServeHTTP(discard{http.Header{}}, r)
			hijack(w)
			return
		}
		w.WriteHeader(http.StatusPreconditionFailed)
	})
	if err := to.CopyLTXFile(t.Context(), from, info); err != nil {
		t.Fatal(err)
	}
	got, md := f.object(t, "d/0000/0000000000000001-0000000000000001.ltx")
	if !bytes.Equal(got, data) || lost != 2 || md["X-Amz-Meta-"+"Litestream-Timestamp"] == "" {
		t.Errorf("%d bytes after %d requests, metadata %v", len(got), lost, md)
	}
}

func TestTheSameBytesCountAsCopiedWhateverTheirETags(t *testing.T) {
	f := newFakeS3(t)
	c := newClient(t, f.config())
	from, to := c.Prefix("a"), c.Prefix("b")
	data := ltxBytes(t, 1, 1000)
	info := mustWrite(t, from, 0, 1, 1, data)
	mustWrite(t, to, 0, 1, 1, data)
	f.setFault(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if r.Method == http.MethodHead && strings.Contains(r.URL.Path, "/b/") {
			w.Header().Set("ETag", `"by parts-2"`)
			w.Header().Set("Content-Length", "1000")
			return
		}
		next.ServeHTTP(w, r)
	})
	if err := to.CopyLTXFile(t.Context(), from, info); err != nil {
		t.Fatal(err)
	}
	if err := to.DeleteLTXFiles(t.Context(), []*ltx.FileInfo{info}); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, to, 0, 1, 1, append(data[:999:999], data[999]^1))
	if err := to.CopyLTXFile(t.Context(), from, info); !errors.Is(err, fs.ErrExist) {
		t.Errorf("over other bytes of the same size: %v, want fs.ErrExist", err)
	}
}

func TestAStoreThatDoesNotCopyGetsTheFileStreamed(t *testing.T) {
	f := newFakeS3(t)
	c := newClient(t, f.config())
	from, to := c.Prefix("a"), c.Prefix("b")
	data := ltxBytes(t, 1, 1000)
	info := mustWrite(t, from, 0, 1, 1, data)
	f.setFault(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if r.Header.Get("X-Amz-Copy-Source") != "" {
			w.WriteHeader(http.StatusNotImplemented)
			return
		}
		next.ServeHTTP(w, r)
	})
	if err := to.CopyLTXFile(t.Context(), from, info); !errors.Is(err, errors.ErrUnsupported) {
		t.Fatalf("%v, want errors.ErrUnsupported", err)
	}
	for range 2 {
		if err := store.CopyFile(t.Context(), from, to, info); err != nil {
			t.Fatal(err)
		}
	}
	if got, _ := f.object(t, "b/0000/0000000000000001-0000000000000001.ltx"); !bytes.Equal(got, data) {
		t.Errorf("%d bytes", len(got))
	}
	if huge := (&ltx.FileInfo{MinTXID: 1, MaxTXID: 1, Size: maxCopy + 1}); !errors.Is(to.CopyLTXFile(t.Context(), from, huge), errors.ErrUnsupported) {
		t.Error("a file that is too large for a copy is not streamed")
	}
}

func TestACopyHasTheEncryptionAndStorageClassOfTheConfig(t *testing.T) {
	f := newFakeS3(t)
	cfg := f.config()
	cfg.StorageClass, cfg.SSEKMSKeyID = "STANDARD_IA", "my-key"
	c := newClient(t, cfg)
	from, to := c.Prefix("a"), c.Prefix("b")
	if err := to.CopyLTXFile(t.Context(), from, mustWrite(t, from, 0, 1, 1, ltxBytes(t, 1, 1000))); err != nil {
		t.Fatal(err)
	}
	for _, r := range f.seen() {
		if r.Header.Get("X-Amz-Copy-Source") == "" {
			continue
		}
		h := r.Header
		if h.Get("X-Amz-Storage-Class") != "STANDARD_IA" || h.Get("X-Amz-Server-Side-Encryption") != "aws:kms" ||
			h.Get("X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id") != "my-key" || h.Get("If-None-Match") != "*" {
			t.Errorf("%v", h)
		}
		return
	}
	t.Error("nothing was copied")
}
