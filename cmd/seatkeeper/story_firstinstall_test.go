//go:build linux

package main

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The runbook's page for packages is followed to the letter, but that three machines are
// three folders and their addresses loopback's.
func TestRunbooksFirstInstallOfPackagesMakesACluster(t *testing.T) {
	inFull(t)
	blocks := runbookBlocks(t, "First install: Debian, Ubuntu, Red Hat")
	if len(blocks) != 3 {
		t.Fatalf("%d blocks of commands, want 3", len(blocks))
	}
	vendor := &devCluster{dir: t.TempDir()}
	if err := vendor.makeVendor(); err != nil {
		t.Fatal(err)
	}
	dir, machines := t.TempDir(), t.TempDir()
	page := newFollowed(t, dir)
	page.standIn("scp", fmt.Sprintf(`to=${2#root@}; mkdir -p "%s/${to%%%%:*}" && cp "$1" "%s/${to%%%%:*}/${to##*/}"`, machines, machines))
	page.standIn("ssh", fmt.Sprintf(`echo "$2" > "%s/${1#root@}/done"`, machines))
	page.run(strings.ReplaceAll(blocks[0], "acme+1b2c3d4e+AbCd", vendor.vendor.VerifierKey))
	page.run(blocks[1])

	port := takePorts(t)
	moved := map[string]string{}
	for i := range 3 {
		host := fmt.Sprintf("node-%d.example.com", i+1)
		moved[host+":7800"] = fmt.Sprintf("localhost:%d", port+portsPerNode*i)
		moved[host+":7801"], moved[host+":7802"] = loopback(port+portsPerNode*i+1), loopback(port+portsPerNode*i+2)
	}
	var nodes []*process
	for i := range 3 {
		place := filepath.Join(machines, fmt.Sprintf("node-%d.example.com", i+1))
		if done, err := os.ReadFile(filepath.Join(place, "done")); err != nil || !strings.Contains(string(done), "systemctl enable --now seatkeeper") {
			t.Errorf("the machine was told %q (%v)", done, err)
		}
		here := map[string]string{"/etc/seatkeeper/": place + "/", "/var/lib/seatkeeper": place + "/data"}
		for k := range 3 {
			here[fmt.Sprintf("0.0.0.0:%d", apiPort+k)] = fmt.Sprintf("0.0.0.0:%d", port+portsPerNode*i+k)
		}
		config := filepath.Join(place, "seatkeeper.yaml")
		text, err := os.ReadFile(config)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(config, []byte(replaceAll(replaceAll(string(text), moved), here)), 0o600); err != nil {
			t.Fatal(err)
		}
		nodes = append(nodes, start(t, nil, "server", "--config", config))
	}
	for i := range 3 {
		config := filepath.Join(machines, fmt.Sprintf("node-%d.example.com", i+1), "seatkeeper.yaml")
		eventually(t, "the node to be ready", func() error {
			if code, _, stderr := run(t, nil, "health", "--config", config); code != 0 {
				return fmt.Errorf("exit code %d: %s", code, stderr)
			}
			return nil
		})
	}
	document := write(t, "floating.txt", string(sampleLicence("L-1", devVendorName, []sampleFeature{seats("cad", 2, patientProfile)}, time.Now().AddDate(0, 0, -1))))
	if code, _, stderr := run(t, nil, "license", "sign", document, "--key", vendor.vendor.SignerFile, "--out", filepath.Join(dir, "floating.lic")); code != 0 {
		t.Fatal(stderr)
	}
	if out := page.run(replaceAll(blocks[2], moved)); !strings.Contains(out, "cad") || !strings.Contains(out, "node-3") {
		t.Errorf("the page ends with\n%s", out)
	}
	// What the Kubernetes page says of a forwarded port: one address, and whoever is there
	// asks the leader.
	for i := range 3 {
		page.run(fmt.Sprintf("export SEATKEEPER_FORWARD=1 SEATKEEPER_ADDR=https://localhost:%d\nseatkeeper checkout cad --user ann --host ws1", port+portsPerNode*i))
	}
	for _, n := range nodes {
		n.signal(syscall.SIGTERM)
		if code := n.exitCode(); code != 0 {
			t.Errorf("a node ends with %d: %s", code, n.stderr.String())
		}
	}
}

func TestRunbooksKubernetesPageMakesTheSecretsThatTheChartMounts(t *testing.T) {
	blocks := runbookBlocks(t, "First install: Kubernetes")
	if len(blocks) != 3 {
		t.Fatalf("%d blocks of commands, want 3", len(blocks))
	}
	dir := t.TempDir()
	page := newFollowed(t, dir)
	page.standIn("kubectl", `[ "$3" = create ] || exit 0
name=$6; shift 6
for from; do from=${from#--from-file=}; mkdir -p "cluster/$name" && cp "${from#*=}" "cluster/$name/${from%%=*}"; done`)
	page.standIn("helm", `[ "$1 $2 $3" = "install seatkeeper deploy/helm/seatkeeper" ] && ls "$7" >/dev/null`)
	page.run(blocks[0])
	page.run(blocks[1])
	for _, name := range []string{"seatkeeper-tls/tls.key", "seatkeeper-tls/ca.crt", "seatkeeper-gossip/gossip.key"} {
		if _, err := os.Stat(filepath.Join(dir, "cluster", name)); err != nil {
			t.Error(err)
		}
	}
	text, err := os.ReadFile(filepath.Join(dir, "cluster/seatkeeper-tls/tls.crt"))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"seatkeeper-2.seatkeeper-nodes.licences.svc.cluster.local", "seatkeeper.licences.svc", "localhost", defaultPeerName} {
		if err := cert.VerifyHostname(name); err != nil {
			t.Error(err)
		}
	}
}
