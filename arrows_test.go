// Package seatkeeper_test checks the shape of the house: which room may import which,
// what the pure rooms may not touch, and the versions that are known to work together.
package seatkeeper_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/modfile"
)

const module = "github.com/seatkeeper/seatkeeper"

// source is one Go file, whatever its build constraints say.
type source struct {
	path string // slash-separated, from the repository's root
	room string // its directory
	test bool
	set  *token.FileSet
	file *ast.File
}

// sources parses every Go file of the module.
func sources(t *testing.T) []source {
	t.Helper()
	var list []source
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name != "." && (strings.HasPrefix(d.Name(), ".") || name == "bin" || name == "tools" || d.Name() == "testdata") {
				return filepath.SkipDir
			}
			return nil
		}
		if filepath.Ext(name) != ".go" {
			return nil
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, name, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		slash := filepath.ToSlash(name)
		list = append(list, source{slash, path.Dir(slash), strings.HasSuffix(name, "_test.go"), set, file})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(list) == 0 {
		t.Fatal("no Go files found: run this test in the repository's root")
	}
	return list
}

func (s source) imports() []string {
	var list []string
	for _, i := range s.file.Imports {
		list = append(list, strings.Trim(i.Path.Value, `"`))
	}
	return list
}

func (s source) at(pos token.Pos) string { return s.set.Position(pos).String() }

// within says whether dir is room or lies below it.
func within(dir, room string) bool { return dir == room || strings.HasPrefix(dir, room+"/") }

func isStandard(importPath string) bool {
	first, _, _ := strings.Cut(importPath, "/")
	return !strings.Contains(first, ".")
}

// arrows says which rooms of this module a room may import. The longest matching room
// counts. Tests may look anywhere below them, and are not judged.
var arrows = []struct {
	room string
	may  []string
	why  string
}{
	{"lease", nil, "the rules depend on nothing, so that they can be read, tested and simulated by themselves"},
	{"lease/license", []string{"lease"}, "licence files become the words of the rules and know nothing else"},
	{"lease/offline", []string{"lease"}, "a token is verified where there is neither network nor server"},
	{"lease/access", []string{"lease"}, "who may ask is judged beside the rules, with their words, and knows nothing else"},
	{"fsm", []string{"lease", "lease/access", "fsm/proto"}, "the state machine applies the rules; it must not know who proposes or serves"},
	{"fsm/proto", nil, "generated code"},
	{"cluster", []string{"lease", "lease/access", "fsm"}, "a node replicates commands; what they mean and how they arrive is not its business"},
	{"cluster/sim", []string{"lease", "fsm", "cluster"}, "the simulator runs real nodes and judges beliefs by the rules, without the network API"},
	{"rpc", []string{"lease", "lease/license", "lease/offline", "lease/access", "fsm", "cluster", "rpc/proto", "rpc/console"}, "the API decodes, admits and encodes; it calls downwards only"},
	{"rpc/proto", nil, "generated code, and how it becomes bytes, for nodes and clients alike"},
	{"rpc/client", []string{"lease", "lease/offline", "rpc/proto"}, "the SDK goes into other people's programs: words and wire only"},
	{"rpc/agent", []string{"lease", "rpc/client"}, "an agent is a client like any other, for those who have none: it must not see inside a node"},
	{"bench", []string{"bench/load", "rpc/client", "rpc/proto"}, "a benchmark measures what clients get: it must not see inside what it measures"},
	{"bench/load", nil, "the load and its clock serve the systems we are compared with, too: they know none of them"},
	{"cmd", []string{"lease", "lease/license", "lease/offline", "fsm", "cluster", "rpc", "bench"}, "the top of the house may use all of it"},
	{"jepsen/peers", []string{"bench/load"}, "other systems are measured with our load and nothing else of ours"},
	{"jepsen", []string{"rpc/client", "rpc/proto"}, "the chaos harness is a client like any other: it must not see inside what it judges"},
}

func TestRoomsImportDownwardsOnly(t *testing.T) {
	for _, s := range sources(t) {
		if s.test {
			continue
		}
		best := -1
		for i, a := range arrows {
			if within(s.room, a.room) && (best < 0 || len(a.room) > len(arrows[best].room)) {
				best = i
			}
		}
		if best < 0 {
			if s.room != "." {
				t.Errorf("%s is in a room that no arrow names: add it to this table with its reason", s.path)
			}
			continue
		}
		rule := arrows[best]
		for _, imp := range s.imports() {
			target, ours := strings.CutPrefix(imp, module+"/")
			if !ours || within(target, rule.room) && !deeperRoom(target, rule.room) {
				continue
			}
			if !slices.ContainsFunc(rule.may, func(m string) bool { return within(target, m) }) {
				t.Errorf("%s imports %s: %s may import only %v, because %s", s.path, target, rule.room, rule.may, rule.why)
			}
		}
	}
}

