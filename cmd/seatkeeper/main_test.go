package main

import (
	"bytes"
	"context"
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain makes this test binary also the program under test: scripts and clusters of
// real processes run it under the name seatkeeper.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"seatkeeper": main})
}

// inFull leaves a test to make stories: it runs real processes, and all such tests take
// minutes with the race detector. The core's own stories are not among these.
func inFull(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("make stories runs it")
	}
}

func TestTranscripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			// Nothing of the developer's shell reaches a script.
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("USER", "tester")
			env.Setenv("GORACE", os.Getenv("GORACE")) // how the race detector ends
			return nil
		},
	})
}

// run runs one command line in this process.
func run(t *testing.T, env map[string]string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errOut bytes.Buffer
	a := &app{stdin: bytes.NewReader(nil), stdout: &out, stderr: &errOut, lookupEnv: func(name string) (string, bool) {
		v, ok := env[name]
		return v, ok
	}}
	code = a.main(context.Background(), args)
	return code, out.String(), errOut.String()
}

// write writes a file of a test and returns its path.
func write(t *testing.T, name, text string) string {
	t.Helper()
	path := t.TempDir() + "/" + name
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
