package main

import (
	"fmt"
	"io"
	"math"
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
				p.show(p.line(time.Now(), p.most()))
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

// line says how far it is, in so many columns at most. What is least worth goes first.
func (p *progress) line(now time.Time, most int) string {
	short, bar, rest := p.state(now)
	for ; ; rest = rest[1:] {
		if s := p.what + ": " + bar + strings.Join(append([]string{short}, rest...), ", "); cells(s) <= most {
			return s
		} else if len(rest) == 0 {
			break
		}
	}
	s := ": " + short
	if room := most - cells(s); room > 0 {
		return cut(p.what, room) + s
	}
	return cut(short, most)
}

// state is how far it is: in a few words, as a bar on a terminal, and what else there is to
// say of it, the least first.
func (p *progress) state(now time.Time) (short, bar string, rest []string) {
	each, bytes := p.rates(now)
	n, of, rate := p.done.Load(), p.total.Load(), each
	short = strconv.FormatInt(n, 10)
	if p.size > 0 && p.bytes != nil {
		n, of, rate = min(p.bytes(), p.size), p.size, bytes
		short, bar = p.part(showBytes(n), showBytes(of), n, of)
	} else {
		if of > 0 {
			short, bar = p.part(short, strconv.FormatInt(of, 10), n, of)
		}
		rest = append(rest, fmt.Sprintf("%.1f/s", each))
	}
	if p.bytes != nil {
		rest = append(rest, showBytes(int64(bytes))+"/s")
	}
	if of > n && rate > 0 {
		rest = append(rest, time.Duration(float64(of-n)/rate*float64(time.Second)).Round(time.Second).String()+" left")
	}
	return short, bar, rest
}

// part says how much of all is done: with a bar on a terminal.
func (p *progress) part(done, total string, n, of int64) (short, bar string) {
	if !p.tty {
		return fmt.Sprintf("%s of %s (%d%%)", done, total, 100*n/of), ""
	}
	const width = 12
	full := int(width * min(n, of) / of)
	return done + " of " + total, "[" + strings.Repeat("#", full) + strings.Repeat("-", width-full) + "] "
}

// most is how long the line may be: one column less than there are, since some terminals
// begin a new line when the last one is written to.
func (p *progress) most() int {
	if !p.tty {
		return math.MaxInt
	}
	return columns(p.w) - 1
}

func (p *progress) show(line string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	// Errors of writing to standard error are ignored: there is no place to report them.
	if !p.tty {
		_, _ = fmt.Fprintln(p.w, line)
		return
	}
	is := cells(line)
	// The terminal may be narrower now than the line that stands there was long.
	_, _ = fmt.Fprint(p.w, "\r", line, strings.Repeat(" ", max(0, min(p.width, p.most())-is)))
	p.width = is
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
		_, _ = fmt.Fprintf(p.w, "\r%*s\r", max(0, min(p.width, p.most())), "")
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
