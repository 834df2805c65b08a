package main

import (
	"net"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/spf13/cobra"
)

const oneDay = 24 * time.Hour

func (a *app) tlsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "tls",
		Short: "Make certificates for nodes and clients",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	ca := &cobra.Command{Use: "ca", Short: "The certificate authority of a cluster", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cert := &cobra.Command{Use: "cert", Short: "Certificates signed by it", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	ca.AddCommand(a.caCreateCommand())
	cert.AddCommand(a.certCreateCommand())
	cmd.AddCommand(ca, cert)
	return cmd
}

// made is what the tls commands print.
type made struct {
	Cert    string   `json:"cert"`
	Key     string   `json:"key"`
	Name    string   `json:"name"`
	Hosts   []string `json:"hosts,omitempty"`
	Expires string   `json:"expires"`
}

func (a *app) caCreateCommand() *cobra.Command {
	var dir, name string
	var days int
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Make a CA: ca.pem for every node and client, ca-key.pem to be kept away from them",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if days < 1 || days > maxCADays {
				return usagef("--days %d: use 1 to %d", days, maxCADays)
			}
			if err := checkCommonName(name); err != nil {
				return err
			}
			now := time.Now()
			certPEM, keyPEM, err := mintCA(name, time.Duration(days)*oneDay, now)
			if err != nil {
				return err
			}
			return a.keepPair(dir, "ca", made{Name: name, Expires: now.Add(time.Duration(days) * oneDay).UTC().Format(time.RFC3339)}, certPEM, keyPEM)
		},
	}
	f := cmd.Flags()
	f.StringVar(&dir, "dir", ".", "folder for the files")
	f.StringVar(&name, "name", "Seatkeeper CA", "what the CA is called")
	f.IntVar(&days, "days", 3650, "how long it is valid")
	return cmd
}

func (a *app) certCreateCommand() *cobra.Command {
	var dir, peer string
	var hosts []string
	var client bool
	var days int
	cmd := &cobra.Command{
		Use:   "create NAME",
		Short: "Make NAME.pem and NAME-key.pem, for a node or (--client) a user",
		Long: `Makes a certificate with the CA in --dir (ca.pem, ca-key.pem).

A node's is valid for NAME, localhost and each --host: give every name and address that
clients reach the node by. A client's has NAME as its user and can serve nothing.`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			kind := certKind{name: args[0], client: client, hosts: hosts, peer: peer}
			if err := kind.check(days); err != nil {
				return err
			}
			ca, caKey, err := readCA(filepath.Join(dir, "ca.pem"), filepath.Join(dir, "ca-key.pem"))
			if err != nil {
				return err
			}
			now := time.Now()
			if now.After(ca.NotAfter) {
				return exitf(exitError1, "the CA has expired on %s: make a new one in another folder", ca.NotAfter.Format(time.DateOnly))
			}
			certPEM, keyPEM, err := mintCert(ca, caKey, kind, time.Duration(days)*oneDay, now)
			if err != nil {
				return err
			}
			ends := now.Add(time.Duration(days) * oneDay)
			if ends.After(ca.NotAfter) {
				ends = ca.NotAfter
			}
			return a.keepPair(dir, args[0], made{Name: args[0], Hosts: hosts, Expires: ends.UTC().Format(time.RFC3339)}, certPEM, keyPEM)
		},
	}
	f := cmd.Flags()
	f.StringVar(&dir, "dir", ".", "folder of the CA, and for the files")
	f.StringSliceVar(&hosts, "host", nil, "DNS name or address of the node (repeat or separate by commas)")
	f.BoolVar(&client, "client", false, "for a user or program instead of a node")
	f.StringVar(&peer, "peer-name", defaultPeerName, "tls.peer_name of the nodes")
	f.IntVar(&days, "days", 365, "how long it is valid (at most as long as the CA)")
	return cmd
}

var (
	// fileName keeps a certificate's files within their folder.
	fileName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$`)
	dnsName  = regexp.MustCompile(`^(\*\.)?[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*$`)
)

func (k certKind) check(days int) error {
	switch {
	case days < 1 || days > maxCertDays:
		return usagef("--days %d: use 1 to %d", days, maxCertDays)
	case !fileName.MatchString(k.name):
		return usagef("%.80q: a name has up to 64 letters, digits, dots, dashes, underscores and @", k.name)
	case k.name == "ca":
		return usagef("ca is the CA's own name: choose another one")
	case k.client && len(k.hosts) > 0:
		return usagef("a client's certificate names no host: leave out --host or --client")
	case !k.client && !dnsName.MatchString(k.name):
		return usagef("%.80q is no name for a node: use letters, digits, dots and dashes", k.name)
	case !dnsName.MatchString(k.peer):
		return usagef("--peer-name %.80q is no DNS name", k.peer)
	}
	for _, h := range k.hosts {
		if net.ParseIP(h) == nil && !dnsName.MatchString(h) {
			return usagef("--host %.80q is neither a DNS name nor an address (leave the port out)", h)
		}
	}
	return nil
}

func checkCommonName(name string) error {
	if len(name) < 1 || len(name) > 64 {
		return usagef("--name: give 1 to 64 characters")
	}
	return nil
}

func (a *app) keepPair(dir, name string, m made, certPEM, keyPEM []byte) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return exitf(exitError1, "%s: %s", dir, fileMessage(err))
	}
	var err error
	if m.Cert, m.Key, err = writePair(filepath.Join(dir, name), certPEM, keyPEM); err != nil {
		return err
	}
	return a.print(m, func(t *table) {
		t.text("wrote %s and %s (mode 0600), valid until %s", m.Cert, m.Key, m.Expires[:len(time.DateOnly)])
	})
}
