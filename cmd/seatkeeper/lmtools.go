package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"github.com/seatkeeper/seatkeeper/lease"
	"github.com/seatkeeper/seatkeeper/lease/license"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// lmList takes -c LIST out of a tool's arguments.
func lmList(args []string) (list string, rest []string) {
	for i := 0; i < len(args); i++ {
		if args[i] == "-c" && i+1 < len(args) {
			i++
			list = args[i]
			continue
		}
		rest = append(rest, args[i])
	}
	return list, rest
}

// lmver prints the version of this program.
func (u *lmutil) lmver(context.Context, []string) error {
	fmt.Fprintf(u.stdout, "lmver - Seatkeeper lmstat-format view\nSeatkeeper %s build %s (%s)\n", lmToolVersion(), lmBuild(), lmArch())
	return nil
}

// lmhostid prints what FlexNet would take for this machine's host id. Licences here are
// bound to a cluster at most, never to a machine.
func (u *lmutil) lmhostid(_ context.Context, args []string) error {
	kind := "-ether"
	if len(args) > 0 {
		kind = args[len(args)-1]
	}
	var id string
	switch kind {
	case "-hostname":
		id = "HOSTNAME=" + osHost()
	case "-user":
		id = "USER=" + osUser()
	case "-internet":
		id = "INTERNET=" + outwardAddress()
	default:
		id = strings.Join(etherIDs(), " ")
	}
	fmt.Fprintf(u.stdout, "lmhostid - Seatkeeper lmstat-format view\nThe FlexNet host ID of this machine is %q\n", id)
	fmt.Fprintln(u.stdout, "Seatkeeper's licences are not bound to a machine; a licence may name a cluster (seatkeeper status shows its id).")
	return nil
}

func etherIDs() (ids []string) {
	all, _ := net.Interfaces()
	for _, i := range all {
		if len(i.HardwareAddr) == 6 && i.Flags&net.FlagLoopback == 0 {
			ids = append(ids, strings.ReplaceAll(i.HardwareAddr.String(), ":", ""))
		}
	}
	return ids
}

func outwardAddress() string {
	all, _ := net.InterfaceAddrs()
	for _, a := range all {
		if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() && n.IP.To4() != nil {
			return n.IP.String()
		}
	}
	return "127.0.0.1"
}

// lmdown refuses: a cluster is stopped node by node, by whoever started it.
func (u *lmutil) lmdown(context.Context, []string) error {
	fmt.Fprintln(u.stdout, "lmdown: refused: a Seatkeeper cluster is not stopped from afar. Stop one node at a time with what started it (systemctl stop seatkeeper, or SIGTERM to seatkeeper server); before that, seatkeeper operator raft transfer-leader hands leadership on.")
	return &exitError{code: exitNotAllowed}
}

// lmreread installs the signed licence file that -c names. Otherwise there is nothing to
// read: licences are part of the cluster's state.
func (u *lmutil) lmreread(ctx context.Context, args []string) error {
	list, _ := lmList(args)
	fmt.Fprintln(u.stdout, "lmreread - Seatkeeper lmstat-format view")
	var file []byte
	if list != "" && !strings.Contains(list, "@") {
		var err error
		if file, err = readLimited(list, maxLicenceFile); err != nil && !errors.Is(err, os.ErrNotExist) {
			return u.fail(ctx, "lmreread", err)
		}
		if err != nil {
			return u.fail(ctx, "lmreread", lmNoFile)
		}
		list = serverLines(string(file))
	}
	if err := u.connect(list, 0); err != nil {
		return err
	}
	defer u.conn.Close()
	if file == nil {
		installed, err := u.licences(ctx)
		if err != nil {
			return u.fail(ctx, "lmreread", err)
		}
		fmt.Fprintf(u.stdout, "nothing to read again: %s installed in the cluster. A changed file is installed by: seatkeeper license apply FILE --replace\n", plural(len(installed), "feature line"))
		return nil
	}
	answer, err := u.conn.cluster.LicenseApply(ctx, &pb.LicenseApplyRequest{File: file, Replace: true})
	if err != nil {
		return u.fail(ctx, "lmreread", apiError(err))
	}
	fmt.Fprintf(u.stdout, "licence %s of %s is installed: %s\n", answer.License.Id, answer.License.Vendor, plural(len(answer.License.Features), "feature line"))
	return nil
}

