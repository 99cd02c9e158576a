// Package roster keeps in the bucket which databases a cluster has, so that a node knows those of
// the shards that it takes in without listing prefixes: a page for each shard, which names the
// databases whose backups are at the replica. The prefixes decide: a page may lack a database whose
// node died within seconds of its first commit, until the next one has read that node's log
// (serving), and may name one whose erasure was cut short.
package roster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/multidb-go/multidb/internal/store"
	"github.com/multidb-go/multidb/internal/untrusted"
)

// Tenant is one database of a page.
type Tenant struct {
	ID string
	// Removed is when it was taken out of service, and EraseAfter when its backups go; zero: it
	// is in service.
	Removed, EraseAfter time.Time
}

// Page names the databases of one shard.
type Page struct {
	Shard   int
	Number  uint64   // 0: there is no page yet
	Tenants []Tenant // by ID
}

// Find returns what the page has of an ID.
func (p *Page) Find(id string) (Tenant, bool) {
	i, ok := slices.BinarySearchFunc(p.Tenants, id, func(t Tenant, id string) int { return strings.Compare(t.ID, id) })
	if !ok {
		return Tenant{}, false
	}
	return p.Tenants[i], true
}

// dir is where the pages are, in the directory of the fleet log. Pages are created and never
// changed: the one with the highest number counts, so no conditional replacement is needed. One that is
// created late, when its number is free again, is void, which whoever wrote it sees in the next listing.
const dir = "tenants/"

// Format is the version that is written. A newer one is refused.
const Format = 1

// maxPage bounds what is read of a page, in bytes: some 100,000 databases of one shard.
const maxPage = 16 << 20

func shardDir(shard int) string { return fmt.Sprintf("%s%04d/", dir, shard) }

func pageName(shard int, number uint64) string {
	return fmt.Sprintf("%s%016x", shardDir(shard), number)
}

func parseName(name string) (shard int, number uint64, ok bool) {
	rest, ok := strings.CutPrefix(name, dir)
	if !ok || len(rest) != 4+1+16 || rest[4] != '/' {
		return 0, 0, false
	}
	shard, err := strconv.Atoi(rest[:4])
	if err != nil {
		return 0, 0, false
	}
	number, err = strconv.ParseUint(rest[5:], 16, 64)
	return shard, number, err == nil && number > 0 && pageName(shard, number) == name
}

// line is a Tenant in a page. ID is where it is UTF-8, and else Raw.
type line struct {
	ID         string    `json:"id,omitempty"`
	Raw        []byte    `json:"raw,omitempty"`
	Removed    time.Time `json:"removed,omitzero"`
	EraseAfter time.Time `json:"erase_after,omitzero"`
}

type document struct {
	Format  int    `json:"format"`
	Shard   int    `json:"shard"`
	Tenants []line `json:"tenants"`
}

func (p *Page) encode() ([]byte, error) {
	doc := document{Format: Format, Shard: p.Shard, Tenants: make([]line, len(p.Tenants))}
	for i, t := range p.Tenants {
		l := line{Removed: t.Removed, EraseAfter: t.EraseAfter}
		if utf8.ValidString(t.ID) {
			l.ID = t.ID
		} else {
			l.Raw = []byte(t.ID)
		}
		doc.Tenants[i] = l
	}
	b, err := json.Marshal(doc)
	if err == nil && len(b) > maxPage {
		err = fmt.Errorf("the databases of shard %d take %d bytes by name, of %d at most: the fleet is too large for one cluster", p.Shard, len(b), maxPage)
	}
	return b, err
}

