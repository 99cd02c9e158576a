//go:build versitygw

package s3

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/benbjohnson/litestream"
)

func TestVersitygwErasesAndCopies(t *testing.T) {
	c := newClient(t, versitygw(t))
	p, to := versitygwPrefix(t, c), versitygwPrefix(t, c)
	tenant(t, p)
	if err := p.WriteMetadata(t.Context(), []byte("{}")); err != nil {
		t.Fatal(err)
	}
	files, err := p.AllLTXFiles(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		for _, f := range files {
			if err := to.CopyLTXFile(t.Context(), p, f); err != nil {
				t.Fatal(err)
			}
		}
	}
	copied, err := to.AllLTXFiles(t.Context(), true)
	if err != nil || len(copied) != len(files) {
		t.Fatalf("%d files of %d, %v", len(copied), len(files), err)
	}
	for i, f := range copied {
		if *f != *files[i] {
			t.Errorf("%+v is a copy of %+v", f, files[i])
		}
	}
	n, size, err := p.PrefixSize(t.Context())
	if err != nil || n != int64(len(files)+1) {
		t.Errorf("%d objects, %v", n, err)
	}
	if done := mustErase(t, p); done.Objects != n || done.Bytes != size || len(done.Left) != 0 {
		t.Errorf("%+v", done)
	}
	if done := mustErase(t, p); done.Objects != 0 || len(done.Left) != 0 {
		t.Errorf("the second time %+v", done)
	}
	wantPages(t, restore(t, to, litestream.RestoreOptions{}), 'a', 'b'+11)
}

// TestVersitygwErasesVersions: where the gateway was begun with a directory for them.
func TestVersitygwErasesVersions(t *testing.T) {
	c := newClient(t, versitygw(t))
	a, err := c.api(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	bucket := "versions-of-an-erasure"
	if _, err := a.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: &bucket}); err != nil && codeOf(err) != "BucketAlreadyOwnedByYou" {
		t.Fatal(err)
	}
	if _, err := a.PutBucketVersioning(t.Context(), &s3.PutBucketVersioningInput{Bucket: &bucket, VersioningConfiguration: &types.VersioningConfiguration{Status: types.BucketVersioningStatusEnabled}}); err != nil {
		t.Skipf("it keeps no versions: %v", err)
	}
	cfg := versitygw(t)
	cfg.Bucket = bucket
	c = newClient(t, cfg)
	p := versitygwPrefix(t, c)
	for i := range 1203 {
		key := p.key(fmt.Sprintf("x/%04d", i%601))
		if _, err := a.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &bucket, Key: &key, Body: bytes.NewReader([]byte("1")), ContentLength: aws.Int64(1)}); err != nil {
			t.Fatal(err)
		}
	}
	key := p.key("x/0000")
	if _, err := a.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: &bucket, Key: &key}); err != nil {
		t.Fatal(err)
	}
	if err := p.WriteMetadata(t.Context(), []byte("{}")); err != nil {
		t.Fatal(err)
	}
	if done := mustErase(t, p); done.Objects != 601 || done.Versions != 604 || len(done.Left) != 0 {
		t.Errorf("%+v", done)
	}
	if done := mustErase(t, p); done.Objects+done.Versions != 0 || len(done.Left) != 0 {
		t.Errorf("the second time %+v", done)
	}
}