// lmcksum lists the lines of the file that -c names, FlexNet's or our own, else those of the
// installed licences. No checksum is shown: the signatures of installed licences were
// checked when they were installed, and those of FlexNet's files cannot be.
func (u *lmutil) lmcksum(ctx context.Context, args []string) error {
	list, _ := lmList(args)
	fmt.Fprintln(u.stdout, "lmcksum - Seatkeeper lmstat-format view")
	if list != "" && !strings.Contains(list, "@") {
		return u.lmcksumFile(ctx, list)
	}
	if err := u.connect(list, 0); err != nil {
		return err
	}
	defer u.conn.Close()
	lines, err := u.licences(ctx)
	if err != nil {
		return u.fail(ctx, "lmcksum", err)
	}
	writeCksums(u.stdout, lines)
	return nil
}

func writeCksums(w io.Writer, lines []lmLicence) {
	seen := map[string]bool{}
	for _, l := range lines {
		word := "FEATURE"
		if seen[l.Feature] {
			word = "INCREMENT"
		}
		seen[l.Feature] = true
		fmt.Fprintf(w, "%s %s %s %s %s %s\n", word, l.Feature, l.Vendor, l.Version, l.Expiry, lmCount(l.Count))
	}
}

// lmcksumFile lists the lines of one licence file; it exits -2 if some have not all fields.
func (u *lmutil) lmcksumFile(ctx context.Context, name string) error {
	data, err := readLimited(name, license.MaxImportBytes)
	if err != nil {
		return u.fail(ctx, "lmcksum", lmNoFile)
	}
	fmt.Fprintln(u.stdout, name)
	if l, _, err := license.Inspect(data); err == nil {
		writeCksums(u.stdout, licenceLines(l))
		return nil
	}
	bad := false
	for _, l := range license.ListFlexNet(data) {
		if bad = bad || l.Problem != ""; l.Problem != "" {
			fmt.Fprintf(u.stdout, "line %d: %s\n", l.Line, l.Problem)
			continue
		}
		fmt.Fprintf(u.stdout, "%s %s %s %s %s %s\n", l.Keyword, l.Feature, l.Vendor, l.Version, l.Expiry, l.Count)
	}
	if bad {
		return lmSyntax.exit()
	}
	return nil
}

func licenceLines(l lease.Licence) (list []lmLicence) {
	for i := range l.Entitlements {
		e := &l.Entitlements[i]
		x := lmLicence{lmFeatureName(e.Feature), lmVersionOf(e.Version), lmVendorName(l.Vendor), e.Count, lmNever}
		if e.Expiry != 0 {
			x.Expiry = lmExpiry(e.Expiry.Time().Format(time.RFC3339))
		}
		if e.Uncounted {
			x.Count = 0
		}
		list = append(list, x)
	}
	return list
}

func lmCount(n int) string {
	if n == 0 {
		return "uncounted"
	}
	return fmt.Sprint(n)
}

// lmdiag says for each feature whether this user on this host would get a seat now.
func (u *lmutil) lmdiag(ctx context.Context, args []string) error {
	list, rest := lmList(args)
	var only string
	for _, word := range rest {
		if !strings.HasPrefix(word, "-") {
			only, _, _ = strings.Cut(word, ":")
		}
	}
	if err := u.connect(list, 0); err != nil {
		return err
	}
	defer u.conn.Close()
	const rule = "-----------------------------------------------------"
	fmt.Fprintf(u.stdout, "lmdiag - Seatkeeper lmstat-format view\n%s\nLicense file: %s\n%s\n", rule, u.cfg.Client.Addr, rule)
	lines, err := u.licences(ctx)
	if err != nil {
		return u.fail(ctx, "lmdiag", err)
	}
	shown := map[string]bool{}
	for _, l := range lines {
		key := l.Feature + " " + l.Version
		if only != "" && l.Feature != only || shown[key] {
			continue
		}
		shown[key] = true
		fmt.Fprintf(u.stdout, "\"%s\" v%s, vendor: %s, expiry: %s\n", l.Feature, l.Version, l.Vendor, l.Expiry)
		answer, err := u.conn.seats.Preview(ctx, &pb.PreviewRequest{Tenant: u.tenant(), Feature: l.Feature, Version: l.Version, User: osUser(), Host: osHost()})
		if err != nil {
			return u.fail(ctx, "lmdiag", apiError(err))
		}
		if answer.Granted {
			fmt.Fprintf(u.stdout, "  floating license\n  This license can be checked out\n%s\n", rule)
			continue
		}
		for _, it := range answer.Items {
			fmt.Fprintf(u.stdout, "  floating license\n  This license cannot be checked out because:\n    %s (%s)\n%s\n", it.Message, it.Reason, rule)
		}
	}
	if only != "" && len(shown) == 0 {
		fmt.Fprintf(u.stdout, "%s: %v\n", only, lmNoFeature)
		return lmNoFeature.exit()
	}
	return nil
}
