// Package deploy_test holds what is deployed beside the program against what the program
// does: rules and dashboards may only name metrics that there are.
package deploy_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

// documented are the metrics of docs/metrics.md, which a test of the program compares with
// what a cluster exposes.
func documented(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile("../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| ([a-z]+) \\|").FindAllStringSubmatch(string(text), -1) {
		kinds[m[1]] = m[2]
	}
	if len(kinds) < 30 {
		t.Fatalf("docs/metrics.md lists %d metrics", len(kinds))
	}
	return kinds
}

var metric = regexp.MustCompile(`\b(?:seatkeeper|process)_[a-z_]+\b`)

// unknown gives the metrics in an expression that are documented nowhere.
func unknown(kinds map[string]string, expr string) (names []string) {
	for _, name := range metric.FindAllString(expr, -1) {
		base := name
		for _, part := range []string{"_bucket", "_sum", "_count"} {
			if cut, ok := strings.CutSuffix(name, part); ok && kinds[cut] == "histogram" {
				base = cut
			}
		}
		if kinds[base] == "" {
			names = append(names, name)
		}
	}
	return names
}

type ruleFile struct {
	Groups []struct {
		Rules []struct {
			Alert, Expr string
			Labels      map[string]string
			Annotations map[string]string
		}
	}
}

func TestAlertRulesNameMetricsThatExistAndSayWhatToDo(t *testing.T) {
	kinds := documented(t)
	text, err := os.ReadFile("prometheus/rules.yml")
	if err != nil {
		t.Fatal(err)
	}
	var file ruleFile
	if err := yaml.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	var tried []byte
	for _, file := range []string{"prometheus/rules_test.yml", "prometheus/rules_day_test.yml"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		tried = append(tried, text...)
	}
	runbook, err := os.ReadFile("RUNBOOK.md")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, g := range file.Groups {
		for _, r := range g.Rules {
			n++
			if names := unknown(kinds, r.Expr); names != nil {
				t.Errorf("%s names %v, which docs/metrics.md does not", r.Alert, names)
			}
			if r.Annotations["summary"] == "" || r.Annotations["action"] == "" || r.Labels["severity"] == "" {
				t.Errorf("%s lacks a summary, an action or a severity", r.Alert)
			}
			fires := regexp.MustCompile(`alertname: ` + r.Alert + `\n\s+exp_alerts:\n\s+- exp_labels`)
			if !fires.Match(tried) {
				t.Errorf("no case of the rules' tests makes %s fire", r.Alert)
			}
			if !bytes.Contains(runbook, []byte("**"+r.Alert+"**")) {
				t.Errorf("RUNBOOK.md does not say what %s wants done", r.Alert)
			}
		}
	}
	if n < 10 {
		t.Errorf("%d rules were read", n)
	}
}

