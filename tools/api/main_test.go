package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// module writes a module with the given files and returns its directory.
func module(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	files["go.mod"] = "module example.org/shop\n\ngo 1.26\n"
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestTheListingHasAllThatAnImporterCanUseAndNothingElse(t *testing.T) {
	dir := module(t, map[string]string{
		"shop.go": `package shop

import (
	"context"
	"errors"
	"io"

	"example.org/shop/internal/till"
	"example.org/shop/price"
)

const (
	Max         = 10
	Red   Color = iota
	small       = 1
)

type Color uint8

func (Color) String() string { return "" }

var ErrSold, errHidden = till.ErrSold, errors.New("hidden")

type base struct{ Shelf string }

func (*base) Move(to string) {}

type Item struct {
	base
	*price.Price
	Name   string ` + "`json:\"name\"`" + `
	hidden int
}

func (i *Item) Sell(ctx context.Context, each func(n int) error) (left int, err error) { return 0, nil }
func (i Item) Cost() price.Price { return price.Price{} }
func (i *Item) secret() {}

type Option func(*Item) error

func With(names ...string) Option { return nil }

func unseen() {}

type Buyer interface {
	io.Closer
	Buy(map[string][]Item) <-chan error
}

type Closed interface{ Buyer; seal() }

type Number interface{ ~int | ~int64 }

type Alias = price.Price

type List[T any] struct{ Items []T }

func (l *List[T]) Len() int { return 0 }

func Sum[T Number](of ...T) T { return 0 }
`,
		"shop_test.go":          "package shop\n\nfunc InATest() {}\n",
		"price/price.go":        "package price\n\ntype Price struct{ Cents int }\n",
		"internal/till/till.go": "package till\n\nimport \"errors\"\n\nvar ErrSold = errors.New(\"sold\")\n",
		"cmd/shop/main.go":      "package main\n\nfunc Exported() {}\n\nfunc main() {}\n",
	})
	got, err := list(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := `shop/price: field Price.Cents int
shop/price: type Price struct
shop: const Max untyped int = 10
shop: const Red Color = 1
shop: embedded field Item.Price *shop/price.Price
shop: field Item.Name string ` + "`json:\"name\"`" + `
shop: field Item.Shelf string
shop: field List[T any].Items []T
shop: func Sum[T Number](...T) T
shop: func With(...string) Option
shop: interface Closed has unexported methods
shop: interface Number holds only ~int | ~int64
shop: interface method Buyer.Buy(map[string][]Item) <-chan error
shop: interface method Buyer.Close() error
shop: interface method Closed.Buy(map[string][]Item) <-chan error
shop: interface method Closed.Close() error
shop: method (*Item) Move(string)
shop: method (*Item) Sell(context.Context, func(int) error) (int, error)
shop: method (*List[T any]) Len() int
shop: method (Color) String() string
shop: method (Item) Cost() shop/price.Price
shop: type Alias = shop/price.Price
shop: type Buyer interface
shop: type Closed interface
shop: type Color uint8
shop: type Item struct
shop: type List[T any] struct
shop: type Number interface
shop: type Option func(*Item) error
shop: var ErrSold error`
	if diff := compare(want, got); diff != "" {
		t.Errorf("- wanted, + listed:\n%s", diff)
	}
}

func TestAComparisonShowsWhatIsGoneChangedAndNew(t *testing.T) {
	before := "a: const Max int = 10\na: func Gone()\na: func Same()\n"
	now := []string{"a: const Max int = 11", "a: func Come()", "a: func Same()"}
	want := `- a: const Max int = 10
+ a: const Max int = 11
+ a: func Come()
- a: func Gone()
`
	if got := compare(before, now); got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
	if got := compare(strings.Join(now, "\n")+"\n", now); got != "" {
		t.Errorf("the same listing differs:\n%s", got)
	}
}

func TestCodeThatDoesNotCompileIsAnErrorAndNotAShorterListing(t *testing.T) {
	dir := module(t, map[string]string{"shop.go": "package shop\n\nfunc Sell() int { return undefined }\n"})
	if got, err := list(dir); err == nil {
		t.Errorf("no error, but %q", got)
	}
}
