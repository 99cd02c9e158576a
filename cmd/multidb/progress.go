package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// progress reports on standard error how far long work has come: on a terminal in
// one line that changes, elsewhere in a new line now and then. Safe for concurrent
// use.
type progress struct {
	done, total atomic.Int64 // number of items; total 0: not known
	bytes       func() int64 // read so far; nil: not counted
	size        int64        // bytes to be read, of one database; 0: the number of items is shown

	what  string
	begin time.Time

	mu    sync.Mutex
	w     io.Writer
	tty   bool
	width int // of the line on the terminal

	ended  chan struct{}
	joined sync.WaitGroup
}

const (
	progressOnTerminal = 200 * time.Millisecond
	progressElsewhere  = 10 * time.Second
)

// newProgress shows the progress until end is called.
func newProgress(w io.Writer, quiet bool, what string, bytes func() int64) *progress {
	return showProgress(&progress{w: w, what: what, bytes: bytes}, quiet)
}

func showProgress(p *progress, quiet bool) *progress {
	p.tty, p.begin, p.ended = isTerminal(p.w), time.Now(), make(chan struct{})
	if quiet {
		return p
	}
	every := progressElsewhere
	if p.tty {
		every = progressOnTerminal
	}
	p.joined.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				p.show(p.line(time.Now()))
			case <-p.ended:
				return
			}
		}
	})
	return p
}

// rates are how many of what, and how many bytes, a second.
func (p *progress) rates(now time.Time) (each, bytes float64) {
	seconds := now.Sub(p.begin).Seconds()
	if seconds <= 0 {
		return 0, 0
	}
	each = float64(p.done.Load()) / seconds
	if p.bytes != nil {
		bytes = float64(p.bytes()) / seconds
	}
	return each, bytes
}

func (p *progress) line(now time.Time) string {
	if p.size > 0 && p.bytes != nil {
		return p.sizeLine(now)
	}
	done, total := p.done.Load(), p.total.Load()
	each, bytes := p.rates(now)
	s := fmt.Sprintf("%s: %d", p.what, done)
	if total > 0 {
		s = fmt.Sprintf("%s: %s", p.what, p.part(strconv.FormatInt(done, 10), strconv.FormatInt(total, 10), done, total))
	}
	s += fmt.Sprintf(", %.1f/s", each)
	if p.bytes != nil {
		s += fmt.Sprintf(", %s/s", showBytes(int64(bytes)))
	}
	if total > done && each > 0 {
		s += ", " + time.Duration(float64(total-done)/each*float64(time.Second)).Round(time.Second).String() + " left"
	}
	return s
}

func (p *progress) sizeLine(now time.Time) string {
	_, rate := p.rates(now)
	read := min(p.bytes(), p.size)
	s := fmt.Sprintf("%s: %s, %s/s", p.what, p.part(showBytes(read), showBytes(p.size), read, p.size), showBytes(int64(rate)))
	if read < p.size && rate > 0 {
		s += ", " + time.Duration(float64(p.size-read)/rate*float64(time.Second)).Round(time.Second).String() + " left"
	}
	return s
}

// part says how much of all is done: with a bar on a terminal.
func (p *progress) part(done, total string, n, of int64) string {
	if !p.tty {
		return fmt.Sprintf("%s of %s (%d%%)", done, total, 100*n/of)
	}
	const width = 12
	full := int(width * min(n, of) / of)
	return fmt.Sprintf("[%s%s] %s of %s", strings.Repeat("#", full), strings.Repeat("-", width-full), done, total)
}

func (p *progress) show(line string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	// Errors of writing to standard error are ignored: there is no place to report them.
	if !p.tty {
		_, _ = fmt.Fprintln(p.w, line)
		return
	}
	_, _ = fmt.Fprintf(p.w, "\r%-*s", p.width, line)
	p.width = len(line)
}

// say writes a separate line.
func (p *progress) say(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clearLocked()
	_, _ = fmt.Fprintf(p.w, format+"\n", args...)
}

func (p *progress) clearLocked() {
	if p.tty && p.width > 0 {
		_, _ = fmt.Fprintf(p.w, "\r%*s\r", p.width, "")
		p.width = 0
	}
}

// end stops the progress and clears its line on a terminal.
func (p *progress) end() {
	close(p.ended)
	p.joined.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clearLocked()
}