// deeperRoom says whether target belongs to a room of its own below room.
func deeperRoom(target, room string) bool {
	for _, a := range arrows {
		if a.room != room && within(a.room, room) && within(target, a.room) {
			return true
		}
	}
	return false
}

// keepers says which rooms alone may import a package (or what lies below it).
var keepers = []struct {
	pkg   string
	rooms []string
	why   string
}{
	{"github.com/hashicorp/raft", []string{"fsm", "cluster"}, "raft is a detail below the API, and above the rules"},
	{"github.com/hashicorp/raft-boltdb", []string{"cluster"}, "the log on disk belongs to the node"},
	{"go.etcd.io/bbolt", []string{"cluster"}, "the log on disk belongs to the node"},
	{"github.com/hashicorp/memberlist", []string{"cluster"}, "gossip is a hint for membership and for nothing else"},
	{"google.golang.org/grpc", []string{"rpc", "cmd", "bench", "jepsen"}, "only the API and its callers speak on the wire"},
	{"github.com/grpc-ecosystem/grpc-gateway", []string{"rpc"}, "only the API speaks JSON over HTTP"},
	{"net/http", []string{"rpc", "cmd", "bench", "jepsen"}, "nothing below the API serves or calls HTTP"},
	{"github.com/spf13/cobra", []string{"cmd"}, "only commands have flags"},
	{"charm.land", []string{"cmd"}, "only commands draw on a terminal"},
	{"go.opentelemetry.io/otel/sdk", []string{"cmd"}, "where traces go is decided at the top"},
	{"go.opentelemetry.io/otel/exporters", []string{"cmd"}, "where traces go is decided at the top"},
	{"go.opentelemetry.io/otel", []string{"cluster", "rpc", "cmd"}, "the rules and the state machine are timed by who calls them"},
	{"github.com/goccy/go-yaml", []string{"cmd"}, "configuration is read at the top and handed down as values"},
}

func TestPackagesStayInTheirRooms(t *testing.T) {
	for _, s := range sources(t) {
		if s.test {
			continue
		}
		for _, imp := range s.imports() {
			for _, k := range keepers {
				if !within(imp, k.pkg) || slices.ContainsFunc(k.rooms, func(r string) bool { return within(s.room, r) }) {
					continue
				}
				t.Errorf("%s imports %s, which only %v may: %s", s.path, imp, k.rooms, k.why)
			}
		}
	}
}

// The rules of the ledger are a pure function: the standard library, but none of what
// makes two runs differ.
var impure = map[string]string{
	"net":          "the rules do no input or output",
	"net/http":     "the rules do no input or output",
	"os":           "the rules do no input or output",
	"os/exec":      "the rules do no input or output",
	"io/fs":        "the rules do no input or output",
	"log":          "the rules write no log: what happened is in their replies and events",
	"log/slog":     "the rules write no log: what happened is in their replies and events",
	"math/rand":    "the same commands must make the same ledger",
	"math/rand/v2": "the same commands must make the same ledger",
	"crypto/rand":  "the same commands must make the same ledger",
	"sync":         "the rules start no goroutine and share nothing",
	"context":      "the rules wait for nothing",
	"unsafe":       "the rules have no business with memory",
}

func TestRulesImportPureStandardLibraryOnly(t *testing.T) {
	for _, s := range sources(t) {
		if s.test || s.room != "lease" && s.room != "lease/access" {
			continue
		}
		for _, imp := range s.imports() {
			if !isStandard(imp) && imp != module+"/lease" {
				t.Errorf("%s imports %s: the rules import the standard library only", s.path, imp)
			}
			if why, bad := impure[imp]; bad {
				t.Errorf("%s imports %s: %s", s.path, imp, why)
			}
		}
	}
}

// clockCalls read or wait for the process's clock.
var clockCalls = []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker"}

