package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

const (
	watchDefault = 2 * time.Second
	watchLeast   = 100 * time.Millisecond
)

// watchFlag is -watch, with or without how often; 0: it was not given.
type watchFlag time.Duration

func (f *watchFlag) String() string {
	if f == nil || *f == 0 {
		return "false"
	}
	return time.Duration(*f).String()
}

func (f *watchFlag) Set(s string) error {
	if s == "true" { // without a value
		s = watchDefault.String()
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < watchLeast {
		return fmt.Errorf("want -watch, or how often as in -watch=5s, %v or more", watchLeast)
	}
	*f = watchFlag(d)
	return nil
}

func (f *watchFlag) IsBoolFlag() bool { return true }

// repeat shows what draw writes again and again, until it fails or ctx ends: on a terminal in
// the same place, elsewhere one after the other, and as JSON in one document each. It sets no
// mode of the terminal, so that there is none to set back.
func (f *watchFlag) repeat(ctx context.Context, e *env, asJSON bool, draw func(*env) error) error {
	s := &screen{w: e.stdout, title: fmt.Sprintf("every %v, until Ctrl-C", time.Duration(*f))}
	show := s.append
	switch {
	case asJSON:
		show = s.document
	case isTerminal(e.stdout) && e.getenv("TERM") != "dumb":
		show = s.redraw
	}
	resized := make(chan os.Signal, 1)
	signal.Notify(resized, syscall.SIGWINCH)
	defer signal.Stop(resized)
	tick := time.NewTicker(time.Duration(*f))
	defer tick.Stop()
	for {
		var text bytes.Buffer
		to := *e
		to.stdout = &text
		if err := draw(&to); err != nil {
			return err
		}
		if err := show(text.String(), time.Now()); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-resized:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// screen shows a text that changes.
type screen struct {
	w     io.Writer
	title string
	wide  int // when it was last drawn
	high  int
}

// What a terminal is told: go to its upper left corner, clear the rest of the line, and
// everything from here on.
const (
	cursorHome = "\x1b[H"
	clearLine  = "\x1b[K"
	clearBelow = "\x1b[J"
)

// redraw writes the text over the one before, cut to what the terminal has room for.
func (s *screen) redraw(text string, now time.Time) error {
	wide, high := columns(s.w), lines(s.w)
	all := strings.Split(strings.TrimRight(text, "\n"), "\n")
	all = append([]string{showTime(now) + ", " + s.title, ""}, all...)
	if most := high - 1; high > 0 && len(all) > most { // the last line is for the cursor
		left := len(all) - max(most-1, 0)
		all = append(all[:max(most-1, 0)], fmt.Sprintf("… and %d more", left))
	}
	b := bytes.NewBufferString(cursorHome)
	if wide != s.wide || high != s.high { // what stands there was wrapped by the terminal
		b.WriteString(clearBelow)
		s.wide, s.high = wide, high
	}
	for _, line := range all {
		b.WriteString(cut(line, wide-1) + clearLine + "\n")
	}
	b.WriteString(clearBelow)
	_, err := s.w.Write(b.Bytes())
	return err
}

// append writes the text below the one before.
func (s *screen) append(text string, now time.Time) error {
	_, err := fmt.Fprintf(s.w, "%s\n%s\n", showTime(now), text)
	return err
}

// document writes the lines of JSON as one.
func (s *screen) document(text string, now time.Time) error {
	v := struct {
		Time      time.Time         `json:"time"`
		Databases []json.RawMessage `json:"databases"`
	}{Time: now.UTC(), Databases: []json.RawMessage{}}
	for line := range strings.Lines(text) {
		v.Databases = append(v.Databases, json.RawMessage(line))
	}
	return json.NewEncoder(s.w).Encode(v)
}
