package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// terminal is what a command writes to a pseudo terminal.
type terminal struct {
	t      *testing.T
	master *os.File
	slave  *os.File

	mu   sync.Mutex
	said bytes.Buffer
	more chan struct{}
	done chan struct{} // closed when nobody can write any more
}

func newTerminal(t *testing.T) *terminal {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skip(err)
	}
	var unlock, number int32
	for _, c := range []struct {
		request uintptr
		arg     *int32
	}{{syscall.TIOCSPTLCK, &unlock}, {syscall.TIOCGPTN, &number}} {
		if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, master.Fd(), c.request, uintptr(unsafe.Pointer(c.arg))); errno != 0 {
			t.Fatal(errors.Join(errno, master.Close()))
		}
	}
	slave, err := os.OpenFile(fmt.Sprint("/dev/pts/", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(errors.Join(err, master.Close()))
	}
	term := &terminal{t: t, master: master, slave: slave, more: make(chan struct{}), done: make(chan struct{})}
	go term.read()
	t.Cleanup(func() {
		term.hangUp()
		if err := master.Close(); err != nil {
			t.Error(err)
		}
	})
	return term
}

func (term *terminal) read() {
	defer close(term.done)
	b := make([]byte, 4096)
	for {
		n, err := term.master.Read(b)
		term.mu.Lock()
		term.said.Write(b[:n])
		close(term.more)
		term.more = make(chan struct{})
		term.mu.Unlock()
		if err != nil { // EIO: the other side is closed
			return
		}
	}
}

// hangUp closes our copy of the other side and returns what was said.
func (term *terminal) hangUp() string {
	_ = term.slave.Close() // a second time
	<-term.done
	return term.said.String()
}

func (term *terminal) await(text string) {
	term.t.Helper()
	late := time.NewTimer(patience)
	defer late.Stop()
	for {
		term.mu.Lock()
		said, more := term.said.String(), term.more
		term.mu.Unlock()
		if strings.Contains(said, text) {
			return
		}
		select {
		case <-more:
		case <-late.C:
			term.t.Fatalf("the terminal never said %q: %q", text, said)
		}
	}
}

func TestOnATerminalThereAreTablesAndElsewhereJSON(t *testing.T) {
	f := newFleet(t, 1, 3)
	replica := newDir(t, f)
	for line, header := range map[string]string{
		"ls -path " + template:                          "ID ",
		"snapshots -path " + template + " project0/db0": "LEVEL ",
		"status": "process ",
		"restore project0/db0 -o " + filepath.Join(t.TempDir(), "out.db"): "restored project0/db0 to ",
		"verify": "3 restore, 0 do not",
	} {
		term := newTerminal(t)
		p := invoke(t, nil, append(strings.Fields(line), "-dir", replica)...)
		p.cmd.Stdout = term.slave
		p.start().want(0)
		if said := term.hangUp(); !strings.Contains(said, header) || strings.HasPrefix(said, "{") {
			t.Errorf("%s: %q", line, said)
		}
	}
	if p := invoke(t, nil, "ls", "-dir", replica).start().want(0); !strings.HasPrefix(p.stdout.String(), "{") {
		t.Errorf("elsewhere: %s", &p.stdout)
	}
}

// resize sets how many lines and columns the terminal has.
func (term *terminal) resize(rows, columns uint16) {
	term.t.Helper()
	if err := unix.IoctlSetWinsize(int(term.master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: columns}); err != nil {
		term.t.Fatal(err)
	}
}

// drawn are the lines that a redrawn screen has, as far as it was written.
func drawn(said string) [][]string {
	var screens [][]string
	for _, screen := range strings.Split(said, cursorHome)[1:] {
		text := strings.NewReplacer(clearLine, "", clearBelow, "", "\r", "").Replace(screen)
		screens = append(screens, strings.Split(strings.TrimRight(text, "\n"), "\n"))
	}
	return screens
}

func TestTheProgressFitsANarrowTerminal(t *testing.T) {
	f, s := newFleet(t, 2, 5), newStore(t)
	f.ship(t, s.replica(t))
	for _, columns := range []uint16{40, 20} {
		free := make(chan struct{})
		s.setHold(func(_ http.ResponseWriter, r *http.Request) bool {
			if strings.Contains(r.URL.Path, "/project1/") && strings.HasSuffix(r.URL.Path, ".ltx") {
				<-free
			}
			return true
		})
		term := newTerminal(t)
		term.resize(24, columns)
		p := invoke(t, s.env, "verify", "-bucket", "fleet", "-path", template)
		p.cmd.Stderr = term.slave
		p.start()
		term.await("5 of 10")
		close(free)
		if code := p.wait(); code != 0 {
			t.Errorf("exit code %d", code)
		}
		for _, line := range strings.FieldsFunc(term.hangUp(), func(r rune) bool { return r == '\r' || r == '\n' }) {
			if n := cells(line); n >= int(columns) && !strings.HasPrefix(line, "10 restore") { // which is the result
				t.Errorf("%d columns of %d: %q", n, columns, line)
			}
		}
	}
}

