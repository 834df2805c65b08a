package seatkeeper_test

import (
	"go/ast"
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// A document that names a test as its proof must name one that there is.
func TestDocumentsNameTestsThatExist(t *testing.T) {
	there := map[string]bool{}
	for _, s := range sources(t) {
		for _, d := range s.file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && s.test {
				there[f.Name.Name] = true
			}
		}
	}
	var pages []string
	for _, pattern := range []string{"*.md", "docs/*.md", "*/DESIGN.md", "*/*/DESIGN.md", "jepsen/README.md"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		pages = append(pages, found...)
	}
	named := 0
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile("`((?:Test|Fuzz)[A-Z][A-Za-z0-9]*)(?:/[^`]*)?`").FindAllSubmatch(text, -1) {
			named++
			if name := string(m[1]); !there[name] {
				t.Errorf("%s names %s, which is no test", page, name)
			}
		}
	}
	if named < 100 {
		t.Errorf("%d tests are named in %d documents: the pattern misses them", named, len(pages))
	}
}
