//go:build linux

package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// series is what a scrape has, by name, with the labels that Prometheus adds.
type series map[string][]sample

type sample struct {
	labels map[string]string
	value  float64
}

// scrape reads the metrics of all nodes; of one that does not answer it notes that.
func (s *secureStory) scrape() series {
	s.t.Helper()
	all := series{}
	c := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: s.roots()}}}
	for _, n := range s.nodes {
		own := map[string]string{"job": "seatkeeper", "instance": n.Name}
		up := 0.0
		if resp, err := c.Get("https://" + n.API + "/metrics"); err == nil {
			p := expfmt.NewTextParser(model.UTF8Validation)
			families, err := p.TextToMetricFamilies(resp.Body)
			resp.Body.Close()
			if err != nil {
				s.t.Fatal(err)
			}
			for name, f := range families {
				for _, m := range f.GetMetric() {
					labels := maps.Clone(own)
					for _, l := range m.GetLabel() {
						labels[l.GetName()] = l.GetValue()
					}
					all[name] = append(all[name], sample{labels, m.GetGauge().GetValue() + m.GetCounter().GetValue()})
					for _, b := range m.GetHistogram().GetBucket() {
						le := maps.Clone(labels)
						le["le"] = strconv.FormatFloat(b.GetUpperBound(), 'g', -1, 64)
						all[name+"_bucket"] = append(all[name+"_bucket"], sample{le, float64(b.GetCumulativeCount())})
					}
				}
			}
			up = 1
		}
		all["up"] = append(all["up"], sample{own, up})
	}
	return all
}

type alertRule struct {
	Alert, Expr string
	Annotations map[string]string
}

