package main

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/seatkeeper/seatkeeper/lease"
	"github.com/seatkeeper/seatkeeper/lease/license"
	"github.com/seatkeeper/seatkeeper/rpc"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

func (a *app) licenseCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "license",
		Aliases: []string{"licence"},
		Short:   "Sign, check and install licence files",
		Long: `A vendor makes a key pair once (keygen), writes a document and signs it (sign). A
customer puts the verifier key into trusted_keys of every node and installs the
signed file (apply). inspect shows what a file claims, verify whether to believe it.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.licenseKeygenCommand(), a.licenseSignCommand(), a.licenseVerifyCommand(),
		a.licenseInspectCommand(), a.licenseApplyCommand(), a.licenseListCommand(), a.licenseRemoveCommand(), a.licenseImportCommand())
	return cmd
}

func (a *app) licenseKeygenCommand() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:   "keygen VENDOR",
		Short: "Make a vendor's key pair: VENDOR.signer.key (secret) and VENDOR.verifier.key",
		Args:  cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			signer, verifier, err := license.GenerateKey(args[0])
			if err != nil {
				return usagef("%w", err)
			}
			prefix := args[0]
			if out != "" {
				prefix = out
			}
			secretFile, publicFile := prefix+".signer.key", prefix+".verifier.key"
			if err := writeNew(secretFile, signer+"\n", 0o600); err != nil {
				return err
			}
			if err := writeNew(publicFile, verifier+"\n", 0o644); err != nil {
				return err
			}
			return a.print(map[string]string{"vendor": args[0], "verifier_key": verifier, "signer_key_file": secretFile, "verifier_key_file": publicFile},
				func(t *table) {
					t.text("%s", verifier)
					t.text("keep %s secret; customers put the line above into trusted_keys", secretFile)
				})
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "file name prefix (default VENDOR)")
	return cmd
}

// writeNew writes a file that must not be there yet.
func writeNew(name, text string, mode os.FileMode) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if errors.Is(err, fs.ErrExist) {
		return exitf(exitError1, "%s is there already: move it away or choose another name with --out", name)
	}
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// readInput reads a file, or stdin for "-".
func (a *app) readInput(name string, limit int64) ([]byte, error) {
	if name == "-" {
		return io.ReadAll(io.LimitReader(a.stdin, limit+1))
	}
	data, err := readLimited(name, limit)
	if err != nil {
		return nil, exitf(exitError1, "%s: %s", name, fileMessage(err))
	}
	return data, nil
}

// maxLicenceInput is beyond what the licence package takes, so that its own message
// is shown for a file that is too large.
const maxLicenceInput = 64 * license.MaxFileBytes

func (a *app) licenseSignCommand() *cobra.Command {
	var keyFile, out string
	cmd := &cobra.Command{
		Use:   "sign DOCUMENT --key FILE",
		Short: "Sign a licence document (- for stdin)",
		Args:  cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if keyFile == "" {
				return usagef("no key: add --key FILE with the signer key of seatkeeper license keygen")
			}
			key, err := a.readInput(keyFile, maxStateBytes)
			if err != nil {
				return err
			}
			document, err := a.readInput(args[0], maxLicenceInput)
			if err != nil {
				return err
			}
			signed, err := license.Sign(document, string(key))
			if err != nil {
				return exitf(exitError1, "%s: %w", args[0], err)
			}
			if out == "" || out == "-" {
				_, err = a.stdout.Write(signed)
				return err
			}
			return writeNew(out, string(signed), 0o644)
		},
	}
	cmd.Flags().StringVar(&keyFile, "key", "", "file with the vendor's signer key")
	cmd.Flags().StringVar(&out, "out", "", "write the signed file here (default stdout)")
	return cmd
}

func (a *app) licenseVerifyCommand() *cobra.Command {
	var keys []string
	cmd := &cobra.Command{
		Use:   "verify FILE",
		Short: "Check that a trusted vendor signed a licence file and nobody changed it",
		Long: `Checks the signature with the keys of --key (a verifier key, or a file that holds
one), else with trusted_keys of the config file. Dates are judged by this host's clock.`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			trusted, err := verifierKeys(keys)
			if err != nil {
				return err
			}
			if len(keys) == 0 {
				trusted = a.cfg.TrustedKeys
			}
			file, err := a.readInput(args[0], maxLicenceInput)
			if err != nil {
				return err
			}
			l, err := license.Verify(file, trusted)
			if err != nil {
				return exitf(exitError1, "%s: %w", args[0], err)
			}
			now := lease.CalendarOf(time.Now())
			// The cluster it is bound to is not known here; the dates are.
			if err := license.Check(l, l.Cluster, now); err != nil {
				return exitf(exitError1, "%s: %w", args[0], err)
			}
			return a.print(rpc.LicenseMessage(l, nil, now), func(t *table) {
				t.text("%s is good: licence %s of %s for tenant %s, %d feature(s)", args[0], l.ID, l.Vendor, l.Tenant, len(l.Entitlements))
			})
		},
	}
	cmd.Flags().StringArrayVar(&keys, "key", nil, "verifier key, or a file that holds one (repeatable)")
	return cmd
}

