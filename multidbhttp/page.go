package multidbhttp

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"html/template"
	"net/http"
	"strings"
	"time"
)

//go:embed ui
var ui embed.FS

// assetTypes are the files that are served as they are.
var assetTypes = map[string]string{
	"page.css": "text/css; charset=utf-8",
	"page.js":  "text/javascript; charset=utf-8",
	"icon.svg": "image/svg+xml",
}

// shell is what the frame around every page needs.
type shell struct {
	page
	Name    string // of the template
	Refresh int    // every so many seconds the script fetches the page again; zero: never
	Bare    bool   // without links to what needs a login
	View    any
}

// pages has a set of templates for each page: the frame, and the page's own parts.
var pages = parsePages("fleet", "list", "tenant", "confirm", "login", "message")

func parsePages(names ...string) map[string]*template.Template {
	frame := template.Must(template.New("").Funcs(words).ParseFS(ui, "ui/frame.html", "ui/parts.html"))
	all := make(map[string]*template.Template, len(names))
	for _, name := range names {
		all[name] = template.Must(template.Must(frame.Clone()).ParseFS(ui, "ui/"+name+".html"))
	}
	return all
}

// render writes a page, whole or not at all.
func render(w http.ResponseWriter, s shell) error {
	if s.Now.IsZero() {
		s.Now = time.Now()
	}
	var out bytes.Buffer
	if err := pages[s.Name].ExecuteTemplate(&out, "frame", s); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, err := w.Write(out.Bytes())
	return err
}

func renderFleet(w http.ResponseWriter, _ *http.Request, v *fleetView) error {
	return render(w, shell{page: v.page, Name: "fleet", Refresh: 5, View: v})
}

// renderList refreshes less often, since each time all databases are looked at.
func renderList(w http.ResponseWriter, _ *http.Request, v *listView) error {
	return render(w, shell{page: v.page, Name: "list", Refresh: 15, View: v})
}

func renderTenant(w http.ResponseWriter, _ *http.Request, v *tenantView) error {
	return render(w, shell{page: v.page, Name: "tenant", Refresh: 5, View: v})
}

func renderConfirm(w http.ResponseWriter, _ *http.Request, v *confirmView) error {
	return render(w, shell{page: v.page, Name: "confirm", View: v})
}

func renderLogin(w http.ResponseWriter, _ *http.Request, v *loginView) error {
	return render(w, shell{page: v.page, Name: "login", Bare: true, View: v})
}

// renderMessage is any other page: Err says what is the matter. The status is written already
// or follows from the first write.
func renderMessage(w http.ResponseWriter, _ *http.Request, v *page) error {
	return render(w, shell{page: *v, Name: "message", View: v})
}

// serveAsset answers GET Base/static/{name}, without any login: style and script.
func serveAsset(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	kind, ok := assetTypes[name]
	if !ok {
		http.NotFound(w, r)
		return
	}
	text, err := ui.ReadFile("ui/" + name)
	if err != nil {
		http.NotFound(w, r)
		return
	}
	h := w.Header()
	h.Set("Content-Type", kind)
	h.Set("Cache-Control", "no-cache") // a browser asks, and gets 304 as long as it is the same
	h.Set("ETag", `"`+tag(text)+`"`)
	http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(text))
}

func tag(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8])
}

// words are the functions of the templates: how values are written.
var words = template.FuncMap{
	"number": number[int64], "count": number[int], "size": size, "span": span, "dollars": dollars,
	"ago": ago, "exact": exact, "stamp": stamp, "clock": clock, "short": short, "name": name,
	"plural": plural, "percent": percent, "verb": verbWords, "state": stateOf, "title": titleOf,
	"history": chartOf, "line": lineOf, "tiers": tiersOf, "lower": strings.ToLower,
	"tierNames": func() []string { return []string{"hot", "warm", "cold"} },
	"add":       func(a, b int) int { return a + b },
}
