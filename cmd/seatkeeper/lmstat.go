package main

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// lmstatFlags are lmstat's, in any order and combined.
type lmstatFlags struct {
	all, licences, servers, vendors, active, version, seconds, help bool
	feature, licence, server, vendor                                string
	features                                                        bool // -f, with or without a name
	list                                                            string
	timeout                                                         time.Duration
}

// lmstatUsage is printed by -help and after a flag that lmstat does not have.
const lmstatUsage = `usage: lmstat [-a] [-c license_file_list] [-f [feature]] [-i [feature]] [-s [server]]
              [-S [vendor]] [-t timeout_value] [-asec] [-A] [-v] [-help]

  -a            everything                  -f [feature]  users of a feature, or of all
  -A            features in use only        -i [feature]  what the licences say
  -asec         -a, start times to a second -s [server]   servers only
  -c LIST       port@host,port@host         -S [vendor]   a vendor's features
  -t SECONDS    how long to try             -v            version
`

// lmOption takes a flag's value if the next argument is one.
func lmOption(args []string, i *int) string {
	if *i+1 < len(args) && !strings.HasPrefix(args[*i+1], "-") {
		*i++
		return args[*i]
	}
	return ""
}

func parseLmstat(args []string) (f lmstatFlags, err error) {
	for i := 0; i < len(args); i++ {
		switch arg := args[i]; arg {
		case "-a":
			f.all = true
		case "-A":
			f.active = true
		case "-asec":
			f.all, f.seconds = true, true
		case "-f":
			f.features, f.feature = true, lmOption(args, &i)
		case "-i":
			f.licences, f.licence = true, lmOption(args, &i)
		case "-s":
			f.servers, f.server = true, lmOption(args, &i)
		case "-S":
			f.vendors, f.vendor = true, lmOption(args, &i)
		case "-c":
			if f.list = lmOption(args, &i); f.list == "" {
				return f, fmt.Errorf("-c needs a list such as 7800@node-1,7800@node-2")
			}
		case "-t":
			v := lmOption(args, &i)
			n, bad := strconv.Atoi(v)
			if bad != nil || n < 1 || n > 3600 {
				return f, fmt.Errorf("-t %q: seconds, 1 to 3600", v)
			}
			f.timeout = time.Duration(n) * time.Second
		case "-v":
			f.version = true
		case "-help", "--help", "-h":
			f.help = true
		default:
			return f, fmt.Errorf("%.80q is no flag of lmstat", arg)
		}
	}
	return f, nil
}

// view is what the flags ask for: the servers alone, the vendors too, or the features.
func (f *lmstatFlags) view() lmView {
	v := lmView{Feature: f.feature, Vendor: lmVendorOrNone(f.vendor), Active: f.active && !f.all, Seconds: f.seconds}
	features := f.all || f.active || f.features || f.vendors
	v.ServersOnly = f.servers && !features
	v.NoFeatures = !features
	if f.all {
		v.Feature, v.Vendor = "", ""
	}
	if f.feature != "" {
		v.Feature = lmFeatureName(f.feature)
	}
	return v
}

func lmVendorOrNone(s string) string {
	if s == "" {
		return ""
	}
	return lmVendorName(s)
}