// verifierKeys reads keys given by value or by file.
func verifierKeys(given []string) ([]string, error) {
	var keys []string
	for _, k := range given {
		if _, err := license.VendorOf(k); err == nil {
			keys = append(keys, k)
			continue
		}
		data, err := readLimited(k, maxStateBytes)
		if err != nil {
			return nil, exitf(exitError1, "%s is neither a verifier key nor a file that holds one", k)
		}
		keys = append(keys, strings.TrimSpace(string(data)))
	}
	return keys, nil
}

func (a *app) licenseInspectCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "inspect FILE",
		Short: "Show what a licence file claims, believing nothing",
		Args:  cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			file, err := a.readInput(args[0], maxLicenceInput)
			if err != nil {
				return err
			}
			l, signedBy, err := license.Inspect(file)
			if err != nil {
				return exitf(exitError1, "%s: %w", args[0], err)
			}
			m := rpc.LicenseMessage(l, nil, lease.CalendarOf(time.Now()))
			return a.print(m, func(t *table) {
				if signedBy == "" {
					signedBy = "nobody"
				}
				t.text("licence %s  vendor %s  tenant %s  cluster %s  issued %s", m.Id, m.Vendor, m.Tenant, orAny(m.Cluster), day(m.Issued))
				t.text("signed by %s (not checked here: seatkeeper license verify)", signedBy)
				drawFeatures(t, []*pb.License{m})
			})
		},
	}
}

func orAny(cluster string) string {
	if cluster == "" {
		return "any"
	}
	return cluster
}

// day is the date of an RFC 3339 time.
func day(s string) string {
	date, _, _ := strings.Cut(s, "T")
	return date
}

func (a *app) licenseApplyCommand() *cobra.Command {
	var replace bool
	cmd := &cobra.Command{
		Use:   "apply FILE",
		Short: "Install a signed licence file on the cluster (- for stdin)",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			file, err := a.readInput(args[0], maxLicenceInput)
			if err != nil {
				return err
			}
			if _, _, err := license.Inspect(file); license.CodeOf(err) == license.TooLarge {
				return exitf(exitError1, "%s: %w", args[0], err) // too large to be sent
			}
			answer, err := a.applyLicence(cmd.Context(), file, replace)
			if err != nil {
				return err
			}
			return a.print(answer, func(t *table) { drawFeatures(t, []*pb.License{answer.License}) })
		},
	}
	cmd.Flags().BoolVar(&replace, "replace", false, "put it in the place of the installed licence with the same id")
	return cmd
}

func (a *app) applyLicence(ctx context.Context, file []byte, replace bool) (*pb.LicenseApplyResponse, error) {
	c, err := a.dial(0)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	answer, err := c.cluster.LicenseApply(ctx, &pb.LicenseApplyRequest{File: file, Replace: replace})
	return answer, apiError(err)
}

func (a *app) licenseListCommand() *cobra.Command {
	var text bool
	cmd := &cobra.Command{
		Use:   "list [ID]",
		Short: "List installed licences",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			req := &pb.LicenseListRequest{Tenant: a.cfg.Client.Tenant}
			if len(args) == 1 {
				req.Id = args[0]
			} else if text {
				return usagef("--text shows one licence: name it")
			}
			c, err := a.dial(0)
			if err != nil {
				return err
			}
			defer c.Close()
			answer, err := c.cluster.LicenseList(cmd.Context(), req)
			if err != nil {
				return apiError(err)
			}
			if req.Id != "" && len(answer.Licenses) == 0 {
				return exitf(exitError1, "no licence %q in tenant %s: see seatkeeper license list", req.Id, req.Tenant)
			}
			if text {
				_, err = a.stdout.Write(answer.Licenses[0].File)
				return err
			}
			return a.print(answer, func(t *table) { drawFeatures(t, answer.Licenses) })
		},
	}
	cmd.Flags().BoolVar(&text, "text", false, "print the signed file of licence ID")
	return cmd
}

func (a *app) licenseRemoveCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "remove ID",
		Short: "Take a licence away; seats in use beyond what is left stay until returned",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.dial(0)
			if err != nil {
				return err
			}
			defer c.Close()
			answer, err := c.cluster.LicenseRemove(cmd.Context(), &pb.LicenseRemoveRequest{Tenant: a.cfg.Client.Tenant, Id: args[0]})
			if err != nil {
				return apiError(err)
			}
			return a.print(answer, func(t *table) { t.text("licence %s removed", args[0]) })
		},
	}
}
