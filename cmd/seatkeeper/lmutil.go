package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/seatkeeper/seatkeeper/lease"
	"github.com/seatkeeper/seatkeeper/rpc/client"
)

// lmTool is one tool of FlexNet's lmutil.
type lmTool struct {
	name, does string
	run        func(*lmutil, context.Context, []string) error
}

// lmTools are those there are here, in the order of the help.
var lmTools = []lmTool{
	{"lmborrow", "borrowed seats: -status, -return", (*lmutil).lmborrow},
	{"lmcksum", "list the lines of the licences", (*lmutil).lmcksum},
	{"lmdiag", "can a feature be checked out, and why not", (*lmutil).lmdiag},
	{"lmdown", "says what to use instead", (*lmutil).lmdown},
	{"lmhostid", "this machine's host id", (*lmutil).lmhostid},
	{"lmremove", "take a user's seat back", (*lmutil).lmremove},
	{"lmreread", "licences are always current; installs the file named by -c", (*lmutil).lmreread},
	{"lmstat", "who uses what", (*lmutil).lmstat},
	{"lmver", "version of this program", (*lmutil).lmver},
}

// lmInstead says what stands in the place of tools that there is no need for.
var lmInstead = map[string]string{
	"lmnewlog":    "usage records rotate by themselves; see seatkeeper usage",
	"lmswitch":    "the debug log's file is named in the config (debug_log_file); rotate it with logrotate",
	"lmswitchr":   "usage records rotate by themselves; see seatkeeper usage",
	"lmpath":      "addresses are set by --addr or SEATKEEPER_ADDR",
	"lminstall":   "licence files are installed by seatkeeper license apply, foreign ones read by seatkeeper license import",
	"lmtpminfo":   "seats are not tied to machines",
	"lmvminfo":    "seats are not tied to machines",
	"lmadmin":     "see seatkeeper help",
	"lmgrd":       "a node is started by seatkeeper server --config FILE",
	"lmswitchlog": "see debug_log_file in the config",
}

// lmArgs makes the command line of a program called by link: lmutil, lmstat, lmremove…
func lmArgs(args []string) []string {
	name := strings.TrimSuffix(strings.ToLower(filepath.Base(args[0])), ".exe")
	switch {
	case name == "lmutil":
		return append([]string{"lmutil"}, args[1:]...)
	case isLmTool(name):
		return append([]string{"lmutil", name}, args[1:]...)
	}
	return args[1:]
}

func isLmTool(name string) bool {
	return lmInstead[name] != "" || slices.ContainsFunc(lmTools, func(t lmTool) bool { return t.name == name })
}

// lmutil is one run of one of the tools.
type lmutil struct {
	*app
	stdout io.Writer
	conn   *conn
	now    func() time.Time
}

func (a *app) lmutilCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "lmutil TOOL [flags]",
		Short: "FlexNet's tools on this cluster: lmstat, lmremove, lmborrow, lmdiag…",
		Long: `FlexNet's flags, text and exit codes (256 - |code|), for scripts, exporters and schedulers
that know them. Linked or copied under the name lmutil, lmstat, lmremove… the program
is that tool. Servers come from -c port@host,port@host, else from --addr or
SEATKEEPER_ADDR. Names that would break a line are shown with "_" (hosts: "-") for what
cannot stand there, and are understood in that form.

Tools:
` + lmToolList(),
		DisableFlagParsing: true,
		Annotations:        noSettings(),
		RunE: func(cmd *cobra.Command, args []string) error {
			args, err := a.takeSettings(cmd, args)
			if err != nil {
				return err
			}
			return a.lmutil(cmd.Context(), args)
		},
	}
	return cmd
}

func lmToolList() string {
	var b strings.Builder
	for _, t := range lmTools {
		fmt.Fprintf(&b, "  %-9s %s\n", t.name, t.does)
	}
	return strings.TrimRight(b.String(), "\n")
}

// takeSettings takes our own --flags out of the arguments: FlexNet's have one dash.
func (a *app) takeSettings(cmd *cobra.Command, args []string) ([]string, error) {
	var rest []string
	for i := 0; i < len(args); i++ {
		name, value, given := strings.Cut(strings.TrimPrefix(args[i], "--"), "=")
		f := cmd.Root().PersistentFlags().Lookup(name)
		if !strings.HasPrefix(args[i], "--") || f == nil {
			rest = append(rest, args[i])
			continue
		}
		if !given {
			if i++; i == len(args) {
				return nil, usagef("--%s needs a value", name)
			}
			value = args[i]
		}
		if err := f.Value.Set(value); err != nil {
			return nil, usagef("--%s: %w", name, err)
		}
	}
	if a.configFile == "" {
		a.configFile, _ = a.lookupEnv("SEATKEEPER_CONFIG")
	}
	cfg, err := loadConfig(a.configFile, a.lookupEnv, a.flags)
	if err != nil {
		return nil, err
	}
	a.cfg = cfg
	return rest, nil
}

func (a *app) lmutil(ctx context.Context, args []string) error {
	if len(args) == 0 || args[0] == "-help" || args[0] == "--help" || args[0] == "-h" {
		fmt.Fprintf(a.stdout, "usage: lmutil TOOL [flags]\n\n%s\n", lmToolList())
		return nil
	}
	u := &lmutil{app: a, stdout: a.stdout, now: time.Now}
	for _, t := range lmTools {
		if t.name == args[0] {
			return t.run(u, ctx, args[1:])
		}
	}
	if instead := lmInstead[args[0]]; instead != "" {
		fmt.Fprintf(a.stdout, "%s: not needed here: %s\n", args[0], instead)
		return &exitError{code: exitError1}
	}
	return usagef("lmutil has no tool %q: seatkeeper lmutil -help lists them", args[0])
}

func (u *lmutil) tenant() string { return u.cfg.Client.Tenant }

// connect prepares calls to the servers of -c LIST, or of the settings.
func (u *lmutil) connect(list string, timeout time.Duration) error {
	addresses, err := lmServers(list)
	if err != nil {
		fmt.Fprintf(u.stdout, "%v\n", lmNoFile)
		return lmNoFile.exit()
	}
	if addresses != "" {
		u.cfg.Client.Addr = addresses
	}
	if timeout == 0 {
		timeout = callTimeout
	}
	u.conn, err = dialCluster(u.cfg.Client, timeout)
	return err
}

// why words an error of the API as FlexNet would; nil if it has no word for it.
func (u *lmutil) why(ctx context.Context, err error) *lmError {
	switch {
	case isUnreachable(err):
		return whyUnreachable(ctx, splitList(u.cfg.Client.Addr))
	case reasonOf(err) == string(lease.Forbidden), reasonOf(err) == string(client.Unauthenticated):
		return lmNotAdmin
	}
	return nil
}

// fail prints an error as the tool of this name does and gives its exit code.
func (u *lmutil) fail(ctx context.Context, tool string, err error) error {
	why := (*lmError)(nil)
	if !errors.As(err, &why) {
		why = u.why(ctx, err)
	}
	if why == nil {
		fmt.Fprintf(u.stdout, "%s failed: %s\n", tool, oneLine(err.Error()))
		return &exitError{code: exitError1}
	}
	fmt.Fprintf(u.stdout, "%s failed: %v\n", tool, why)
	return why.exit()
}
