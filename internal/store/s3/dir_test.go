package s3

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"testing"
)

func dirNames(t *testing.T, c *Client, dir string) []string {
	t.Helper()
	var names []string
	for name, err := range c.Dir(t.Context(), dir) {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func TestDirListsOnlyWhatIsDirectlyBelow(t *testing.T) {
	f := newFakeS3(t)
	for _, key := range []string{"a/one/0000/x", "a/one/0001/x", "a/two/y", "a/file", "ab/no", "top"} {
		f.put(t, key, []byte("x"))
	}
	c := newClient(t, f.config())
	if got, want := dirNames(t, c, "a"), []string{"file", "one/", "two/"}; !slices.Equal(got, want) {
		t.Errorf("below a: %q, want %q", got, want)
	}
	if got, want := dirNames(t, c, ""), []string{"a/", "ab/", "top"}; !slices.Equal(got, want) {
		t.Errorf("the bucket: %q, want %q", got, want)
	}
	if got := dirNames(t, c, "nothing"); len(got) != 0 {
		t.Errorf("below nothing: %q", got)
	}
}

func TestDirGoesThroughEveryPage(t *testing.T) {
	f := newFakeS3(t)
	const n = 2300
	for i := range n {
		// Two in each, so that a page may end within one.
		f.put(t, fmt.Sprintf("tenants/t%04d/0000/x", i), []byte("x"))
		f.put(t, fmt.Sprintf("tenants/t%04d/metadata.json", i), []byte("{}"))
	}
	c := newClient(t, f.config())
	if got := len(dirNames(t, c, "tenants")); got != n {
		t.Errorf("%d names, want %d", got, n)
	}
	if got := len(f.seen()); got != 3 {
		t.Errorf("%d requests, want 3", got)
	}
	for range c.Dir(t.Context(), "tenants") {
		break
	}
	if got := len(f.seen()); got != 4 {
		t.Errorf("an iteration that ends at once made %d requests, want 1", got-3)
	}
}

func TestDirSaysWhyItCannotList(t *testing.T) {
	f := newFakeS3(t)
	f.setFault(func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		w.WriteHeader(http.StatusForbidden)
	})
	c := newClient(t, f.config())
	var last error
	for _, err := range c.Dir(t.Context(), "a") {
		last = err
	}
	if !errors.Is(last, ErrAccessDenied) {
		t.Errorf("error %v, want ErrAccessDenied", last)
	}
}
