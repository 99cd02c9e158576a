package bucket

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
)

func TestTheStoreListsWhatTheServersOwnDoes(t *testing.T) {
	plain := s3mem.New()
	if err := plain.CreateBucket("b"); err != nil {
		t.Fatal(err)
	}
	indexed, err := newStore("b")
	if err != nil {
		t.Fatal(err)
	}
	both := []gofakes3.Backend{plain, indexed}
	put := func(name string) {
		t.Helper()
		for _, b := range both {
			if _, err := b.PutObject("b", name, map[string]string{}, strings.NewReader(name), int64(len(name)), nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i := range 40 {
		put(fmt.Sprintf("p%d/d%d/%04d", i%3, i%5, i*7919%40))
	}
	put("p0/d0/0000") // again
	put("p")
	put("zz")
	for _, b := range both {
		if _, err := b.CopyObject("b", "zz", "b", "p1/copy", map[string]string{}); err != nil {
			t.Fatal(err)
		}
		if _, err := b.DeleteObject("b", "p0/d1/0039"); err != nil {
			t.Fatal(err)
		}
		if _, err := b.DeleteMulti("b", "p1/d1/0039", "p2/d2/0038", "nosuch"); err != nil {
			t.Fatal(err)
		}
	}
	all, err := plain.ListBucket("b", &gofakes3.Prefix{}, gofakes3.ListBucketPage{})
	if err != nil {
		t.Fatal(err)
	}
	want := int64(0)
	for _, o := range all.Contents {
		want += o.Size
	}
	if got := indexed.size(); got != want || got == 0 {
		t.Errorf("%d bytes, want %d", got, want)
	}
	for _, prefix := range []string{"", "p", "p0/", "p1/d1/", "p1/c", "q", "zz", "zzz", "p2/d2/0038"} {
		for _, maxKeys := range []int64{0, 1, 3, 1000} {
			var lists [2][]string
			for i, b := range both {
				marker := ""
				for pages := 0; ; pages++ {
					if pages > 100 {
						t.Fatal("a listing does not end")
					}
					list, err := b.ListBucket("b", &gofakes3.Prefix{HasPrefix: true, Prefix: prefix}, gofakes3.ListBucketPage{Marker: marker, HasMarker: marker != "", MaxKeys: maxKeys})
					if err != nil {
						t.Fatal(err)
					}
					if maxKeys > 0 && int64(len(list.Contents)) > maxKeys {
						t.Errorf("%d keys on a page of %d", len(list.Contents), maxKeys)
					}
					for _, c := range list.Contents {
						lists[i] = append(lists[i], fmt.Sprint(c.Key, c.Size, c.ETag))
					}
					if marker = list.NextMarker; !list.IsTruncated {
						break
					}
				}
			}
			if !slices.Equal(lists[0], lists[1]) {
				t.Errorf("prefix %q, pages of %d: %v, want %v", prefix, maxKeys, lists[1], lists[0])
			}
		}
	}
	for _, b := range both {
		if _, err := b.ListBucket("nosuch", &gofakes3.Prefix{HasPrefix: true, Prefix: "p"}, gofakes3.ListBucketPage{}); !gofakes3.HasErrorCode(err, gofakes3.ErrNoSuchBucket) {
			t.Errorf("a bucket that does not exist: %v", err)
		}
	}
}
