package bucket_test

import (
	"context"
	"errors"
	"io"
	"iter"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/multidb-go/multidb"
	"github.com/multidb-go/multidb/internal/member/bucket"
	"github.com/multidb-go/multidb/internal/store"
	"github.com/multidb-go/multidb/multidbtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// objects is a directory of a replica as the inner packages know it.
type objects struct{ multidb.ObjectStore }

func (o objects) List(ctx context.Context, prefix, after string) iter.Seq2[store.ObjectInfo, error] {
	return func(yield func(store.ObjectInfo, error) bool) {
		for info, err := range o.ObjectStore.List(ctx, prefix, after) {
			if !yield(store.ObjectInfo(info), err) {
				return
			}
		}
	}
}

var errCut = errors.New("no route to the bucket")

// machine is a node's way to the bucket, which can be cut.
type machine struct {
	store.Objects
	cut atomic.Bool
}

func (m *machine) gate() error {
	if m.cut.Load() {
		return errCut
	}
	return nil
}

func (m *machine) Create(ctx context.Context, name string, data []byte) error {
	if err := m.gate(); err != nil {
		return err
	}
	return m.Objects.Create(ctx, name, data)
}

func (m *machine) Open(ctx context.Context, name string, offset, size int64) (io.ReadCloser, error) {
	if err := m.gate(); err != nil {
		return nil, err
	}
	return m.Objects.Open(ctx, name, offset, size)
}

func (m *machine) List(ctx context.Context, prefix, after string) iter.Seq2[store.ObjectInfo, error] {
	if err := m.gate(); err != nil {
		return func(yield func(store.ObjectInfo, error) bool) { yield(store.ObjectInfo{}, err) }
	}
	return m.Objects.List(ctx, prefix, after)
}

func (m *machine) Delete(ctx context.Context, names ...string) error {
	if err := m.gate(); err != nil {
		return err
	}
	return m.Objects.Delete(ctx, names...)
}

// dirOf returns the directory of the members of a replica.
func dirOf(t testing.TB, r multidb.ReplicaObjects) objects {
	t.Helper()
	o, err := r.Objects("fleet")
	if err != nil {
		t.Fatal(err)
	}
	return objects{o}
}

func newBucket(t testing.TB, cfg bucket.Config) *bucket.Membership {
	t.Helper()
	m, err := bucket.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func cluster(t *testing.T, r multidb.ReplicaObjects) multidbtest.MembershipUnderTest {
	dir := dirOf(t, r)
	ways := map[multidb.Membership]*machine{}
	return multidbtest.MembershipUnderTest{
		Node: func(t *testing.T) multidb.Membership {
			way := &machine{Objects: dir}
			m := newBucket(t, bucket.Config{Objects: way})
			ways[m] = way
			return m
		},
		Kill: func(m multidb.Membership) { ways[m].cut.Store(true) },
		Gone: 15 * time.Second,
	}
}

func TestABucketInMemoryKeepsMembers(t *testing.T) {
	multidbtest.RunMembershipConformance(t, func(t *testing.T) multidbtest.MembershipUnderTest {
		return cluster(t, multidbtest.NewReplica())
	}, multidbtest.InVirtualTime())
}

func TestABucketOfFilesKeepsMembers(t *testing.T) {
	multidbtest.RunMembershipConformance(t, func(t *testing.T) multidbtest.MembershipUnderTest {
		r, err := multidb.NewFileReplica(t.TempDir(), "litestream/{{tenant}}")
		if err != nil {
			t.Fatal(err)
		}
		return cluster(t, r)
	}, multidbtest.InVirtualTime())
}
