package s3

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// FuzzKey: a key is an LTX file of exactly that name, or none.
func FuzzKey(f *testing.F) {
	for _, s := range []string{"0000/0000000000000001-0000000000000001.ltx", "0009/0000000000000001-ffffffffffffffff.ltx", "000a/0000000000000001-0000000000000001.ltx",
		"0000/0000000000000002-0000000000000001.ltx", "metadata.json", "generations/0123456789abcdef/wal/00000000_00000000.wal.lz4", "generations/0123456789abcdef/snapshots/00000000.snapshot.lz4"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if info := parseLTX(name, types.Object{}); info != nil {
			if got := ltxName(info.Level, info.MinTXID, info.MaxTXID); got != name {
				t.Fatalf("%q is taken for %q", name, got)
			}
		}
		var l v3Listing
		l.add(name, types.Object{})
		l.sort()
	})
}

// FuzzListing: any body as the answer to every LIST. The listing ends, with files
// or an error.
func FuzzListing(f *testing.F) {
	f.Add([]byte(`<ListBucketResult><Name>b</Name><IsTruncated>false</IsTruncated><Contents><Key>p/0000/0000000000000001-0000000000000001.ltx</Key><Size>7</Size><LastModified>2024-01-01T00:00:00.000Z</LastModified></Contents></ListBucketResult>`))
	f.Add([]byte(`<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>x</NextContinuationToken><Contents><Key>p/metadata.json</Key></Contents></ListBucketResult>`))
	f.Add([]byte(`<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>`))
	f.Add([]byte(`<ListBucketResult><CommonPrefixes><Prefix>p/a/</Prefix></CommonPrefixes><CommonPrefixes/></ListBucketResult>`))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, body []byte) {
		srv := newFakeS3(t)
		srv.setFault(func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
			w.Header().Set("Content-Type", "application/xml")
			_, _ = w.Write(body)
		})
		c := newClient(t, srv.config())
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		if l, err := c.Prefix("p").Listing(ctx, false); err == nil {
			for _, info := range l.Files {
				_ = info.PreApplyPos()
			}
		}
		names := 0
		for _, err := range c.Dir(ctx, "p") {
			if names++; err != nil {
				break
			}
		}
		if ctx.Err() != nil {
			t.Fatalf("the listing did not end; %d requests", len(srv.seen()))
		}
	})
}
