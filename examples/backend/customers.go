package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"regexp"
	"time"

	"github.com/multidb-go/multidb"
)

// customers serves the product itself. Who may ask for which customer is decided in front of
// it, by what your users log in with.
type customers struct{ m *multidb.Manager }

// names are what a customer may be called: it becomes a file name, and a path in the bucket.
var names = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,39}$`)

func (c customers) signup(r *http.Request) (status int, answer any, err error) {
	in, err := body[struct{ Name, Email string }](r)
	if err != nil {
		return 0, nil, err
	}
	if !names.MatchString(in.Name) || in.Email == "" {
		return 0, nil, problem{http.StatusBadRequest, "want a name of a-z, 0-9 and -, and an email"}
	}
	id := multidb.ID(in.Name)
	// Do makes the database, or brings it back. Its one account decides who came first, and
	// a signup that was cut off halfway can be done again.
	err = c.m.Do(r.Context(), id, func(db *sql.DB) error {
		result, err := db.ExecContext(r.Context(), "INSERT INTO account(id, email) VALUES(1, ?) ON CONFLICT DO NOTHING", in.Email)
		if err != nil {
			return err
		}
		if n, err := result.RowsAffected(); err != nil || n == 0 {
			return errors.Join(err, problem{http.StatusConflict, "there is a customer of that name"})
		}
		return nil
	})
	if err == nil {
		_, err = c.m.Sync(r.Context(), id)
	}
	return http.StatusCreated, map[string]string{"name": in.Name}, err
}

// payment is money, so it is confirmed when the backup has it, and not before. Its key makes
// it safe to send again: after an error the caller does not know whether it was taken.
type payment struct {
	Key   string `json:"key"`
	Cents int64  `json:"cents"`
	At    string `json:"at"`
}

func (c customers) pay(r *http.Request) (status int, answer any, err error) {
	p, err := body[payment](r)
	if err != nil {
		return 0, nil, err
	}
	if p.Key == "" || p.Cents <= 0 {
		return 0, nil, problem{http.StatusBadRequest, "want a key of your own for this payment, and cents above zero"}
	}
	id := multidb.ID(r.PathValue("customer"))
	err = c.with(r.Context(), id, func(db *sql.DB) error {
		_, err := db.ExecContext(r.Context(), "INSERT INTO payment(key, cents) VALUES(?, ?) ON CONFLICT(key) DO NOTHING", p.Key, p.Cents)
		if err != nil {
			return err
		}
		var cents int64
		if err := db.QueryRowContext(r.Context(), "SELECT cents, at FROM payment WHERE key = ?", p.Key).Scan(&cents, &p.At); err != nil {
			return err
		}
		if cents != p.Cents {
			return problem{http.StatusConflict, fmt.Sprintf("this key has paid %d cents", cents)}
		}
		return nil
	})
	if err != nil {
		return 0, nil, err
	}
	if _, err := c.m.Sync(r.Context(), id); err != nil {
		slog.Error("backend: a payment is not at the backup yet", "customer", id, "err", err)
		return 0, nil, problem{http.StatusServiceUnavailable, "not confirmed yet: send it again with the same key"}
	}
	return http.StatusCreated, p, nil
}

func (c customers) payments(r *http.Request) (status int, answer any, err error) {
	all := []payment{}
	err = c.with(r.Context(), multidb.ID(r.PathValue("customer")), func(db *sql.DB) (err error) {
		rows, err := db.QueryContext(r.Context(), "SELECT key, cents, at FROM payment ORDER BY at, key LIMIT 1000")
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, rows.Close()) }()
		for rows.Next() {
			var p payment
			if err := rows.Scan(&p.Key, &p.Cents, &p.At); err != nil {
				return err
			}
			all = append(all, p)
		}
		return rows.Err()
	})
	return http.StatusOK, all, err
}

// with calls fn with the database of a customer who has signed up. A mistyped name makes none.
func (c customers) with(ctx context.Context, id multidb.ID, fn func(*sql.DB) error) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second) // for a place in the pool
	defer cancel()
	h, err := c.m.AcquireExisting(ctx, id)
	if err != nil {
		return err
	}
	defer h.Release()
	return fn(h.DB())
}

// problem is an error that is the caller's to read.
type problem struct {
	status int
	text   string
}

func (p problem) Error() string { return p.text }

// handler returns what to answer, or why not.
type handler func(*http.Request) (status int, answer any, err error)

func (h handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	status, answer, err := h(r)
	if err != nil {
		p := explain(err)
		status, answer = p.status, map[string]string{"error": p.text}
	}
	if status >= http.StatusInternalServerError {
		slog.Error("backend: a request failed", "method", r.Method, "path", r.URL.Path, "err", err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(answer) // who does not read it has gone
}

// explain is what a caller may know of an error; the rest is for the log.
func explain(err error) (p problem) {
	switch {
	case errors.As(err, &p):
		return p
	case errors.Is(err, multidb.ErrNotFound), errors.Is(err, multidb.ErrNoBackup):
		return problem{http.StatusNotFound, "there is no such customer"}
	case errors.Is(err, multidb.ErrRemoved):
		return problem{http.StatusGone, "this customer was removed"}
	case errors.Is(err, multidb.ErrClosed), errors.Is(err, context.DeadlineExceeded):
		return problem{http.StatusServiceUnavailable, "busy, or about to stop: try again"}
	}
	return problem{http.StatusInternalServerError, "it failed here"}
}

func body[T any](r *http.Request) (v T, err error) {
	if err := json.NewDecoder(io.LimitReader(r.Body, 64<<10)).Decode(&v); err != nil {
		return v, problem{http.StatusBadRequest, "want JSON: " + err.Error()}
	}
	return v, nil
}
