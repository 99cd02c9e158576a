package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"
	"unicode"
)

// jsonFlag is -json: on, off, or depending on whether standard output is a terminal.
type jsonFlag struct{ set, on bool }

func addJSON(fs *flag.FlagSet) *jsonFlag {
	f := &jsonFlag{}
	fs.Var(f, "json", "write JSON, one object a line; -json=false: a table. Default: JSON unless standard output is a terminal")
	return f
}

func (f *jsonFlag) String() string {
	if f == nil || !f.set {
		return "auto"
	}
	return strconv.FormatBool(f.on)
}

func (f *jsonFlag) Set(s string) (err error) {
	f.set = true
	f.on, err = strconv.ParseBool(s)
	return err
}

func (f *jsonFlag) IsBoolFlag() bool { return true }

func (f *jsonFlag) use(w io.Writer) bool {
	if f.set {
		return f.on
	}
	return !isTerminal(w)
}

// output is standard output. Its errors tell a reader that has gone, which is no failure,
// from a connection that breaks elsewhere, which is the same error of the system.
type output struct{ f *os.File }

// errReaderGone says that nobody reads standard output any more, as after | head.
var errReaderGone = errors.New("the reader of standard output has gone")

func (o output) Write(b []byte) (int, error) {
	n, err := o.f.Write(b)
	if errors.Is(err, syscall.EPIPE) {
		err = fmt.Errorf("%w: %w", errReaderGone, err)
	}
	return n, err
}

func (o output) Stat() (os.FileInfo, error) { return o.f.Stat() }
func (o output) Fd() uintptr                { return o.f.Fd() }

// file is what an output to a file or a device has.
type file interface {
	Stat() (os.FileInfo, error)
	Fd() uintptr
}

func isTerminal(w any) bool {
	f, ok := w.(file)
	if !ok {
		return false
	}
	info, err := f.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return false
	}
	null, err := os.Stat(os.DevNull) // a device, too, by whatever name it was opened
	return err != nil || !os.SameFile(info, null)
}

// rows is a result of many lines: a table, or JSON as it comes.
type rows struct {
	w     *bufio.Writer
	table *tabwriter.Writer // nil: JSON
	enc   *json.Encoder
}

func newRows(w io.Writer, asJSON bool, header ...string) *rows {
	r := &rows{w: bufio.NewWriter(w)}
	if asJSON {
		r.enc = json.NewEncoder(r.w)
		return r
	}
	r.table = tabwriter.NewWriter(r.w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(r.table, strings.Join(header, "\t")) // the table's errors come with Flush
	return r
}

// add writes v as JSON, or cells in the table. It fails when the reader is gone.
func (r *rows) add(v any, cells ...string) error {
	if r.table == nil {
		return r.enc.Encode(v)
	}
	_, err := fmt.Fprintln(r.table, strings.Join(cells, "\t"))
	return err
}

func (r *rows) end() error {
	var err error
	if r.table != nil {
		err = r.table.Flush()
	}
	return errors.Join(err, r.w.Flush())
}

// show makes a name safe for a terminal: whoever names a tenant must not be able to
// send escape sequences to the operator's terminal.
func show(s string) string {
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) || r == unicode.ReplacementChar }) < 0 {
		return s
	}
	return strconv.Quote(s)
}

func showTime(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Local().Format("2006-01-02 15:04:05")
}

func showDuration(d time.Duration) string {
	switch {
	case d == 0:
		return "-"
	case d >= time.Minute:
		return d.Round(time.Second).String()
	case d >= time.Second:
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Millisecond).String()
}

func showBytes(n int64) string {
	if n < 1024 {
		return strconv.FormatInt(n, 10) + " B"
	}
	f, units := float64(n), "KMGTPE"
	for f >= 1024 && units != "" {
		f /= 1024
		if f < 1024 || len(units) == 1 {
			break
		}
		units = units[1:]
	}
	return fmt.Sprintf("%.1f %ciB", f, units[0])
}
