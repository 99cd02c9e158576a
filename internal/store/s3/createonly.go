package s3

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

const (
	checkFile = ".multidb-check"

	// tryAgain is after how long a store that did not refuse a second create is
	// tried again, as it may have been fixed.
	tryAgain = time.Minute

	cleanUpTimeout = 10 * time.Second
)

// createOnly is what is known of a store's If-None-Match. That it works is
// remembered for the client's life, anything else for tryAgain, and a trial that
// failed not at all.
type createOnly struct {
	honored bool
	reason  string // what the store did, if it does not honor the condition
	at      time.Time
}

func (o *createOnly) valid() bool { return o != nil && (o.honored || time.Since(o.at) < tryAgain) }

// trial is one run of try that several writers wait for.
type trial struct {
	done chan struct{} // closed at its end
	err  error         // set before
}

// conditional reports whether a file can be created by If-None-Match. Where the
// store does not honor it and Config.AllowUnsafeWrites is set, it answers false:
// look first. The first caller tries it out, and those that come meanwhile share
// the outcome: in an outage they would otherwise fail one after another. ctx bounds
// the trial and the waiting. The trial is made in CheckPrefix of Config.Path or,
// where only that is denied, under p.
func (c *Client) conditional(ctx context.Context, p *Prefix) (bool, error) {
	for {
		if o := c.known.Load(); o.valid() {
			return o.honored, c.accepts("put", o)
		}
		c.mu.Lock()
		if c.known.Load().valid() { // by a trial that ended since
			c.mu.Unlock()
			continue
		}
		t, mine := c.trying, c.trying == nil
		if mine {
			t = &trial{done: make(chan struct{})}
			c.trying = t
		}
		c.mu.Unlock()
		if mine {
			o, err := c.lead(ctx, p, t)
			if err != nil {
				return false, err
			}
			return o.honored, c.accepts("put", o)
		}
		select {
		case <-t.done:
		case <-ctx.Done():
			return false, c.wrap("put", p.root, ctx.Err())
		}
		if t.err != nil && !errors.Is(t.err, context.Canceled) && !errors.Is(t.err, context.DeadlineExceeded) {
			return false, t.err // otherwise only the other caller's context ended
		}
	}
}

// lead runs the trial t, and ends it.
func (c *Client) lead(ctx context.Context, p *Prefix, t *trial) (o *createOnly, err error) {
	defer func() {
		t.err = err
		c.mu.Lock()
		c.trying = nil
		c.mu.Unlock()
		close(t.done)
	}()
	a, err := c.api(ctx)
	if err != nil {
		return nil, c.wrap("put", p.root, err)
	}
	// An object that could not be deleted has 0 bytes and does not affect the write:
	// Check and the retention report that objects cannot be deleted.
	o, _, err = c.try(ctx, a, c.Prefix(CheckPrefix(c.cfg.Path)))
	if errors.Is(err, ErrAccessDenied) {
		o, _, err = c.try(ctx, a, p)
	}
	return o, err
}

// accepts returns an error where writing to such a store has not been allowed.
func (c *Client) accepts(op string, o *createOnly) error {
	if o.honored || c.cfg.AllowUnsafeWrites {
		return nil
	}
	return &Error{Op: op, Kind: ErrNoConditionalWrites, Msg: o.reason + ": nothing protects the backups from a second writer." +
		" Use a store that honors it, or set AllowUnsafeWrites and make sure that there is one writer"}
}

// try finds out whether the store refuses to create an object twice, and
// remembers what it found. It is two PUTs and a DELETE, of an object without
// content that no other trial uses, so that none deletes it between the two. With
// Config.NoDelete the object stays, has one name, and is one PUT from then on.
// left is why the object could not be deleted.
func (c *Client) try(ctx context.Context, a *api, p *Prefix, opts ...func(*s3.Options)) (o *createOnly, left, err error) {
	key := p.key(checkFile)
	if !c.cfg.NoDelete {
		key += "-" + strconv.FormatUint(rand.Uint64(), 36)
		defer func() {
			if err == nil {
				left = c.cleanUp(ctx, a, key, opts)
			}
		}()
	}
	put := func(condition *string) error {
		in := c.putInput(key)
		in.ContentLength, in.IfNoneMatch = aws.Int64(0), condition
		out, err := summed(c, func(more ...func(*s3.Options)) (*s3.PutObjectOutput, error) {
			in.Body = bytes.NewReader(nil)
			return a.PutObject(ctx, in, append(more, opts...)...)
		})
		if err == nil && out.ETag == nil {
			return c.foreign("check by writing", key)
		}
		return c.wrap("check by writing", key, err)
	}
	absent := aws.String("*")
	o = &createOnly{at: time.Now()}
	err = put(absent)
	if err == nil {
		err = put(absent) // must be refused
	}
	switch status := statusOf(err); {
	case err == nil:
		o.reason = a.where + " lets a file be created twice (it ignores If-None-Match)"
	case status == http.StatusPreconditionFailed:
		o.honored, err = true, nil
	case status == http.StatusNotImplemented, status == http.StatusBadRequest, status == http.StatusMethodNotAllowed, status == http.StatusForbidden:
		// Is it the condition that is refused, or everything?
		cause := err
		if err = put(nil); err == nil {
			o.reason = fmt.Sprintf("%s refuses If-None-Match (%d %s)", a.where, status, codeOf(cause))
		}
	}
	if err != nil {
		return nil, nil, err
	}
	c.known.Store(o)
	return o, nil, nil
}

func (c *Client) cleanUp(ctx context.Context, a *api, key string, opts []func(*s3.Options)) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpTimeout)
	defer cancel()
	_, err := a.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &c.cfg.Bucket, Key: &key}, opts...)
	if err = c.wrap("check by deleting", key, err); isMissing(err) {
		return nil
	}
	return err
}
