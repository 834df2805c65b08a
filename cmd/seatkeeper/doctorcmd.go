package main

import (
	"cmp"
	"errors"

	"github.com/spf13/cobra"
)

func (a *app) doctorCommand() *cobra.Command {
	var quiet bool
	cmd := &cobra.Command{
		Use:   "doctor [LICENCE-FILE...]",
		Short: "Find what is wrong with a cluster, its network, clocks, disks and licences",
		Long: `Looks at every node that it finds and lets each of them look at the others, so that a
network that is open in one direction only shows. On a node, --config FILE also looks at
its config, keys, names and disk, whether it runs or not. Licence files are looked at as
the cluster would when they are applied.

Each finding says what is, and what to do. Works with nodes down and without a leader, and
ends within 40 seconds. Where the cluster has tokens it wants one of an operator. Exits 0
when nothing failed, 1 when something did, 69 when no node answers.`,
		Annotations: noSettings(), // a config with mistakes is one of the things to find
		RunE: func(cmd *cobra.Command, files []string) error {
			d, err := a.newDoctor(files)
			if err != nil {
				return err
			}
			r := d.examine(cmd.Context())
			if quiet {
				r.Findings = problemsOf(r.Findings)
			}
			if err := a.print(r, func(t *table) { drawReport(t, r) }); err != nil {
				return err
			}
			switch {
			case r.Reached == 0:
				return exitf(exitUnreachable, "no node answers; what was found says why")
			case r.Failed > 0:
				return &exitError{code: exitError1}
			}
			return nil
		},
	}
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "show only what is wrong")
	return cmd
}

// newDoctor prepares an examination by the settings. A config file that cannot be read is
// found, and the rest is done without it.
func (a *app) newDoctor(files []string) (*doctor, error) {
	if a.configFile == "" {
		a.configFile, _ = a.lookupEnv("SEATKEEPER_CONFIG")
	}
	d := &doctor{files: files, tryDir: tryDir, apart: cmp.Or(a.clockApart, clockApart)}
	cfg, err := loadConfig(a.configFile, a.lookupEnv, a.flags)
	var bad *configError
	if a.configFile != "" && errors.As(err, &bad) {
		d.badConfig(bad)
		cfg, err = loadConfig("", a.lookupEnv, a.flags)
	} else if a.configFile != "" && err == nil {
		d.server = cfg
	}
	if err != nil {
		return nil, err
	}
	a.cfg = cfg
	if err := checkFormat(cfg.Client.Format); err != nil {
		return nil, err
	}
	d.client = cfg.Client
	if t := cfg.TLS; t.Cert != "" { // on the node itself its own files will do
		if d.client.CACert == "" {
			d.client.CACert = t.CA
		}
		if d.client.ClientCert == "" && t.ClientCerts != clientCertsNone {
			d.client.ClientCert, d.client.ClientKey = t.Cert, t.Key
		}
	}
	return d, nil
}

func problemsOf(list []finding) (rest []finding) {
	for _, x := range list {
		if x.Level != levelOK {
			rest = append(rest, x)
		}
	}
	return rest
}

func drawReport(t *table, r *doctorReport) {
	mark := map[string]string{levelOK: "ok  ", levelWarn: "WARN", levelFail: "FAIL"}
	for _, x := range r.Findings {
		t.text("%s  %s: %s", mark[x.Level], x.Check, x.What)
		if x.Do != "" {
			t.text("      do: %s", x.Do)
		}
	}
	t.text("%d failed, %d warnings, %d ok; %d nodes answered", r.Failed, r.Warnings, r.OK, r.Reached)
}