func (u *lmutil) lmstat(ctx context.Context, args []string) error {
	f, err := parseLmstat(args)
	switch {
	case err != nil:
		fmt.Fprintf(u.stdout, "lmstat: %v\n%s", err, lmstatUsage)
		return &exitError{code: exitError1}
	case f.help:
		fmt.Fprint(u.stdout, lmstatUsage)
		return nil
	case f.version:
		fmt.Fprintf(u.stdout, "lmstat %s build %s %s\n", lmToolVersion(), lmBuild(), lmArch())
		return nil
	}
	if err := u.connect(f.list, f.timeout); err != nil {
		return err
	}
	defer u.conn.Close()
	if f.licences {
		list, err := u.licences(ctx)
		if err != nil {
			return u.statusError(ctx, err)
		}
		list = onlyFeature(list, f.licence)
		writeLicences(u.stdout, u.now(), list)
		if f.licence != "" && len(list) == 0 {
			return u.noSuch(f.licence, lmNoFeature)
		}
		return nil
	}
	state, err := gatherState(ctx, u.conn, u.tenant())
	if err != nil {
		return u.statusError(ctx, err)
	}
	state.now = u.now()
	system := systemOf(state)
	view := f.view()
	system.narrow(f.server)
	writeSystem(u.stdout, system, view)
	switch {
	case state.status.Leader == "" && !view.ServersOnly:
		return lmVendorGone.exit()
	case view.Vendor != "" && !slices.ContainsFunc(system.Vendors, func(d *lmVendor) bool { return d.Name == view.Vendor }):
		return u.noSuch(view.Vendor, lmVendorGone)
	case view.Feature != "" && !system.has(view.Feature):
		return u.noSuch(view.Feature, lmNoFeature)
	}
	return nil
}

// noSuch says of a vendor or feature that was asked for by name that there is none.
func (u *lmutil) noSuch(name string, why *lmError) error {
	fmt.Fprintf(u.stdout, "lmstat: %s: %v\n", name, why)
	return why.exit()
}

// narrow leaves one server, if one is named that there is.
func (s *lmSystem) narrow(server string) {
	if server == "" {
		return
	}
	for _, n := range s.Nodes {
		label, _, _ := strings.Cut(n.Host, ".")
		if n.Host == server || label == server {
			s.Nodes = []lmNode{n}
			return
		}
	}
}

func (s *lmSystem) has(feature string) bool {
	for _, d := range s.Vendors {
		for _, f := range d.Features {
			if f.Name == feature {
				return true
			}
		}
	}
	return false
}

// statusError tells in lmstat's words that the cluster could not be asked.
func (u *lmutil) statusError(ctx context.Context, err error) error {
	why := u.why(ctx, err)
	lmHeading(u.stdout, u.now())
	if why == nil {
		fmt.Fprintf(u.stdout, "Error getting status: %s\n", oneLine(err.Error()))
		return &exitError{code: exitError1}
	}
	fmt.Fprintf(u.stdout, "Error getting status: %v\n", why)
	return why.exit()
}

// licences lists the lines of all installed licences.
func (u *lmutil) licences(ctx context.Context) ([]lmLicence, error) {
	answer, err := u.conn.cluster.LicenseList(ctx, &pb.LicenseListRequest{Tenant: u.tenant()})
	if err != nil {
		return nil, apiError(err)
	}
	var list []lmLicence
	for _, l := range answer.Licenses {
		for _, f := range l.Features {
			x := lmLicence{lmFeatureName(f.Feature), lmVersionOf(f.Version), lmVendorName(l.Vendor), int(f.Count), lmExpiry(f.Expiry)}
			if f.Uncounted {
				x.Count = 0
			}
			list = append(list, x)
		}
	}
	return list, nil
}

func onlyFeature(list []lmLicence, name string) []lmLicence {
	var out []lmLicence
	for _, l := range list {
		if name == "" || l.Feature == name {
			out = append(out, l)
		}
	}
	return out
}

// lmToolVersion is vA.B.C.
func lmToolVersion() string {
	v := strings.Split(strings.TrimPrefix(lmServerVersion(buildVersion()), "v"), ".")
	for len(v) < 3 {
		v = append(v, "0")
	}
	return "v" + strings.Join(v[:3], ".")
}

// lmBuild is a number: of the build if its version ends in one, else 0.
func lmBuild() string {
	if v := strings.Split(strings.TrimPrefix(lmServerVersion(buildVersion()), "v"), "."); len(v) > 3 {
		return v[3]
	}
	return "0"
}

func lmArch() string { return runtime.GOOS + "_" + runtime.GOARCH }