func TestNoProcessClockInPureRooms(t *testing.T) {
	for _, s := range sources(t) {
		sown := strings.HasSuffix(s.path, "_broken.go") // in builds with the tag "mutants" only
		if s.test || sown || s.room != "lease" && s.room != "lease/license" && s.room != "lease/access" && s.room != "fsm" {
			continue
		}
		s.eachCall("time", clockCalls, func(pos token.Pos, name string) {
			t.Errorf("%s: time.%s: time is an argument here; a process clock would make nodes differ", s.at(pos), name)
		})
		if s.room == "fsm" {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			if g, ok := n.(*ast.GoStmt); ok {
				t.Errorf("%s: a goroutine: the rules run where they are called", s.at(g.Pos()))
			}
			return true
		})
	}
}

func TestTestsDoNotSleep(t *testing.T) {
	for _, s := range sources(t) {
		if !s.test || slices.Contains(s.imports(), "testing/synctest") {
			continue // on virtual time a sleep is a step of the clock and not a wait
		}
		bubbles := s.bubbles()
		s.eachCall("time", []string{"Sleep"}, func(pos token.Pos, _ string) {
			if slices.ContainsFunc(bubbles, func(b ast.Node) bool { return b.Pos() <= pos && pos < b.End() }) {
				return
			}
			t.Errorf("%s: time.Sleep in a test: wait for the condition with a deadline, or use testing/synctest", s.at(pos))
		})
	}
}

// bubbles are the calls of a test's own bubble, which runs its argument on the virtual
// time of testing/synctest.
func (s source) bubbles() []ast.Node {
	var list []ast.Node
	ast.Inspect(s.file, func(n ast.Node) bool {
		if call, ok := n.(*ast.CallExpr); ok {
			if f, ok := call.Fun.(*ast.Ident); ok && f.Name == "bubble" {
				list = append(list, call)
			}
		}
		return true
	})
	return list
}

// eachCall calls found for every use of one of the names of a package.
func (s source) eachCall(pkg string, names []string, found func(pos token.Pos, name string)) {
	ast.Inspect(s.file, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if x, ok := sel.X.(*ast.Ident); ok && x.Name == pkg && slices.Contains(names, sel.Sel.Name) {
			found(sel.Pos(), sel.Sel.Name)
		}
		return true
	})
}

func TestMetricsAreImportedAsCompatOnly(t *testing.T) {
	for _, s := range sources(t) {
		for _, imp := range s.imports() {
			if (within(imp, "github.com/hashicorp/go-metrics") || within(imp, "github.com/armon/go-metrics")) &&
				!within(imp, "github.com/hashicorp/go-metrics/compat") {
				t.Errorf("%s imports %s: use github.com/hashicorp/go-metrics/compat, or raft, bolt and memberlist report elsewhere", s.path, imp)
			}
		}
	}
}

// The SDK goes into other people's programs: the Mozilla licence of HashiCorp's
// modules must not come along, not even by a detour.
func TestClientBringsNoHashiCorpModule(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "./rpc/client").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	for dep := range strings.FieldsSeq(string(out)) {
		if within(dep, "github.com/hashicorp") || within(dep, "github.com/armon") {
			t.Errorf("rpc/client depends on %s: find the way with go mod why -m and cut it", dep)
		}
		if within(dep, "go.opentelemetry.io") {
			t.Errorf("rpc/client depends on %s: who wants traces takes rpc/client/oteltrace", dep)
		}
	}
}

// pinned are the versions that are known to build and run race-clean together; go.mod
// says why newer ones do not.
var pinned = map[string]string{
	"github.com/hashicorp/raft":           "v1.7.3",
	"github.com/hashicorp/raft-boltdb/v2": "v2.3.1",
	"github.com/hashicorp/memberlist":     "v0.6.0",
	"github.com/hashicorp/go-metrics":     "v0.6.1",
	"github.com/hashicorp/go-hclog":       "v1.6.3",
	"go.etcd.io/bbolt":                    "v1.5.0",
}

func TestPinnedVersions(t *testing.T) {
	data, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	mod, err := modfile.Parse("go.mod", data, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(mod.Replace) > 0 {
		t.Errorf("go.mod has a replace directive: it would break go install %s/cmd/seatkeeper@version", module)
	}
	have := map[string]string{}
	for _, r := range mod.Require {
		have[r.Mod.Path] = r.Mod.Version
	}
	for name, want := range pinned {
		if have[name] != want {
			t.Errorf("go.mod requires %s %q, want %s: newer ones do not work together (see the comment in go.mod)", name, have[name], want)
		}
	}
}
