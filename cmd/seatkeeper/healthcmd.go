package main

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"
)

const (
	// healthTimeout bounds one look at a node: supervisors ask every few seconds, and a
	// node that needs longer for a word is not well.
	healthTimeout = 3 * time.Second
	// maxHealthAnswer bounds what is read of the answer: it is one line.
	maxHealthAnswer = 4 << 10
)

func (a *app) healthCommand() *cobra.Command {
	var live bool
	cmd := &cobra.Command{
		Use:   "health --config FILE",
		Short: "Ask this host's node whether it is ready; for supervisors and container images",
		Long: `Asks the node that runs with this config file, at its own address, whether it is ready:
it knows a leader and has applied something of the log. It needs no token, and with TLS
shows the node's own certificate. Exits 0 when ready, 1 when not, 69 when nobody answers.`,
		Args:        cobra.NoArgs,
		Annotations: noSettings(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := a.loadServerConfig(nil)
			if err != nil {
				return err
			}
			path := "/readyz"
			if live {
				path = "/livez"
			}
			answer, err := askHealth(cmd.Context(), &l.Config, path)
			if err != nil {
				return err
			}
			_, err = io.WriteString(a.stdout, answer)
			return err
		},
	}
	cmd.Flags().BoolVar(&live, "live", false, "ask only whether the process answers, leader or not")
	return cmd
}

// askHealth gets one of the pages for supervisors from the node of a config, and returns
// what stands there; a node that is not well is an error.
func askHealth(ctx context.Context, c *Config, path string) (string, error) {
	transport := &http.Transport{DisableKeepAlives: true, Proxy: nil} // the node is on this host
	scheme := "http"
	if c.TLS.Cert != "" {
		certs, err := openCertFiles(c.TLS, hclog.NewNullLogger())
		if err != nil {
			return "", exitf(exitConfig, "%w", err)
		}
		scheme, transport.TLSClientConfig = "https", certs.dialNode()
		transport.TLSClientConfig.MinVersion = tls.VersionTLS13
	}
	address := ownAddress(c.API.Bind)
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+address+path, nil)
	if err != nil {
		return "", err
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return "", exitf(exitUnreachable, "no node answers at %s: %w: is the server running with this config?", address, cause(err))
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxHealthAnswer))
	if err != nil {
		return "", exitf(exitUnreachable, "%s: %w", address, err)
	}
	if resp.StatusCode != http.StatusOK {
		return "", exitf(exitError1, "%s: %s", address, strings.TrimSpace(string(text)))
	}
	return string(text), nil
}

// ownAddress is where this host reaches what is bound to bind.
func ownAddress(bind string) string {
	host, port, err := net.SplitHostPort(bind)
	if err != nil || !isWildcard(host) {
		return bind
	}
	if strings.Contains(host, ":") {
		return net.JoinHostPort("::1", port)
	}
	return net.JoinHostPort("127.0.0.1", port)
}

// cause is the system's own word, without the address in front.
func cause(err error) error {
	var op *net.OpError
	if errors.As(err, &op) && op.Err != nil {
		return op.Err
	}
	return err
}
