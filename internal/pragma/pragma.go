// Package pragma says which of SQLite's pragmas an application may set on its connections,
// and to what. A pragma that SQLite does not know it ignores, and a value that it does not
// know it takes for another one; here both are errors. The package is pure.
package pragma

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/multidb-go/multidb/internal/nearest"
)

// Pragma is one setting of a connection. Its fields have no text but that of this package,
// and whole numbers.
type Pragma struct{ Name, Value string }

// SQL is the statement that sets it.
func (p Pragma) SQL() string { return "PRAGMA " + p.Name + "=" + p.Value }

// values is what a pragma may be set to.
type values struct {
	words    []string // in small letters
	numbers  bool     // whole numbers, too
	min, max int64
}

var (
	boolean = values{words: []string{"on", "off", "true", "false", "yes", "no", "1", "0"}}
	count   = values{numbers: true, max: math.MaxInt32}
)

// allowed has the pragmas that are of one connection, and that change neither the file nor
// its log, nor what a check of a restored database can understand.
var allowed = map[string]values{
	"analysis_limit":            count,
	"automatic_index":           boolean,
	"cache_size":                {numbers: true, min: math.MinInt32, max: math.MaxInt32},
	"cache_spill":               {words: boolean.words, numbers: true, max: math.MaxInt32},
	"cell_size_check":           boolean,
	"foreign_keys":              boolean,
	"fullfsync":                 boolean,
	"ignore_check_constraints":  boolean,
	"legacy_alter_table":        boolean,
	"max_page_count":            {numbers: true, min: 1, max: math.MaxUint32 - 1},
	"query_only":                boolean,
	"recursive_triggers":        boolean,
	"reverse_unordered_selects": boolean,
	"secure_delete":             {words: append([]string{"fast"}, boolean.words...)},
	"synchronous":               {words: []string{"normal", "full", "extra", "1", "2", "3"}},
	"temp_store":                {words: []string{"default", "file", "memory", "0", "1", "2"}},
	"threads":                   {numbers: true, max: 8},
	"trusted_schema":            boolean,
}

// Why a pragma is refused.
const (
	isQuery    = "it sets nothing, but asks something: run it through Handle.DB"
	isAction   = "it does something once, and sets nothing: run it through Handle.DB, or in WithOpenHook"
	inFile     = "it is kept in the file, for all connections: set it once in WithOpenHook"
	newFile    = "it is kept in the file, and takes effect only before there is anything in it, or by VACUUM: run both once, through Handle.DB or in WithOpenHook"
	ofProcess  = "it is a limit of the whole process, for all databases: set it once in your program"
	deprecated = "SQLite has deprecated it"
	ofLog      = "checkpoints are multidb's: one that it did not make, or a log that is cut behind its back, costs the history a gap and a whole upload"
)

