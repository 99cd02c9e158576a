package s3

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

const (
	checkTimeout  = 10 * time.Second
	checkAttempts = 2
)

// Check proves that the bucket is there, that objects under prefix can be listed,
// created and deleted, and that none can be created twice. It answers within 10
// seconds, with one line that says what to fix. It creates the empty object
// <prefix>/.multidb-check-… and deletes it again, which leaves a delete marker in
// a versioned bucket; with Config.NoDelete, <prefix>/.multidb-check stays.
func (c *Client) Check(ctx context.Context, prefix string) error {
	caller := ctx
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	err := c.check(ctx, c.Prefix(prefix))
	if err != nil && ctx.Err() != nil && caller.Err() == nil {
		where := c.cfg.Endpoint
		if a := c.loaded.Load(); a != nil {
			where = a.where
		}
		kind, msg := ErrUnreachable, fmt.Sprintf("no answer from %s within %v: check the network and Endpoint", where, checkTimeout)
		if errors.Is(err, ErrNoCredentials) {
			kind, msg = ErrNoCredentials, "no credentials found: set AccessKeyID and SecretAccessKey, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or Anonymous"
		}
		return &Error{Op: "check", Msg: msg, Kind: kind, Err: err}
	}
	return err
}

func (c *Client) check(ctx context.Context, p *Prefix) error {
	a, err := c.api(ctx)
	if err != nil {
		return c.wrap("check", "", err)
	}
	few := func(o *s3.Options) { o.RetryMaxAttempts = min(checkAttempts, c.cfg.MaxAttempts) }
	if !c.cfg.Anonymous {
		if _, err := a.Options().Credentials.Retrieve(ctx); err != nil {
			return c.wrap("check", "", err)
		}
	}

	// A HEAD would be cheaper, but its answer has no body that tells a wrong key
	// from a wrong signature from a denied request.
	prefix := p.key("")
	page, err := a.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: &c.cfg.Bucket, Prefix: &prefix, MaxKeys: aws.Int32(1)}, few)
	if err != nil {
		if code := codeOf(err); statusOf(err) == http.StatusNotFound && (code == "" || code == "NotFound" || code == "UnknownError") {
			return &Error{Op: "check", Kind: ErrNoBucket, Err: err,
				Msg: fmt.Sprintf("%s answers 404 for bucket %q: it does not exist, or Endpoint is no S3 store", a.where, c.cfg.Bucket)}
		}
		return c.wrap("check", "", err)
	} else if !isListing(page) {
		return c.foreign("check", "")
	}

	o, left, err := c.try(ctx, a, p, few)
	if err != nil {
		return err
	}
	if errors.Is(left, ErrAccessDenied) {
		var e *Error
		if errors.As(left, &e) {
			e.Msg += ", or set NoDelete"
		}
	}
	return errors.Join(c.accepts("check", o), left)
}
