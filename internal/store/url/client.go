// Package url makes litestream's own replica clients, which are named by URLs, fit
// for use: their calls end with their context, and their errors show no secret of
// the URL. It has no state and no locks.
package url

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/url"
	"strings"

	"github.com/benbjohnson/litestream"
	"github.com/multidb-go/multidb/internal/ctxio"
	"github.com/multidb-go/multidb/internal/store"
	"github.com/superfly/ltx"
)

var _ litestream.ReplicaClient = (*Client)(nil)

// Client wraps one of litestream's clients: its calls end with their context, which
// not all of litestream's do, and its errors do not show the secrets of its URL. It
// is as safe for concurrent use as the client inside.
type Client struct {
	client litestream.ReplicaClient
	redact Redactor
}

// NewClient returns a Client of a client whose errors redact cleans.
func NewClient(client litestream.ReplicaClient, redact Redactor) *Client {
	return &Client{client: client, redact: redact}
}

// Type returns the client's type.
func (c *Client) Type() string { return c.client.Type() }

// SetLogger sets the logger of litestream's client. Unlike the other methods it
// must come before the first use.
func (c *Client) SetLogger(logger *slog.Logger) { c.client.SetLogger(logger) }

// Init readies the client.
func (c *Client) Init(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return c.redact.Clean(c.client.Init(ctx))
}

// LTXFiles lists a level from seek on.
func (c *Client) LTXFiles(ctx context.Context, level int, seek ltx.TXID, useMetadata bool) (ltx.FileIterator, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	itr, err := c.client.LTXFiles(ctx, level, seek, useMetadata)
	if err != nil {
		return nil, c.redact.Clean(err)
	}
	return &iterator{FileIterator: itr, redact: c.redact}, nil
}

// OpenLTXFile opens a file.
func (c *Client) OpenLTXFile(ctx context.Context, level int, minTXID, maxTXID ltx.TXID, offset, size int64) (io.ReadCloser, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	rc, err := c.client.OpenLTXFile(ctx, level, minTXID, maxTXID, offset, size)
	if err != nil {
		return nil, c.redact.Clean(err)
	}
	return &ctxio.Reader{Ctx: ctx, R: rc, C: rc}, nil
}

// WriteLTXFile writes a file.
func (c *Client) WriteLTXFile(ctx context.Context, level int, minTXID, maxTXID ltx.TXID, r io.Reader) (*ltx.FileInfo, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	info, err := c.client.WriteLTXFile(ctx, level, minTXID, maxTXID, &ctxio.Reader{Ctx: ctx, R: r})
	return info, c.redact.Clean(err)
}

// DeleteLTXFiles removes files.
func (c *Client) DeleteLTXFiles(ctx context.Context, infos []*ltx.FileInfo) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return c.redact.Clean(c.client.DeleteLTXFiles(ctx, infos))
}

// DeleteAll removes all files of the prefix.
func (c *Client) DeleteAll(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return c.redact.Clean(c.client.DeleteAll(ctx))
}

// CopyLTXFile copies a file from another prefix through this process. litestream's clients
// overwrite, so the name is looked for first: the same bytes count as copied, others are
// an error that wraps fs.ErrExist. Nobody else may write to this prefix meanwhile.
func (c *Client) CopyLTXFile(ctx context.Context, from litestream.ReplicaClient, info *ltx.FileInfo) error {
	itr, err := c.LTXFiles(ctx, info.Level, info.MinTXID, false)
	if err != nil {
		return err
	}
	there := false
	for !there && itr.Next() && itr.Item().MinTXID == info.MinTXID {
		there = itr.Item().MaxTXID == info.MaxTXID
	}
	if err := errors.Join(itr.Err(), itr.Close()); err != nil {
		return err
	}
	if !there {
		return store.StreamFile(ctx, from, c, info)
	}
	same, err := store.SameFile(ctx, from, c, info)
	if err == nil && !same {
		err = fmt.Errorf("copy %s: %w", store.FileName(info), fs.ErrExist)
	}
	return err
}

type iterator struct {
	ltx.FileIterator
	redact Redactor
}

func (i *iterator) Err() error   { return i.redact.Clean(i.FileIterator.Err()) }
func (i *iterator) Close() error { return i.redact.Clean(i.FileIterator.Close()) }

// Redactor holds what no message may show. The zero value hides nothing. It is
// immutable and safe for concurrent use.
type Redactor struct {
	replacer *strings.Replacer
}

// NewRedactor hides the password of u, and the values of its query that look
// like secrets, as they are and as they are encoded in URLs.
func NewRedactor(u *url.URL) Redactor {
	var pairs []string
	hide := func(secret string) {
		if secret == "" {
			return
		}
		userinfo := strings.TrimPrefix(url.UserPassword("", secret).String(), ":")
		for _, form := range []string{secret, userinfo, url.QueryEscape(secret), url.PathEscape(secret)} {
			pairs = append(pairs, form, "…")
		}
	}
	if u.User != nil {
		password, _ := u.User.Password()
		hide(password)
	}
	for name, values := range u.Query() {
		if !isSecretName(name) {
			continue
		}
		for _, value := range values {
			hide(value)
		}
	}
	if pairs == nil {
		return Redactor{}
	}
	return Redactor{replacer: strings.NewReplacer(pairs...)}
}

func isSecretName(name string) bool {
	if name = strings.ToLower(name); name == "sig" {
		return true
	}
	for _, word := range []string{"key", "secret", "token", "password", "credential"} {
		if strings.Contains(name, word) {
			return true
		}
	}
	return false
}

// Clean returns err, or if its text has a secret, an error of the same kind
// without it.
func (r Redactor) Clean(err error) error {
	if err == nil || r.replacer == nil {
		return err
	}
	text := err.Error()
	if clean := r.replacer.Replace(text); clean != text {
		return &redactedError{text: clean, err: err}
	}
	return err
}

// redactedError answers errors.Is and errors.As for its cause. It has no
// Unwrap, so that what prints a chain does not print the secret after all.
type redactedError struct {
	text string
	err  error
}

func (e *redactedError) Error() string        { return e.text }
func (e *redactedError) Is(target error) bool { return errors.Is(e.err, target) }
func (e *redactedError) As(target any) bool   { return errors.As(e.err, target) }
