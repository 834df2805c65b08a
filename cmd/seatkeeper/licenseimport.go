package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/seatkeeper/seatkeeper/lease"
	"github.com/seatkeeper/seatkeeper/lease/license"
)

// importFlags are what a FlexNet file does not say.
type importFlags struct {
	id, cluster, issued, tz, profile, vendor, out, account string
	strict                                                 bool
}

func (a *app) licenseImportCommand() *cobra.Command {
	var f importFlags
	cmd := &cobra.Command{
		Use:   "import FILE... --id ID",
		Short: "Turn FlexNet licence files into a document to be signed",
		Long: `Reads FlexNet licence files and writes a licence document, unsigned, and an account of
what each line became, or why it did not. Signatures in the files cannot be checked:
sign the document with your own key (seatkeeper license sign) once you have read it.

The document goes to stdout or to --out, the account to stderr or to --account. With
-o json or yaml both go to stdout in one answer. Lines of several vendors make several
documents: choose one with --vendor, or name a folder with --out DIR/.`,
		Example: `  seatkeeper license import license.dat --id site-4711 --tz +01:00 --out site.txt
  seatkeeper license sign site.txt --key acme.signer.key --out site.lic
  seatkeeper license apply site.lic`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return a.importLicences(args, f) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.id, "id", "", "id of the licence; needed, and the same when the file is imported again")
	flags.StringVar(&f.cluster, "cluster", "any", "id of the only cluster that may use it")
	flags.StringVar(&f.issued, "issued", "", "date of issue, 2026-02-10 (default today)")
	flags.StringVar(&f.tz, "tz", "+00:00", "where the days of the file's dates are: offset of the licence server from UTC")
	flags.StringVar(&f.profile, "profile", "default", "how long leases live without a heartbeat: "+strings.Join(license.ProfileNames(), ", "))
	flags.StringVar(&f.vendor, "vendor", "", "write the document of this vendor only")
	flags.StringVar(&f.out, "out", "", "write the document here, or into this folder if it ends with / (default stdout)")
	flags.StringVar(&f.account, "account", "", "write the account here (default stderr)")
	flags.BoolVar(&f.strict, "strict", false, "end with an error if a line could not be taken over")
	return cmd
}

func (a *app) importLicences(args []string, f importFlags) error {
	options, err := f.options(a.cfg.Client.Tenant, time.Now())
	if err != nil {
		return err
	}
	var sources []license.Source
	for _, name := range args {
		data, err := a.readInput(name, license.MaxImportBytes)
		if err != nil {
			return err
		}
		sources = append(sources, license.Source{Name: filepath.Base(name), Data: data})
	}
	m, failure := license.ImportFlexNet(sources, options)
	m.Keep(f.vendor)
	if format := a.cfg.Client.Format; format != "table" {
		if err := a.print(importAnswerOf(&m), nil); err != nil {
			return err
		}
	} else {
		if err := a.writeAccount(&m, f.account); err != nil {
			return err
		}
		if failure == nil {
			failure = a.writeDocuments(&m, f)
		}
	}
	switch n := m.Summary(); {
	case failure != nil:
		return exitf(exitError1, "%s: %w", strings.Join(args, " "), failure)
	case f.strict && n[license.NotTaken]+n[license.NotKnown] > 0:
		return exitf(exitError1, "%d lines could not be taken over: see the account", n[license.NotTaken]+n[license.NotKnown])
	}
	return nil
}

func (f *importFlags) options(tenant string, now time.Time) (o license.ImportOptions, err error) {
	if f.id == "" {
		return o, usagef("no id: add --id ID, which names the licence for apply --replace and remove")
	}
	o = license.ImportOptions{ID: f.id, Tenant: tenant, Cluster: f.cluster}
	if o.Cluster == "any" {
		o.Cluster = ""
	}
	if f.issued == "" {
		f.issued = now.UTC().Format(time.DateOnly)
	}
	if o.Issued, err = license.ParseDay(f.issued); err != nil {
		return o, usagef("--issued %w", err)
	}
	if o.Zone, err = license.ParseZone(f.tz); err != nil {
		return o, usagef("--tz %w", err)
	}
	profile, ok := lease.Profiles[f.profile]
	if !ok {
		return o, usagef("--profile %s: use %s", f.profile, strings.Join(license.ProfileNames(), ", "))
	}
	o.Profile = profile
	return o, nil
}

// writeAccount says what became of each line.
func (a *app) writeAccount(m *license.Import, file string) error {
	out := a.stderr
	if file != "" {
		w, err := os.Create(file)
		if err != nil {
			return err
		}
		defer w.Close()
		out = w
	}
	for _, l := range m.Account {
		fmt.Fprintf(out, "%s:%d:%d: %s %s: %s: %s\n", l.File, l.Line, l.Column, l.Keyword, l.Name, l.Outcome, l.Became)
		for _, n := range l.Notes {
			fmt.Fprintf(out, "  %s:%d:%d: %s\n", l.File, n.Line, n.Column, n.Text)
		}
	}
	n := m.Summary()
	_, err := fmt.Fprintf(out, "%d lines: %d imported, %d not needed, %d replaced by others, %d rejected, %d unknown; %d comments\n", len(m.Account),
		n[license.Imported], n[license.NotNeeded], n[license.Replaced], n[license.NotTaken], n[license.NotKnown], m.Comments)
	return err
}

func (a *app) writeDocuments(m *license.Import, f importFlags) error {
	var vendors []string
	for _, d := range m.Documents {
		vendors = append(vendors, d.Vendor)
	}
	folder := strings.HasSuffix(f.out, "/") || strings.HasSuffix(f.out, string(os.PathSeparator))
	switch {
	case len(vendors) == 0:
		return fmt.Errorf("no line of vendor %q could be imported", f.vendor)
	case folder:
		for _, d := range m.Documents {
			if err := writeNew(filepath.Join(f.out, d.Licence.ID+".txt"), string(d.Text), 0o644); err != nil {
				return err
			}
		}
		return nil
	case len(vendors) > 1:
		return fmt.Errorf("the lines are of %d vendors (%s), each of whom signs for itself: add --vendor NAME, or --out FOLDER/", len(vendors), strings.Join(vendors, ", "))
	case f.out == "" || f.out == "-":
		_, err := a.stdout.Write(m.Documents[0].Text)
		return err
	}
	return writeNew(f.out, string(m.Documents[0].Text), 0o644)
}

// importAnswer is the whole import in the words of JSON.
type importAnswer struct {
	Documents []importDocument        `json:"documents"`
	Account   []license.LineAccount   `json:"account"`
	Summary   map[license.Outcome]int `json:"summary"`
	Comments  int                     `json:"comments"`
}

type importDocument struct {
	License  string `json:"license"`
	Vendor   string `json:"vendor"`
	Features int    `json:"features"`
	Text     string `json:"text"`
}

func importAnswerOf(m *license.Import) importAnswer {
	answer := importAnswer{Documents: []importDocument{}, Account: m.Account, Summary: m.Summary(), Comments: m.Comments}
	for _, d := range m.Documents {
		answer.Documents = append(answer.Documents, importDocument{d.Licence.ID, d.Vendor, len(d.Licence.Entitlements), string(d.Text)})
	}
	return answer
}
