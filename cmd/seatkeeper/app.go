package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// version is set by the linker in released builds.
var version = ""

// app is one run of the program.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	lookupEnv      func(string) (string, bool)

	// configFile is --config.
	configFile string
	// flags are client settings given as flags, by config key.
	flags map[string]string
	// cfg is what flags, environment, file and defaults come to.
	cfg *loadedConfig
	// clockApart is the time between two looks of doctor at a clock; 0 is the usual one.
	clockApart time.Duration
	// beforeServing is called before a server opens anything, if it is not nil. It may start
	// the program again.
	beforeServing func()
	// reloads is where signals to reload have come since the process began; nil if its command
	// knows none.
	reloads chan os.Signal
	// begun is true once a command's own code runs: an error before that is about
	// how the command was typed.
	begun bool
}

// main runs one command line and returns the exit code.
func (a *app) main(ctx context.Context, args []string) int {
	root := a.rootCommand()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	if !a.begun {
		err = asUsage(err)
	}
	return a.report(err)
}

// report prints err in one line (a config error also with the place it is at) and
// returns the exit code that goes with it.
func (a *app) report(err error) int {
	var cfg *configError
	var code *exitError
	switch {
	case errors.As(err, &cfg):
		for _, p := range cfg.problems {
			fmt.Fprintf(a.stderr, "seatkeeper: %s\n", p.line(cfg.file))
			if p.excerpt != "" {
				fmt.Fprintln(a.stderr, strings.TrimRight(p.excerpt, "\n"))
			}
		}
		return exitConfig
	case errors.As(err, &code):
		if code.err != nil {
			fmt.Fprintf(a.stderr, "seatkeeper: %s\n", oneLine(code.err.Error()))
		}
		return code.code
	}
	fmt.Fprintf(a.stderr, "seatkeeper: %s\n", oneLine(err.Error()))
	return exitError1
}

func oneLine(s string) string {
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
}

func (a *app) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "seatkeeper",
		Short: "Keeps floating licence seats on a cluster of three to five nodes",
		Long: `Seatkeeper keeps floating licence seats on a cluster of three to five nodes.

Try it:        seatkeeper dev
Take a seat:   seatkeeper run cad -- CMD…
Look:          seatkeeper status

Settings come from flags, then SEATKEEPER_* variables, then the config file, then
defaults ("seatkeeper config show" says which). Exit codes: 0 ok, 1 error, 2 usage
(status: no leader), 69 cluster unreachable, 75 no free seat, 77 not allowed,
78 bad config; run: 127 command not found, 128+n signal, else the command's own.`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			return a.prepare(cmd)
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return asUsage(err) })
	a.addGlobalFlags(root)
	root.AddGroup(
		&cobra.Group{ID: "cluster", Title: "Run a cluster:"},
		&cobra.Group{ID: "seats", Title: "Take and return seats:"},
		&cobra.Group{ID: "look", Title: "Look and operate:"},
	)
	grouped := func(id string, cmds ...*cobra.Command) {
		for _, c := range cmds {
			c.GroupID = id
			root.AddCommand(c)
		}
	}
	grouped("cluster", a.devCommand(), a.serverCommand(), a.configCommand(), a.tlsCommand(), a.healthCommand())
	grouped("seats", a.runCommand(), a.checkoutCommand(), a.checkinCommand(), a.renewCommand(),
		a.previewCommand(), a.verifyCommand(), a.borrowCommand(), a.returnCommand(), a.queueCommand(), a.bookingCommand(), a.agentCommand())
	grouped("look", a.statusCommand(), a.topCommand(), a.leasesCommand(), a.killCommand(), a.usageCommand(), a.denialsCommand(),
		a.licenseCommand(), a.membersCommand(), a.operatorCommand(), a.snapshotCommand(), a.benchCommand())
	grouped("look", a.policyCommand(), a.aclCommand(), a.tokenCommand(), a.tenantCommand(), a.doctorCommand(), a.monitorCommand())
	root.AddCommand(a.auditCommand(), a.lmutilCommand(), a.versionCommand(), a.demoCommand(), a.manCommand(), a.debugCommand())
	return root
}

