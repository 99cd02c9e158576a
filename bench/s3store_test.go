package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/benbjohnson/litestream"
	"github.com/johannesboyne/gofakes3"
	"github.com/multidb-go/multidb"
)

func newTestStore(t *testing.T) *store {
	t.Helper()
	s, err := newStore(bucket)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func put(t *testing.T, s *store, key string, data []byte) {
	t.Helper()
	if _, err := s.PutObject(bucket, key, map[string]string{}, bytes.NewReader(data), int64(len(data)), nil); err != nil {
		t.Fatal(err)
	}
}

// oneClient is a replica of one database.
type oneClient struct{ c *memClient }

func (o oneClient) ReplicaClient(multidb.Database) (litestream.ReplicaClient, error) { return o.c, nil }

// names is what a listing says, page by page, of objects not put after before.
func names(t *testing.T, b gofakes3.Backend, prefix gofakes3.Prefix, size int64, before time.Time) []string {
	t.Helper()
	var out []string
	page := gofakes3.ListBucketPage{MaxKeys: size}
	for {
		l, err := b.ListBucket(bucket, &prefix, page)
		if err != nil {
			t.Fatal(err)
		}
		n := int64(len(l.Contents) + len(l.CommonPrefixes))
		if size > 0 && n > size || l.IsTruncated && n == 0 || len(out) > 10000 {
			t.Fatalf("%d names on a page of %d, after %d", n, size, len(out))
		}
		for _, c := range l.Contents {
			if c.LastModified.After(before) {
				t.Fatalf("%s was modified at %v, after the last change at %v", c.Key, c.LastModified, before)
			}
			out = append(out, fmt.Sprintf("%s %d %s", c.Key, c.Size, c.ETag))
		}
		for _, p := range l.CommonPrefixes {
			out = append(out, "dir "+p.Prefix)
		}
		if !l.IsTruncated {
			return out
		}
		page.Marker, page.HasMarker = l.NextMarker, true
	}
}

func TestTheStoreListsWhatS3memDoes(t *testing.T) {
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 1))
	s := newTestStore(t)
	var keys []string
	for range 300 {
		key := fmt.Sprintf("project%d/db%d/%04x/%d.ltx", rnd.IntN(2), rnd.IntN(3), rnd.IntN(3), rnd.IntN(30))
		put(t, s, key, []byte(key))
		keys = append(keys, key)
		if rnd.IntN(3) == 0 {
			k := keys[rnd.IntN(len(keys))]
			if _, err := s.DeleteMulti(bucket, k); err != nil {
				t.Fatal(err)
			}
		}
	}
	done := time.Now()
	for _, prefix := range []gofakes3.Prefix{
		{HasPrefix: true, Prefix: "project0/db1/"},
		{HasPrefix: true, Prefix: "project0/db1/0002/"},
		{HasPrefix: true, Prefix: "project1/db2/0001/1"},
		{HasPrefix: true, Prefix: "project1/db9/"},
		{HasPrefix: true, Prefix: "project1/db2/", HasDelimiter: true, Delimiter: "/"},
		{HasPrefix: true, Prefix: "project1/db2/0001/", HasDelimiter: true, Delimiter: "/"},
	} {
		want := names(t, s.Backend, prefix, 0, done)
		for _, size := range []int64{0, 1, 7, 1000} {
			if got := names(t, s, prefix, size, done); !reflect.DeepEqual(got, want) {
				t.Fatalf("seed %d: %+v in pages of %d:\n%s\nwant\n%s", seed, prefix, size, strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		}
	}
}

func TestTheStoreFindsTheCommitInWhatArrives(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	if err := newFleet(ctx, dir, 1, 0); err != nil {
		t.Fatal(err)
	}
	client := newMemClient()
	m, err := startManager(ctx, dir, multidb.WithReplica(oneClient{client}))
	if err != nil {
		t.Fatal(err)
	}
	s := newTestStore(t)
	s.record(true)
	for seq := 1; seq <= 3; seq++ {
		if err := m.writeAll(ctx, 1, seq); err != nil {
			t.Fatal(err)
		}
		pos, err := m.Sync(ctx, fleetID(0))
		if err != nil {
			t.Fatal(err)
		}
		f, ok := client.files[memKey{0, pos.TXID, pos.TXID}]
		if !ok {
			t.Fatalf("no file of transaction %s", pos.TXID)
		}
		put(t, s, fmt.Sprintf("%s/0000/%d.ltx", fleetID(0), seq), f.data)
	}
	if err := m.stop(ctx); err != nil {
		t.Fatal(err)
	}
	got, err := s.seqs(bucket)
	if err != nil {
		t.Fatal(err)
	}
	for i, a := range got {
		if a.Prefix != string(fleetID(0)) || a.Seq != i+1 {
			t.Errorf("arrival %d is %+v", i, a)
		}
	}
	if len(got) != 3 || s.protected != 1 {
		t.Errorf("%d arrivals of %d databases, want 3 of 1", len(got), s.protected)
	}
}