// refused has all others that this SQLite knows, and some that are looked for.
var refused = map[string]string{
	"application_id":         inFile,
	"auto_vacuum":            newFile,
	"busy_timeout":           "it is what WithBusyTimeout sets",
	"case_sensitive_like":    "SQLite has deprecated it, since an index whose expression has LIKE is wrong for a connection that sets it otherwise, such as the one that checks a restored database",
	"checkpoint_fullfsync":   ofLog,
	"collation_list":         isQuery,
	"compile_options":        isQuery,
	"count_changes":          deprecated,
	"data_store_directory":   deprecated,
	"data_version":           isQuery,
	"database_list":          isQuery,
	"default_cache_size":     "SQLite has deprecated it: set cache_size",
	"defer_foreign_keys":     "it holds until the next commit only: run it in the transaction",
	"empty_result_callbacks": deprecated,
	"encoding":               "it is kept in the file, and takes effect only before there is anything in it; that of a new database is UTF-8",
	"foreign_key_check":      isQuery,
	"foreign_key_list":       isQuery,
	"freelist_count":         isQuery,
	"full_column_names":      deprecated,
	"function_list":          isQuery,
	"hard_heap_limit":        ofProcess,
	"incremental_vacuum":     isAction,
	"index_info":             isQuery,
	"index_list":             isQuery,
	"index_xinfo":            isQuery,
	"integrity_check":        isQuery,
	"journal_mode":           "replication reads the write-ahead log, so it is always wal",
	"journal_size_limit":     ofLog,
	"key":                    "this SQLite has no encryption",
	"legacy_file_format":     deprecated,
	"locking_mode":           "the exclusive one would keep multidb from reading what is to be shipped",
	"mmap_size":              "an error of the disk, or a file that another program cuts, would end the process with all its databases, and not one statement",
	"module_list":            isQuery,
	"optimize":               isAction,
	"page_count":             isQuery,
	"page_size":              "it is kept in the file, and cannot change in WAL mode, in which every database is opened",
	"pragma_list":            isQuery,
	"quick_check":            isQuery,
	"read_uncommitted":       "it takes effect only with a shared cache, which these connections do not have",
	"rekey":                  "this SQLite has no encryption",
	"schema_version":         "it is kept in the file, and a wrong one corrupts the database",
	"short_column_names":     deprecated,
	"shrink_memory":          isAction,
	"soft_heap_limit":        ofProcess,
	"stats":                  isQuery,
	"table_info":             isQuery,
	"table_list":             isQuery,
	"table_xinfo":            isQuery,
	"temp_store_directory":   "SQLite has deprecated it, and it is of the whole process: set the environment variable SQLITE_TMPDIR",
	"user_version":           inFile,
	"wal_autocheckpoint":     ofLog,
	"wal_checkpoint":         ofLog,
	"writable_schema":        "a statement could damage the schema: set it for a repair alone, on the connection that makes it (Handle.DB().Conn)",
}

// Parse checks a pragma and its value. Capitals do not count. The error says what to write
// instead, or why it cannot be set.
func Parse(name, value string) (Pragma, error) {
	p := Pragma{strings.ToLower(strings.TrimSpace(name)), strings.ToLower(strings.TrimSpace(value))}
	if why, no := refused[p.Name]; no {
		return Pragma{}, fmt.Errorf("%s cannot be set: %s", p.Name, why)
	}
	v, ok := allowed[p.Name]
	if !ok {
		return Pragma{}, fmt.Errorf("%q is no pragma that can be set%s", name, suggest(p.Name))
	}
	if p.Name == "synchronous" && (p.Value == "off" || p.Value == "0") {
		return Pragma{}, fmt.Errorf("synchronous cannot be %s: after a power failure the file could be corrupt, or lack what the replica has; the default is normal", p.Value)
	}
	if slices.Contains(v.words, p.Value) {
		return p, nil
	}
	if v.numbers {
		if n, err := strconv.ParseInt(p.Value, 10, 64); err == nil && n >= v.min && n <= v.max {
			return Pragma{p.Name, strconv.FormatInt(n, 10)}, nil
		}
	}
	return Pragma{}, fmt.Errorf("%s is %q; want %s", p.Name, value, v)
}

// String says what may be written.
func (v values) String() string {
	words := v.words
	if slices.Contains(words, "yes") { // the six of SQLite's that mean the same
		words = []string{"on", "off"}
		if slices.Contains(v.words, "fast") {
			words = append(words, "fast")
		}
	}
	text := strings.Join(words, ", ")
	if !v.numbers {
		return text
	}
	if text != "" {
		text += ", or "
	}
	return text + fmt.Sprintf("a whole number from %d to %d", v.min, v.max)
}

// suggest names what was probably meant.
func suggest(name string) string {
	var all []string
	for n := range allowed {
		all = append(all, n)
	}
	slices.Sort(all)
	if best := nearest.Names(name, all, 1); len(best) > 0 {
		return fmt.Sprintf("; did you mean %s?", best[0])
	}
	return "; there are " + strings.Join(all, ", ")
}
