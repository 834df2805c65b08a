//go:build linux

package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/seatkeeper/seatkeeper/lease"
	"github.com/seatkeeper/seatkeeper/rpc/client"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// startLogged starts a story whose servers keep an audit log and FlexNet's debug log, and
// write a snapshot every thousand entries.
func startLogged(t *testing.T, features ...sampleFeature) *story {
	t.Helper()
	d, err := newDevCluster(programUnderTest(t), t.TempDir(), 3, takePorts(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range d.nodes {
		data, err := os.ReadFile(n.Config)
		if err != nil {
			t.Fatal(err)
		}
		text := string(data)
		for from, to := range map[string]string{
			`debug_log: ""`: "debug_log: flexnet", "file: \"\"": "file: " + auditFile(n), "entries: 32768": "entries: 1000",
		} {
			if !strings.Contains(text, from) {
				t.Fatalf("no %s in\n%s", from, text)
			}
			text = strings.Replace(text, from, to, 1)
		}
		if err := os.WriteFile(n.Config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := &story{devCluster: d, t: t}
	t.Cleanup(s.end)
	if err := d.start(); err != nil {
		t.Fatal(err)
	}
	if err := d.waitReady(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := d.installLicence(t.Context(), features); err != nil {
		t.Fatal(err)
	}
	if s.conn, err = dialCluster(Client{Addr: d.address()}, callTimeout); err != nil {
		t.Fatal(err)
	}
	return s
}

func auditFile(n *devNode) string { return n.Dir + ".jsonl" }

// take checks a seat out in a session of its own and returns how to give it back.
func (s *story) take(t *testing.T, feature, user string) (giveBack func(), err error) {
	t.Helper()
	answer, err := s.conn.seats.Checkout(t.Context(), &pb.CheckoutRequest{Feature: feature, User: user, Host: user + "-host", Project: "p-" + user})
	if err != nil {
		return nil, err
	}
	return func() {
		t.Helper()
		if _, err := s.conn.seats.Checkin(t.Context(), &pb.CheckinRequest{SessionId: answer.Session.Id, SessionSecret: answer.Session.Secret}); err != nil {
			t.Fatal(err)
		}
	}, nil
}

func (s *story) mustTake(t *testing.T, feature, user string) func() {
	t.Helper()
	giveBack, err := s.take(t, feature, user)
	if err != nil {
		t.Fatal(err)
	}
	return giveBack
}

// What was used, denied and logged is told alike by all nodes, once each, though the
// leader was killed and a node restarted in the middle.
func TestUsageDenialsAndLogsSurviveTheLeader(t *testing.T) {
	inFull(t)
	t.Parallel()
	s := startLogged(t, unshared("cad", 10, lease.DefaultProfile), unshared("mesh", 1, lease.DefaultProfile))
	churn := func(n int) {
		for i := range n {
			s.mustTake(t, "cad", "user"+strconv.Itoa(i%7))()
		}
	}
	ann := s.mustTake(t, "cad", "ann")
	bob := s.mustTake(t, "mesh", "bob")
	churn(600) // past a snapshot
	for _, user := range []string{"eve", "kim"} {
		if _, err := s.take(t, "mesh", user); client.ReasonOf(err) != "no_seats" {
			t.Fatalf("%s asks for the last seat: %v", user, err)
		}
	}

	killed := s.leader(t)
	killed.signal(os.Kill)
	<-killed.exited
	eventually(t, "another leader", func() error {
		_, err := s.conn.cluster.Status(t.Context(), &pb.StatusRequest{})
		return err
	})
	bob()
	eve := s.mustTake(t, "mesh", "eve") // served after all
	lmstatWithOneDown(t, s, killed)
	churn(20)
	if err := killed.start(); err != nil {
		t.Fatal(err)
	}
	for _, n := range s.nodes {
		if n != killed {
			n.signal(terminateSignal)
			<-n.exited
			if err := n.start(); err != nil {
				t.Fatal(err)
			}
			break
		}
	}
	eventually(t, "all three nodes", func() error {
		for _, n := range s.status(t).Nodes {
			if n.Role == "unreachable" {
				return fmt.Errorf("%s is down", n.Id)
			}
		}
		return nil
	})
	churn(10)
	eve()
	ann()
	s.allAgree(t)

	const used = 600 + 20 + 10 + 3
	var first []string
	for i, n := range s.nodes {
		told := []string{
			get(t, n, "/v1/usage?page_size=1000"), get(t, n, "/v1/denials"),
			get(t, n, "/v1/usage/sums?by=user"), movesOf(t, filepath.Join(n.Dir, "debug.log"), used),
		}
		if got := strings.Count(told[0], `"lease_id"`); got != used {
			t.Errorf("%s has %d usage records, want %d", n.Name, got, used)
		}
		if !strings.Contains(told[1], `"truncated":false`) || strings.Count(told[1], `"reason":"no_seats"`) != 2 || strings.Count(told[1], `"served":""`) != 1 {
			t.Errorf("%s tells of denials: %s", n.Name, told[1])
		}
		if i == 0 {
			first = told
			continue
		}
		for k := range told {
			if told[k] != first[k] {
				t.Errorf("%s and %s tell otherwise:\n%.2000s\n%.2000s", n.Name, s.nodes[0].Name, told[k], first[k])
			}
		}
	}
	if code, out, stderr := s.cli(t, "denials", "--true", "-o", "csv"); code != exitOK || strings.Count(out, "\n") != 2 || !strings.Contains(out, "kim") {
		t.Errorf("true denials: %d %s%s", code, out, stderr)
	}
	verifyAuditsOf(t, s)
}

func verifyAuditsOf(t *testing.T, s *story) {
	t.Helper()
	args := []string{"audit", "verify"}
	for _, n := range s.nodes {
		args = append(args, auditFile(n))
	}
	if code, out, stderr := s.cli(t, args...); code != exitOK {
		t.Errorf("audit verify: %d %s%s", code, out, stderr)
	}
	data, err := os.ReadFile(auditFile(s.nodes[0]))
	if err != nil {
		t.Fatal(err)
	}
	forged := filepath.Join(t.TempDir(), "forged.jsonl")
	if err := os.WriteFile(forged, bytes.Replace(data, []byte(`"user":"ann"`), []byte(`"user":"abe"`), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, out, stderr := s.cli(t, "audit", "verify", forged); code != exitError1 || !strings.Contains(stderr, "was changed") {
		t.Errorf("audit verify of a forged log: %d %s%s", code, out, stderr)
	}
}

// lmstatWithOneDown reads lmstat -a as consumers do, while one node is down.
func lmstatWithOneDown(t *testing.T, s *story, down *devNode) {
	t.Helper()
	var out string
	eventually(t, "lmstat -a with "+down.Name+" down", func() error {
		var code int
		var stderr string
		if code, out, stderr = s.cli(t, "lmutil", "lmstat", "-a", "-c", flexList(s)); code != exitOK {
			return fmt.Errorf("exit code %d: %s%s", code, out, stderr)
		}
		c, err := consume(out)
		if err != nil {
			return err
		}
		if up := c.servers[down.Name]; up || len(c.servers) != 3 {
			return fmt.Errorf("servers %v", c.servers)
		}
		if len(c.features) != 2 || c.features[0].used != 1 || c.features[1].used != 1 {
			return fmt.Errorf("features %+v", c.features)
		}
		return nil
	})
	if code, _, _ := s.cli(t, "lmutil", "lmremove", "cad", "nobody", "x", "-"); code != 256-41 {
		t.Errorf("lmremove of nobody exits %d", code)
	}
}

// flexList is the nodes as FlexNet's -c has them.
func flexList(s *story) string {
	var list []string
	for _, n := range s.nodes {
		host, port, _ := strings.Cut(n.API, ":")
		list = append(list, port+"@"+host)
	}
	return strings.Join(list, ",")
}

func get(t *testing.T, n *devNode, path string) string {
	t.Helper()
	answer, err := http.Get("http://" + n.API + path)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	data, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatalf("%s%s: %d %s %v", n.API, path, answer.StatusCode, data, err)
	}
	return string(data)
}

var flexLine = regexp.MustCompile(`^(\d{1,2}):(\d\d):(\d\d) \((\w+)\) (OUT|IN|DENIED|QUEUED|DEQUEUED|TIMESTAMP)(?:: (.+)| (\d{1,2}/\d{1,2}/\d{4}))$`)

// movesOf reads a debug log as analysers do, once it tells of so many leases. It returns
// the lines but the time stamps.
func movesOf(t *testing.T, path string, leases int) string {
	t.Helper()
	var moves strings.Builder
	eventually(t, fmt.Sprintf("%d leases in %s", leases, path), func() error {
		moves.Reset()
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		open, outs, ins := map[string]int{}, 0, 0
		var day, last time.Time
		for in := bufio.NewScanner(bytes.NewReader(data)); in.Scan(); {
			m := flexLine.FindStringSubmatch(in.Text())
			if m == nil {
				return fmt.Errorf("no analyser reads %q", in.Text())
			}
			if m[7] != "" {
				if day, err = time.Parse("1/2/2006", m[7]); err != nil {
					return err
				}
			}
			clock, err := time.ParseDuration(m[1] + "h" + m[2] + "m" + m[3] + "s")
			if at := day.Add(clock); err != nil || day.IsZero() || at.Before(last) {
				return fmt.Errorf("time goes back at %q", in.Text())
			} else {
				last = at
			}
			switch m[5] {
			case "TIMESTAMP":
				continue
			case "OUT":
				open[m[6]]++
				outs++
			case "IN":
				open[m[6]]--
				ins++
			}
			if open[m[6]] < 0 {
				return fmt.Errorf("IN without OUT: %q", in.Text())
			}
			moves.WriteString(in.Text() + "\n")
		}
		if outs != leases || ins != leases {
			return fmt.Errorf("%d OUT and %d IN", outs, ins)
		}
		return nil
	})
	return moves.String()
}
