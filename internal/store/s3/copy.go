package s3

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/benbjohnson/litestream"
	"github.com/multidb-go/multidb/internal/store"
	"github.com/superfly/ltx"
)

var _ store.Copier = (*Prefix)(nil)

// maxCopy is the largest object that one request copies.
const maxCopy = 5 << 30

// CopyLTXFile copies a file from another prefix of the same Client, under the same name, by
// one HEAD and one request that moves its bytes on the server. The time of the LTX header
// goes with it; the storage class and the encryption are those of this Client's Config.
//
// An existing file is left alone. The same bytes count as copied; others are an error that
// wraps fs.ErrExist. What cannot be copied in this way is an error that wraps
// errors.ErrUnsupported: from is of another store, the file has more than 5 GiB, or the
// store does not copy.
func (p *Prefix) CopyLTXFile(ctx context.Context, from litestream.ReplicaClient, info *ltx.FileInfo) error {
	name := ltxName(info.Level, info.MinTXID, info.MaxTXID)
	key := p.key(name)
	c := p.c
	source, ok := from.(*Prefix)
	unsupported := func(why string) error {
		return &Error{Op: "copy", Key: key, Err: errors.ErrUnsupported, Msg: why}
	}
	switch {
	case !ok || source.c != c:
		return unsupported("it is of another store")
	case source.root == p.root:
		return unsupported("from a prefix to itself")
	case info.Size > maxCopy:
		return unsupported(fmt.Sprintf("the store copies at most %d bytes at once", int64(maxCopy)))
	}
	conditional, err := c.conditional(ctx, p)
	if err != nil {
		return err
	}
	a, err := c.api(ctx)
	if err != nil {
		return c.wrap("copy", key, err)
	}
	// A store may ignore the condition of a copy though it honors that of a write.
	u := &upload{c: c, key: key}
	err = u.look(ctx, a)
	if err == nil {
		err = p.copy(ctx, a, key, source.key(name), conditional)
	}
	switch {
	case errors.Is(err, fs.ErrExist):
		return p.sameAs(ctx, a, source, info, err)
	case err != nil && declinesCopy(err):
		return errors.Join(unsupported("the store does not copy"), err)
	}
	return err
}

func (p *Prefix) copy(ctx context.Context, a *api, key, from string, conditional bool) error {
	c := p.c
	in := &s3.CopyObjectInput{
		Bucket: &c.cfg.Bucket, Key: &key, CopySource: aws.String(c.copySource(from)),
		StorageClass: types.StorageClass(c.cfg.StorageClass),
	}
	in.ServerSideEncryption, in.SSEKMSKeyId = c.encryption()
	in.SSECustomerAlgorithm, in.SSECustomerKey, in.SSECustomerKeyMD5 = c.customerKey()
	in.CopySourceSSECustomerAlgorithm, in.CopySourceSSECustomerKey, in.CopySourceSSECustomerKeyMD5 = c.customerKey()
	if conditional {
		in.IfNoneMatch = aws.String("*")
	}
	out, err := a.CopyObject(ctx, in)
	switch {
	case err == nil && (out.CopyObjectResult == nil || out.CopyObjectResult.ETag == nil):
		return c.foreign("copy", key)
	case err == nil:
		return nil
	case statusOf(err) == http.StatusPreconditionFailed, codeOf(err) == codeConditionalConflict:
		return exists("copy", c.cfg.Bucket, key) // perhaps by an attempt of this call whose answer was lost
	case isNotExist(err):
		return notExist("copy", c.cfg.Bucket, from)
	}
	return c.wrap("copy", key, err)
}

// sameAs returns nil if two prefixes have the same bytes under a name: objects that were
// written whole and without a key have the same ETag then, of others they are read.
func (p *Prefix) sameAs(ctx context.Context, a *api, from *Prefix, info *ltx.FileInfo, cause error) error {
	name := ltxName(info.Level, info.MinTXID, info.MaxTXID)
	var outs [2]*s3.HeadObjectOutput
	for i, key := range []string{from.key(name), p.key(name)} {
		out, err := a.HeadObject(ctx, p.c.headInput(key))
		if err != nil {
			return errors.Join(cause, p.c.wrap("head", key, err))
		} else if out.ETag == nil {
			return p.c.foreign("head", key)
		}
		outs[i] = out
	}
	switch {
	case aws.ToInt64(outs[0].ContentLength) != aws.ToInt64(outs[1].ContentLength):
		return cause
	case *outs[0].ETag == *outs[1].ETag:
		return nil
	}
	same, err := store.SameFile(ctx, from, p, info)
	switch {
	case err != nil:
		return errors.Join(cause, err)
	case same:
		return nil
	}
	return cause
}

// declinesCopy reports whether a store answered that it does not copy, or not so.
func declinesCopy(err error) bool {
	switch statusOf(err) {
	case http.StatusNotImplemented, http.StatusMethodNotAllowed:
		return true
	case http.StatusBadRequest:
		return codeOf(err) == "NotImplemented" || codeOf(err) == "InvalidArgument" || codeOf(err) == "InvalidRequest"
	}
	return false
}

// copySource names an object of this bucket as CopyObject wants it. A plus is encoded too:
// stores take it for a space.
func (c *Client) copySource(key string) string {
	source := c.cfg.Bucket + "/"
	if c.cfg.isARN() {
		source = c.cfg.Bucket + "/object/"
	}
	var b strings.Builder
	for i, part := range strings.Split(source+key, "/") {
		if i > 0 {
			b.WriteByte('/')
		}
		b.WriteString(strings.ReplaceAll(url.PathEscape(part), "+", "%2B"))
	}
	return b.String()
}