func TestAlertRulesFireWhenTheyShould(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("promtool is missing: apt-get install prometheus")
	}
	for _, args := range [][]string{{"check", "rules", "prometheus/rules.yml"}, {"test", "rules", "prometheus/rules_test.yml"},
		{"test", "rules", "prometheus/rules_day_test.yml"}} {
		if out, err := exec.Command(promtool, args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}

func TestDashboardNamesMetricsThatExist(t *testing.T) {
	kinds := documented(t)
	text, err := os.ReadFile("grafana/seatkeeper.json")
	if err != nil {
		t.Fatal(err)
	}
	var board struct {
		Templating struct {
			List []struct{ Query string }
		}
		Panels []struct {
			ID      int
			Type    string
			Title   string
			GridPos struct{ X, Y, W, H int }
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(text, &board); err != nil {
		t.Fatal(err)
	}
	var ids []int
	graphs := 0
	for _, p := range board.Panels {
		if slices.Contains(ids, p.ID) {
			t.Errorf("two panels have the id %d", p.ID)
		}
		ids = append(ids, p.ID)
		if p.GridPos.X+p.GridPos.W > 24 {
			t.Errorf("panel %q reaches beyond the grid", p.Title)
		}
		if p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("panel %q shows nothing", p.Title)
		}
		for _, x := range p.Targets {
			graphs++
			if names := unknown(kinds, x.Expr); names != nil {
				t.Errorf("panel %q names %v, which docs/metrics.md does not", p.Title, names)
			}
		}
	}
	for _, v := range board.Templating.List {
		if names := unknown(kinds, v.Query); names != nil {
			t.Errorf("a variable names %v, which docs/metrics.md does not", names)
		}
	}
	if graphs < 20 {
		t.Errorf("%d queries were read", graphs)
	}
}

// A service that the threshold lets pass has what systemd can take away taken away.
func TestUnitsAreHardened(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is missing")
	}
	for _, unit := range []string{"systemd/seatkeeper.service", "systemd/seatkeeper-agent.service"} {
		if out, err := exec.Command(analyze, "security", "--offline=true", "--threshold=20", unit).CombinedOutput(); err != nil {
			lines := strings.Split(strings.TrimSpace(string(out)), "\n")
			t.Errorf("%s: %v: %s", unit, err, lines[len(lines)-1])
		}
	}
}

// What the package installs must be there, and what a unit or an example starts must be in
// the package or the image.
func TestPackageHasTheAgentsFiles(t *testing.T) {
	text, err := os.ReadFile("nfpm.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"deploy/systemd/seatkeeper-agent.service", "deploy/systemd/seatkeeper-agent.user.service",
		"deploy/examples/client.sh", "deploy/examples/sidecar.yaml", "docs/agent.md"} {
		if !strings.Contains(string(text), file) {
			t.Errorf("nfpm.yaml does not pack %s", file)
		}
		if _, err := os.Stat("../" + file); err != nil {
			t.Error(err)
		}
	}
}

func TestSidecarSharesItsSocketWithTheProgram(t *testing.T) {
	text, err := os.ReadFile("examples/sidecar.yaml")
	if err != nil {
		t.Fatal(err)
	}
	type mount struct {
		Name      string
		MountPath string `yaml:"mountPath"`
	}
	type container struct {
		Name          string
		RestartPolicy string `yaml:"restartPolicy"`
		Args          []string
		VolumeMounts  []mount `yaml:"volumeMounts"`
	}
	var pod struct {
		Kind string
		Spec struct {
			InitContainers []container `yaml:"initContainers"`
			Containers     []container
			Volumes        []struct{ Name string }
		}
	}
	if err := yaml.Unmarshal(text, &pod); err != nil {
		t.Fatal(err)
	}
	if pod.Kind != "Pod" || len(pod.Spec.InitContainers) != 1 || len(pod.Spec.Containers) != 1 {
		t.Fatalf("the example is %+v", pod)
	}
	agent, program := pod.Spec.InitContainers[0], pod.Spec.Containers[0]
	if agent.RestartPolicy != "Always" {
		t.Error("the agent is not a sidecar: it would have to end before the program starts")
	}
	i := slices.Index(agent.Args, "--socket")
	if i < 0 || !strings.Contains(program.Args[0], "--unix-socket "+agent.Args[i+1]) {
		t.Errorf("the program does not use the socket of %v", agent.Args)
	}
	for _, c := range []container{agent, program} {
		if !slices.ContainsFunc(c.VolumeMounts, func(m mount) bool {
			return m.Name == "socket" && strings.HasPrefix(agent.Args[i+1], m.MountPath+"/")
		}) {
			t.Errorf("%s does not have the folder of the socket", c.Name)
		}
		for _, m := range c.VolumeMounts {
			if !slices.ContainsFunc(pod.Spec.Volumes, func(v struct{ Name string }) bool { return v.Name == m.Name }) {
				t.Errorf("%s mounts %s, which is no volume", c.Name, m.Name)
			}
		}
	}
}