func (p *Page) decode(b []byte) error {
	var doc document
	if err := json.Unmarshal(b, &doc); err != nil {
		return fmt.Errorf("%w: %w", untrusted.ErrDamaged, err)
	}
	if doc.Format > Format {
		return fmt.Errorf("it has format %d: use a newer multidb", doc.Format)
	}
	if doc.Shard != p.Shard {
		return fmt.Errorf("%w: it is that of shard %d", untrusted.ErrDamaged, doc.Shard)
	}
	p.Tenants = make([]Tenant, 0, len(doc.Tenants))
	for _, l := range doc.Tenants {
		t := Tenant{ID: l.ID, Removed: l.Removed, EraseAfter: l.EraseAfter}
		if len(l.Raw) > 0 {
			t.ID = string(l.Raw)
		}
		if t.ID == "" {
			return fmt.Errorf("%w: it has a database without an ID", untrusted.ErrDamaged)
		}
		p.Tenants = append(p.Tenants, t)
	}
	slices.SortFunc(p.Tenants, func(a, b Tenant) int { return strings.Compare(a.ID, b.ID) })
	p.Tenants = slices.CompactFunc(p.Tenants, func(a, b Tenant) bool { return a.ID == b.ID })
	return nil
}

// newest lists the number of the newest page of each shard below a prefix, and the names of those
// that it has replaced.
func newest(ctx context.Context, objects store.Objects, prefix string) (numbers map[int]uint64, old []string, err error) {
	numbers = map[int]uint64{}
	for o, err := range objects.List(ctx, prefix, "") {
		if err != nil {
			return nil, nil, fmt.Errorf("list the pages of databases: %w", err)
		}
		shard, number, ok := parseName(o.Name)
		if !ok {
			continue // not one of ours
		}
		if was := numbers[shard]; was > 0 {
			old = append(old, pageName(shard, min(was, number)))
		}
		numbers[shard] = max(numbers[shard], number)
	}
	return numbers, old, nil
}

// errGone: a page that was listed has gone, as a newer one has replaced it.
var errGone = errors.New("a newer page has replaced it")

func open(ctx context.Context, objects store.Objects, shard int, number uint64) (*Page, error) {
	p := &Page{Shard: shard, Number: number}
	if number == 0 {
		return p, nil
	}
	name := pageName(shard, number)
	rc, err := objects.Open(ctx, name, 0, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errGone
	} else if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(rc, maxPage+1))
	if err = errors.Join(err, rc.Close()); err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if len(b) > maxPage {
		return nil, fmt.Errorf("%s: %w: it has more than %d bytes", name, untrusted.ErrDamaged, maxPage)
	}
	if err := p.decode(b); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return p, nil
}

// read returns the newest page of a shard. known is its number, if a listing has said so; 0: it is
// listed.
func read(ctx context.Context, objects store.Objects, shard int, known uint64) (p *Page, err error) {
	for range tries {
		if known == 0 {
			numbers, _, err := newest(ctx, objects, shardDir(shard))
			if err != nil {
				return nil, err
			}
			known = numbers[shard]
		}
		if p, err = open(ctx, objects, shard, known); !errors.Is(err, errGone) {
			return p, err
		}
		known = 0
	}
	return nil, fmt.Errorf("read the databases of shard %d: %w", shard, err)
}

// tries is how often a page is read, or written, that others change meanwhile.
const tries = 10

// errBusy: others wrote the page in between each time.
var errBusy = errors.New("others go on writing it")

// All reads every page, in the order of the shards, or those that want asks for by shard and number. Those that were never
// written are left out. After an error it ends.
func All(ctx context.Context, objects store.Objects, want func(shard int, number uint64) bool) iter.Seq2[*Page, error] {
	return func(yield func(*Page, error) bool) {
		numbers, _, err := newest(ctx, objects, dir)
		if err != nil {
			yield(nil, err)
			return
		}
		shards := make([]int, 0, len(numbers))
		for shard, number := range numbers {
			if want == nil || want(shard, number) {
				shards = append(shards, shard)
			}
		}
		slices.Sort(shards)
		for _, shard := range shards {
			p, err := read(ctx, objects, shard, numbers[shard])
			if !yield(p, err) || err != nil {
				return
			}
		}
	}
}