func TestAWatchedListIsRedrawnInItsPlaceAndFitsTheTerminal(t *testing.T) {
	f := newFleet(t, 1, 12)
	cfg := f.running(t, "")
	term := newTerminal(t)
	term.resize(30, 120)
	p := invoke(t, []string{"TERM=xterm"}, "ls", "-watch=100ms", "-config", cfg)
	p.cmd.Stdout = term.slave
	p.start()
	term.await("project0/db9 ")
	term.await("project0/db0   hot   0000000000000001") // what is written now is another transaction
	write(t, f.path(f.ids[0]), "INSERT INTO t (v) VALUES ('more')")
	term.await("0000000000000002") // it is seen
	term.resize(8, 30)
	p.signal(syscall.SIGWINCH)
	term.await("… and ")
	p.signal(syscall.SIGINT)
	p.want(130, "interrupted")
	said := term.hangUp()
	screens := drawn(said)
	first, last := screens[0], screens[len(screens)-1]
	if len(first) != 2+1+12 || !strings.HasPrefix(first[2], "ID ") || !strings.Contains(first[0], "every 100ms") {
		t.Errorf("the first: %q", first)
	}
	if len(last) != 7 || last[6] != "… and 9 more" {
		t.Errorf("in 8 lines: %q", last)
	}
	for _, line := range last {
		if cells(line) >= 30 {
			t.Errorf("in 30 columns: %q", line)
		}
	}
	for _, mode := range []string{"\x1b[?", "\x1b7", "\x1b[r"} { // none is set, so none is left
		if strings.Contains(said, mode) {
			t.Errorf("it says %q to the terminal", mode)
		}
	}
	if !strings.HasSuffix(said, "\n"+clearBelow) {
		t.Errorf("it ends with %q", said[len(said)-20:])
	}
}

func TestATerminalGetsNoDatabase(t *testing.T) {
	f := newFleet(t, 1, 1)
	replica, tmp := newDir(t, f), t.TempDir()
	term := newTerminal(t)
	p := invoke(t, nil, "restore", "project0/db0", "-dir", replica, "-o", "-", "-tmp", tmp)
	p.cmd.Stdout = term.slave
	p.start().want(2, "> FILE")
	if said := term.hangUp(); said != "" {
		t.Errorf("it got %q", said)
	}
}

func TestLongWorkShowsABarOnATerminalAndLeavesNothingOfIt(t *testing.T) {
	f, s := newFleet(t, 2, 5), newStore(t)
	f.ship(t, s.replica(t))
	free := make(chan struct{})
	s.setHold(func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, "/project1/") && strings.HasSuffix(r.URL.Path, ".ltx") {
			<-free
		}
		return true
	})
	term := newTerminal(t)
	p := invoke(t, s.env, "restore-all", "-bucket", "fleet", "-path", template, "-o", t.TempDir())
	p.cmd.Stderr = term.slave
	p.start()
	term.await("restored: [######------] 5 of 10, ")
	close(free)
	if code := p.wait(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	said := term.hangUp()
	if rest := said[strings.LastIndex(said, "\r"):]; strings.Contains(rest, "#") {
		t.Errorf("a bar stays: %q", said)
	}
}

func TestATerminalIsAskedToTypeWhatIsErased(t *testing.T) {
	f := newFleet(t, 1, 2)
	cfg := f.running(t, "")
	id := string(f.ids[0])
	for _, typed := range []string{"yes", "", id} {
		term := newTerminal(t)
		p := invoke(t, nil, "erase", id, "-config", cfg)
		p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = term.slave, term.slave, term.slave
		p.start()
		term.await("type " + id)
		if _, err := io.WriteString(term.master, typed+"\n"); err != nil {
			t.Fatal(err)
		}
		code := 1
		if typed == id {
			code = 0
		}
		p.want(code)
		if said := term.hangUp(); exists(f.path(f.ids[0])) != (code != 0) || (code == 0) != strings.Contains(said, "erased: ") {
			t.Errorf("%q: it says %q", typed, said)
		}
	}
}