func alertRules(t *testing.T) (rules []alertRule) {
	t.Helper()
	text, err := os.ReadFile("../../deploy/prometheus/rules.yml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Groups []struct{ Rules []alertRule } }
	if err := yaml.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	for _, g := range file.Groups {
		rules = append(rules, g.Rules...)
	}
	return rules
}

// changed is what would have to be otherwise for an alert to fire: values of series that
// the cluster really tells, in promtool's notation.
var changed = map[string]func(name string, s sample) string{
	"SeatkeeperNoLeader":      only("seatkeeper_cluster_is_leader", "0x400"),
	"SeatkeeperLeaderChanges": only("seatkeeper_cluster_leaderships_total", "0+1x400"),
	"SeatkeeperCommitSlow": func(name string, s sample) string {
		if le, _ := strconv.ParseFloat(s.labels["le"], 64); name == "seatkeeper_cluster_commit_seconds_bucket" && le > 0.25 {
			return "0+100x400"
		}
		return ""
	},
	"SeatkeeperTimeLost": only("seatkeeper_cluster_lost_seconds", "12x400"),
	"SeatkeeperNodeBehind": func(name string, s sample) string {
		if name == "seatkeeper_applied_index" && s.labels["instance"] == "node-1" {
			return "1000000x400"
		}
		return ""
	},
	"SeatkeeperDiskLow":             only("seatkeeper_cluster_disk_alarm", "1x400"),
	"SeatkeeperPoolOverused":        only("seatkeeper_pool_seats_in_use", "99x400"),
	"SeatkeeperBackupFails":         only("seatkeeper_backup_failures_total", "0+1x400"),
	"SeatkeeperBackupOld":           only("seatkeeper_backup_last_timestamp_seconds", "1x400"),
	"SeatkeeperAlarm":               only("seatkeeper_alarms", "1x400"),
	"SeatkeeperBug":                 only("seatkeeper_rpc_bugs_total", "0x45 1x75"),
	"SeatkeeperCertificateEndsSoon": only("seatkeeper_tls_certificate_expiry_timestamp_seconds", "86400x400"),
	"SeatkeeperUpgradeUnfinished": func(name string, s sample) string {
		if name == "seatkeeper_cluster_log_version_understood" && s.labels["instance"] == "node-1" {
			return "99x400"
		}
		return ""
	},
}

func only(name, values string) func(string, sample) string {
	return func(of string, _ sample) string {
		if of == name {
			return values
		}
		return ""
	}
}

// unseen are alerts on metrics that show up with their first use, which this cluster has
// no occasion for: their labels are compared with the documented ones.
var unseen = []string{"SeatkeeperOverloaded"}

// The alerts against what a real cluster tells: none fires while it is well; those that it
// can be made to raise fire when it is so, and the others fire when the values of series that
// it tells are changed. So each name and each label is one that there is.
func TestAlertsFireOnWhatARealClusterTells(t *testing.T) {
	inFull(t)
	t.Parallel()
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("promtool is missing: apt-get install prometheus")
	}
	s := startSecure(t, func(c *Config) { c.TLS.ClientCerts, c.Backups.Dir = clientCertsNone, c.DataDir+".backups" })
	anybody := s.settings("", "")
	s.ready(anybody)
	s.applyEndingLicence(anybody)
	var well series
	eventually(t, "a leader that finds all healthy", func() error {
		if well = s.scrape(); !well.some("seatkeeper_cluster_failure_tolerance", 1) || !well.some("seatkeeper_cluster_healthy", 1) || !well.some("seatkeeper_cluster_voters", 3) {
			return errors.New("not yet")
		}
		return nil
	})
	wait := start(t, environment(anybody), "run", "full", "--", "sleep", "600")
	eventually(t, "the seat to be taken", func() error {
		if !s.scrape().some("seatkeeper_pool_seats_in_use", 1) {
			return errors.New(wait.stderr.String())
		}
		return nil
	})
	start(t, environment(anybody), "run", "full", "--wait", "10m", "--", "true")
	leader := s.ready(anybody)
	for _, n := range s.nodes {
		if n != leader {
			n.kill()
			break
		}
	}
	var ill series
	eventually(t, "metrics of what is wrong", func() error {
		if ill = s.scrape(); !ill.some("seatkeeper_pool_queued", 1) || ill.some("seatkeeper_cluster_failure_tolerance", 1) || ill.some("seatkeeper_cluster_healthy", 1) ||
			!ill.some("seatkeeper_cluster_is_leader", 1) || !ill.some("up", 0) {
			return errors.New("not yet")
		}
		return nil
	})
	rules := alertRules(t)
	labelled(t, rules, well, ill)
	var hour, day []string
	real := map[string]bool{}
	for _, a := range []string{"NodeDown", "QuorumAtRisk", "MemberUnhealthy", "PoolFull", "RequestsWait", "LicenceEndsSoon"} {
		real["Seatkeeper"+a] = true
	}
	for _, r := range rules {
		tests := &hour
		if slices.Contains(afterADay, r.Alert) {
			tests = &day
		}
		ends := r.Alert == "SeatkeeperLicenceEndsSoon" // it does from the beginning
		*tests = append(*tests, promCase("well", well, r, ends, nil))
		change := changed[r.Alert]
		switch {
		case slices.Contains(unseen, r.Alert):
		case !real[r.Alert] && change == nil:
			t.Errorf("%s: nothing here shows that it can fire", r.Alert)
		default:
			from := ill
			if !real[r.Alert] {
				from = well
			}
			*tests = append(*tests, promCase("ill", from, r, true, change))
		}
	}
	path, err := filepath.Abs("../../deploy/prometheus/rules.yml")
	if err != nil {
		t.Fatal(err)
	}
	for every, tests := range map[string][]string{"1m": hour, "5m": day} {
		file := write(t, "rules_test.yml", "rule_files: ["+path+"]\nevaluation_interval: "+every+"\ntests:\n"+strings.Join(tests, ""))
		if out, err := exec.Command(promtool, "test", "rules", file).CombinedOutput(); err != nil {
			t.Errorf("promtool: %v\n%s", err, out)
		}
	}
}

func environment(settings map[string]string) (env []string) {
	for k, v := range settings {
		env = append(env, k+"="+v)
	}
	return env
}

// some says whether a series of this name has the value.
func (all series) some(name string, value float64) bool {
	return slices.ContainsFunc(all[name], func(s sample) bool { return s.value == value })
}

