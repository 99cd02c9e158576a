// Command otherlib is a writer for the torture tests: another SQLite library, in
// C, than the one that multidb links. Like the sqlite3 command it opens the
// database that its argument names, runs the statements of each line of its
// standard input, says what was refused, and goes on. `.open` closes the
// connection and opens another.
package main

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"

	_ "github.com/mattn/go-sqlite3"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: otherlib DATABASE")
		os.Exit(2)
	}
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "otherlib:", err)
		os.Exit(1)
	}
}

func run(path string) (err error) {
	db, err := open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		if line := lines.Text(); line != ".open" {
			say(exec(db, line))
			continue
		}
		say(db.Close())
		if db, err = open(path); err != nil {
			return err
		}
	}
	return lines.Err()
}

func say(err error) {
	if err != nil {
		fmt.Println("Error:", err)
	}
}

func open(path string) (*sql.DB, error) {
	u := url.URL{Scheme: "file", OmitHost: true, Path: path, RawQuery: "_busy_timeout=10000"}
	db, err := sql.Open("sqlite3", u.String())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1) // what a line sets holds for the next
	return db, nil
}

// exec runs the statements of a line up to the first that is refused. Rows are
// read and thrown away.
func exec(db *sql.DB, line string) error {
	if !strings.HasPrefix(line, "SELECT") {
		_, err := db.ExecContext(context.Background(), line)
		return err
	}
	rows, err := db.QueryContext(context.Background(), line)
	if err != nil {
		return err
	}
	for rows.Next() {
	}
	return errors.Join(rows.Err(), rows.Close())
}
