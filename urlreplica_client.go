package multidb

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/url"
	"strings"

	"github.com/benbjohnson/litestream"
	"github.com/multidb-go/multidb/internal/ctxio"
	"github.com/superfly/ltx"
)

var _ litestream.ReplicaClient = (*urlClient)(nil)

// urlClient is a client of litestream's that ends with its context, as not all
// of them do, and whose errors do not show the secrets of its URL.
type urlClient struct {
	client litestream.ReplicaClient
	redact redactor
}

func (c *urlClient) Type() string { return c.client.Type() }

// SetLogger sets the logger of litestream's client. Unlike the other methods it
// must come before the first use.
func (c *urlClient) SetLogger(logger *slog.Logger) { c.client.SetLogger(logger) }

func (c *urlClient) Init(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return c.redact.error(c.client.Init(ctx))
}

func (c *urlClient) LTXFiles(ctx context.Context, level int, seek ltx.TXID, useMetadata bool) (ltx.FileIterator, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	itr, err := c.client.LTXFiles(ctx, level, seek, useMetadata)
	if err != nil {
		return nil, c.redact.error(err)
	}
	return &urlIterator{FileIterator: itr, redact: c.redact}, nil
}

func (c *urlClient) OpenLTXFile(ctx context.Context, level int, minTXID, maxTXID ltx.TXID, offset, size int64) (io.ReadCloser, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	rc, err := c.client.OpenLTXFile(ctx, level, minTXID, maxTXID, offset, size)
	if err != nil {
		return nil, c.redact.error(err)
	}
	return &ctxio.Reader{Ctx: ctx, R: rc, C: rc}, nil
}

func (c *urlClient) WriteLTXFile(ctx context.Context, level int, minTXID, maxTXID ltx.TXID, r io.Reader) (*ltx.FileInfo, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	info, err := c.client.WriteLTXFile(ctx, level, minTXID, maxTXID, &ctxio.Reader{Ctx: ctx, R: r})
	return info, c.redact.error(err)
}

func (c *urlClient) DeleteLTXFiles(ctx context.Context, infos []*ltx.FileInfo) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return c.redact.error(c.client.DeleteLTXFiles(ctx, infos))
}

func (c *urlClient) DeleteAll(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return c.redact.error(c.client.DeleteAll(ctx))
}

type urlIterator struct {
	ltx.FileIterator
	redact redactor
}

func (i *urlIterator) Err() error   { return i.redact.error(i.FileIterator.Err()) }
func (i *urlIterator) Close() error { return i.redact.error(i.FileIterator.Close()) }

// redactor holds what no message may show. The zero value hides nothing.
type redactor struct {
	replacer *strings.Replacer
}

// newRedactor hides the password of u, and the values of its query that look
// like secrets, as they are and as they are encoded in URLs.
func newRedactor(u *url.URL) redactor {
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
		return redactor{}
	}
	return redactor{replacer: strings.NewReplacer(pairs...)}
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

// error returns err, or if its text has a secret, an error of the same kind
// without it.
func (r redactor) error(err error) error {
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