// applyEndingLicence brings one seat of "full", and some of "ends" for five days.
func (s *secureStory) applyEndingLicence(env map[string]string) {
	s.t.Helper()
	text := string(sampleLicence("L-1", s.vendor.Name, []sampleFeature{unshared("ends", 3, patientProfile), unshared("full", 1, patientProfile)}, time.Now().AddDate(0, 0, -1)))
	text = strings.Replace(text, "expiry: never", "expiry: "+time.Now().AddDate(0, 0, 5).Format(time.DateOnly), 1)
	document, signed := filepath.Join(s.dir, "ending.txt"), filepath.Join(s.dir, "ending.lic")
	if err := os.WriteFile(document, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	s.cli(0, nil, "license", "sign", document, "--key", s.vendor.SignerFile, "--out", signed)
	s.cli(0, env, "license", "apply", signed)
}

// labelled compares the labels that a rule names with those of the series.
func labelled(t *testing.T, rules []alertRule, scrapes ...series) {
	t.Helper()
	doc, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rules {
		there, seen := map[string]bool{}, 0
		for _, name := range regexp.MustCompile(`\b(?:seatkeeper_[a-z_]+|up)\b`).FindAllString(r.Expr, -1) {
			if name == "seatkeeper" {
				continue
			}
			found := false
			for _, all := range scrapes {
				for _, s := range all[name] {
					found = true
					for l := range s.labels {
						there[l] = true
					}
				}
			}
			if m := regexp.MustCompile("\\| `" + name + "` \\| [a-z]+ \\| ([a-z, ]*) \\|").FindSubmatch(doc); !found && slices.Contains(unseen, r.Alert) && m != nil {
				found = true
				for l := range strings.SplitSeq(string(m[1]), ", ") {
					there[l] = true
				}
			}
			if !found {
				t.Errorf("%s names %s, which no node tells", r.Alert, name)
			}
			seen++
		}
		if seen == 0 {
			t.Errorf("%s names no metric: the pattern misses them", r.Alert)
		}
		text := r.Expr + r.Annotations["summary"] + r.Annotations["action"]
		for _, m := range regexp.MustCompile(`\$labels\.([a-z_]+)|by \(([a-z_, ]+)\)|\{([a-z_]+)=`).FindAllStringSubmatch(text, -1) {
			for l := range strings.SplitSeq(m[1]+m[2]+m[3], ", ") {
				if !there[l] {
					t.Errorf("%s names the label %q, which its series do not have", r.Alert, l)
				}
			}
		}
		if by := regexp.MustCompile(`by \(([a-z_, ]+)\)`).FindStringSubmatch(r.Expr); by != nil {
			for _, m := range regexp.MustCompile(`\$labels\.([a-z_]+)`).FindAllStringSubmatch(text, -1) {
				if !slices.Contains(strings.Split(by[1], ", "), m[1]) {
					t.Errorf("%s speaks of the label %q, which its sum has not", r.Alert, m[1])
				}
			}
		}
	}
}

// afterADay are alerts that take a day.
var afterADay = []string{"SeatkeeperUpgradeUnfinished", "SeatkeeperBackupOld"}

// promCase is one case for promtool: what was scraped goes on for an hour, or for a day,
// and the alert fires or does not.
func promCase(name string, all series, r alertRule, fires bool, change func(string, sample) string) string {
	var b strings.Builder
	step, at := "1m", "50m"
	if slices.Contains(afterADay, r.Alert) {
		step, at = "5m", "26h"
	}
	fmt.Fprintf(&b, "  - name: %q\n    interval: %s\n    input_series:\n", name+": "+r.Alert, step)
	for _, of := range slices.Sorted(maps.Keys(all)) {
		if !strings.Contains(r.Expr, of) {
			continue
		}
		for _, s := range all[of] {
			var labels []string
			for _, l := range slices.Sorted(maps.Keys(s.labels)) {
				labels = append(labels, fmt.Sprintf("%s=%q", l, s.labels[l]))
			}
			value := s.value
			if strings.HasSuffix(of, "_timestamp_seconds") && value > 0 {
				value += 100_000 - float64(time.Now().Unix()) // there the time begins with 0
			}
			values := strconv.FormatFloat(value, 'f', -1, 64) + "x400"
			if change != nil {
				if v := change(of, s); v != "" {
					values = v
				}
			}
			fmt.Fprintf(&b, "      - {series: '%s{%s}', values: '%s'}\n", of, strings.Join(labels, ", "), values)
		}
	}
	want := "[]"
	if fires {
		want = "[{labels: '{}', value: 1}]"
	}
	fmt.Fprintf(&b, "    promql_expr_test:\n      - {expr: 'count(ALERTS{alertname=%q, alertstate=\"firing\"}) > bool 0', eval_time: %s, exp_samples: %s}\n", r.Alert, at, want)
	return b.String()
}
