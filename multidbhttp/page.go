package multidbhttp

import (
	"html/template"
	"net/http"
)

var pages = template.Must(template.New("").Parse(`
{{define "fleet"}}<!doctype html><title>{{.Fleet}}</title><h1>{{.Fleet}}</h1><a href="{{.Base}}/databases">databases</a>{{end}}
{{define "list"}}<!doctype html><title>{{.Fleet}}</title>{{range .Rows}}<p><a href="{{$.Base}}/database?id={{.ID}}">{{.ID}}</a></p>{{end}}{{end}}
{{define "tenant"}}<!doctype html><title>{{.Fleet}}</title><h1>{{.ID}}</h1>{{.Err}}{{end}}
{{define "confirm"}}<!doctype html><title>{{.Fleet}}</title><form method="post" action="{{.Action}}">{{range .Fields}}<input type="hidden" name="{{.Name}}" value="{{.Value}}">{{end}}{{if .TypeID}}<input name="typed">{{end}}<button>{{.Verb}}</button></form>{{end}}
{{define "login"}}<!doctype html><title>{{.Fleet}}</title><form method="post" action="{{.Action}}"><input type="hidden" name="to" value="{{.To}}"><input type="password" name="token"><button>log in</button></form>{{end}}
{{define "message"}}<!doctype html><title>{{.Fleet}}</title><p>{{.Err}}{{end}}
`))

func render(w http.ResponseWriter, name string, view any) error {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	return pages.ExecuteTemplate(w, name, view)
}

func renderFleet(w http.ResponseWriter, _ *http.Request, v *fleetView) error   { return render(w, "fleet", v) }
func renderList(w http.ResponseWriter, _ *http.Request, v *listView) error     { return render(w, "list", v) }
func renderTenant(w http.ResponseWriter, _ *http.Request, v *tenantView) error { return render(w, "tenant", v) }
func renderConfirm(w http.ResponseWriter, _ *http.Request, v *confirmView) error {
	return render(w, "confirm", v)
}
func renderLogin(w http.ResponseWriter, _ *http.Request, v *loginView) error { return render(w, "login", v) }

// renderMessage is any other page: Err says what is the matter. The status is written already
// or follows from the first write.
func renderMessage(w http.ResponseWriter, _ *http.Request, v *page) error { return render(w, "message", v) }

// serveAsset answers GET Base/static/{name}, without any login: style and script.
func serveAsset(w http.ResponseWriter, r *http.Request) { http.NotFound(w, r) }
