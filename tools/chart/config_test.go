package chart

import (
	"crypto/rand"
	"encoding/base64"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The config that the chart makes is taken by a node, with the variables of its pod.
func TestChartsConfigIsOneThatANodeTakes(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "seatkeeper")
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", binary, "./cmd/seatkeeper")
	build.Dir, build.Env = "../..", append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	signer := exec.Command(binary, "license", "keygen", "acme")
	signer.Dir = t.TempDir()
	verifier, err := signer.Output()
	if err != nil {
		t.Fatal(err)
	}
	var key [32]byte
	rand.Read(key[:])
	gossip := filepath.Join(t.TempDir(), "gossip.key")
	if err := os.WriteFile(gossip, []byte(base64.StdEncoding.EncodeToString(key[:])+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, values := range valueSets {
		t.Run(name, func(t *testing.T) {
			values = strings.ReplaceAll(values, "acme+1b2c3d4e+AbCd", strings.Fields(string(verifier))[0])
			r := mustRender(t, values)
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "seatkeeper.yaml"), []byte(r.config.Data["seatkeeper.yaml"]), 0o600); err != nil {
				t.Fatal(err)
			}
			c := r.set.Spec.Template.Spec.Containers[0]
			known := map[string]string{"POD_IP": "10.1.2.3", "SEATKEEPER_NAME": "seatkeeper-0"}
			env := []string{"PATH=" + os.Getenv("PATH")}
			for _, e := range c.Env {
				value := e.Value
				if e.ValueFrom != nil {
					value = known[e.Name]
				}
				for from, to := range known {
					value = strings.ReplaceAll(value, "$("+from+")", to)
				}
				value = strings.ReplaceAll(value, "/etc/seatkeeper/gossip/gossip.key", gossip)
				if value == "" || strings.Contains(value, "$(") {
					t.Errorf("%s is %q", e.Name, value)
				}
				env = append(env, e.Name+"="+value)
			}
			config := filepath.Join(dir, "seatkeeper.yaml")
			if args := strings.Join(c.Args, " "); args != "server --config /etc/seatkeeper/seatkeeper.yaml" {
				t.Errorf("the node is started with %s", args)
			}
			validate := exec.Command(binary, "config", "validate", config)
			validate.Env = env
			if out, err := validate.CombinedOutput(); err != nil || !strings.Contains(string(out), "node seatkeeper-0") {
				t.Errorf("%v\n%s\n%s", err, out, r.config.Data["seatkeeper.yaml"])
			}
		})
	}
}