// addGlobalFlags adds the flags that every command that talks to a cluster takes.
func (a *app) addGlobalFlags(root *cobra.Command) {
	a.flags = map[string]string{}
	f := root.PersistentFlags()
	f.StringVar(&a.configFile, "config", "", "config file (env SEATKEEPER_CONFIG)")
	for _, g := range []struct{ name, short, key, help string }{
		{"addr", "", "client.addr", "API addresses: host:port, http(s)://host:port or port@host, comma separated (env SEATKEEPER_ADDR)"},
		{"tenant", "", "client.tenant", "tenant (env SEATKEEPER_TENANT)"},
		{"cacert", "", "client.cacert", "CA certificate file that servers must be signed by (env SEATKEEPER_CACERT)"},
		{"client-cert", "", "client.client_cert", "client certificate file (env SEATKEEPER_CLIENT_CERT)"},
		{"client-key", "", "client.client_key", "key file of the client certificate (env SEATKEEPER_CLIENT_KEY)"},
		{"output", "o", "client.format", "output: table, json or yaml (env SEATKEEPER_FORMAT)"},
	} {
		f.VarP(&settingFlag{into: a.flags, key: g.key}, g.name, g.short, g.help)
	}
	_ = root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(
		[]string{"table", "json", "yaml"}, cobra.ShellCompDirectiveNoFileComp))
}

// settingFlag puts a flag's value beside the config key that it overrides.
type settingFlag struct {
	into map[string]string
	key  string
}

func (f *settingFlag) String() string     { return f.into[f.key] }
func (f *settingFlag) Type() string       { return "string" }
func (f *settingFlag) Set(s string) error { f.into[f.key] = s; return nil }

// prepare loads the settings before a command runs. Commands that need none of them
// (completion, help) run with a broken config file too.
func (a *app) prepare(cmd *cobra.Command) error {
	a.begun = true
	if cmd.Annotations["settings"] == "none" || cmd.Name() == "help" || hasParent(cmd, "completion") ||
		strings.HasPrefix(cmd.Name(), cobra.ShellCompRequestCmd) {
		return nil
	}
	if a.configFile == "" {
		a.configFile, _ = a.lookupEnv("SEATKEEPER_CONFIG")
	}
	cfg, err := loadConfig(a.configFile, a.lookupEnv, a.flags)
	if err != nil {
		return err
	}
	a.cfg = cfg
	if cfg.Client.Format == "csv" && cmd.Annotations["csv"] != "" {
		return nil
	}
	return checkFormat(cfg.Client.Format)
}

func hasParent(cmd *cobra.Command, name string) bool {
	return cmd.HasParent() && cmd.Parent().Name() == name
}

// noSettings marks a command that reads no client settings.
func noSettings() map[string]string { return map[string]string{"settings": "none"} }

// buildVersion is the version of this binary for people and for the cluster.
func buildVersion() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "devel"
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version of this binary",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			v := struct {
				Version string `json:"version"`
				Go      string `json:"go"`
				OS      string `json:"os"`
				Arch    string `json:"arch"`
			}{buildVersion(), runtime.Version(), runtime.GOOS, runtime.GOARCH}
			return a.print(v, func(t *table) {
				t.text("seatkeeper %s (%s, %s/%s)", v.Version, v.Go, v.OS, v.Arch)
			})
		},
	}
}

// osUser and osHost are who this process runs as and where, for principals. A
// Windows domain is left out: users and features hold no backslash elsewhere.
func osUser() string {
	u, err := user.Current()
	if err != nil {
		return ""
	}
	if i := strings.LastIndexByte(u.Username, '\\'); i >= 0 {
		return u.Username[i+1:]
	}
	return u.Username
}

func osHost() string {
	h, err := os.Hostname()
	if err != nil {
		return ""
	}
	return h
}
