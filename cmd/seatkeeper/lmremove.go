package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

const lmremoveUsage = `usage: lmremove [-c license_file_list] feature user host display
       lmremove [-c license_file_list] -h feature server_host port handle
`

// lmHolder is who lmremove means.
type lmHolder struct {
	feature, user, host, display string
	handle                       uint64 // of -h
}

func parseLmremove(args []string) (h lmHolder, list string, err error) {
	var words []string
	byHandle := false
	for i := 0; i < len(args); i++ {
		switch {
		case args[i] == "-c":
			if i++; i == len(args) {
				return h, "", fmt.Errorf("-c needs a list such as 7800@node-1,7800@node-2")
			}
			list = args[i]
		case args[i] == "-h":
			byHandle = true
		case args[i] == "-help" || args[i] == "--help":
			return h, "", fmt.Errorf("help")
		default: // a display may be "-"
			words = append(words, args[i])
		}
	}
	switch {
	case byHandle && len(words) == 4:
		h.feature = words[0]
		if h.handle, err = strconv.ParseUint(words[3], 10, 32); err != nil || h.handle == 0 {
			return h, "", fmt.Errorf("%q is no handle: use the last number in the parentheses of lmstat -a", words[3])
		}
	case !byHandle && len(words) == 4:
		h.feature, h.user, h.host, h.display = words[0], words[1], words[2], words[3]
	case !byHandle && len(words) == 3: // an empty display, lost in a shell
		h.feature, h.user, h.host = words[0], words[1], words[2]
	default:
		return h, "", fmt.Errorf("4 words are needed, %d were given", len(words))
	}
	return h, list, nil
}

// names says whether the lease is the holder's, by the names as lmstat shows them.
func (h *lmHolder) names(l *pb.LeaseEntry) bool {
	if lmFeatureName(l.Feature) != lmFeatureName(h.feature) {
		return false
	}
	if h.handle != 0 {
		return uint64(l.Handle) == h.handle
	}
	return lmUserName(l.User) == lmUserName(h.user) && lmHost(l.Host) == lmHost(h.host) && lmDisplay(l.Display) == lmDisplay(h.display)
}

// lmremove takes back every lease of the feature that the holder has, lingering ones too.
// What the policy protects for a while after its checkout stays, and the seat of a borrowed
// one is in use until its term is over.
func (u *lmutil) lmremove(ctx context.Context, args []string) error {
	h, list, err := parseLmremove(args)
	if err != nil {
		if err.Error() != "help" {
			fmt.Fprintf(u.stdout, "lmremove: %v\n", err)
		}
		fmt.Fprint(u.stdout, lmremoveUsage)
		return &exitError{code: exitError1}
	}
	if err := u.connect(list, 0); err != nil {
		return err
	}
	defer u.conn.Close()
	fmt.Fprintln(u.stdout, strings.Replace(lmBanner, "lmutil", "lmremove", 1))
	all, err := allLeases(ctx, u.conn, &pb.LeasesRequest{Tenant: u.tenant(), Handle: uint32(h.handle)})
	if err != nil {
		return u.fail(ctx, "lmremove", err)
	}
	req := &pb.KillRequest{Tenant: u.tenant()}
	var found []*pb.LeaseEntry
	for _, l := range all.Leases {
		if h.names(l) {
			found = append(found, l)
			req.LeaseIds = append(req.LeaseIds, l.Id)
		}
	}
	if len(found) == 0 {
		return u.fail(ctx, "lmremove", lmNeverOut)
	}
	answer, err := u.conn.cluster.Kill(ctx, req)
	if err != nil {
		return u.fail(ctx, "lmremove", lmremoveError(apiError(err)))
	}
	for _, l := range answer.Killed {
		if l.State == "quarantined" { // its borrower may be offline
			fmt.Fprintf(u.stdout, "%s: revoked %s@%s %s (handle %d, %s, in use until the borrowed term ends)\n", lmFeatureName(l.Feature), lmUserName(l.User),
				lmHost(l.Host), lmDisplay(l.Display), l.Handle, licences(int(l.Count)))
			continue
		}
		fmt.Fprintf(u.stdout, "%s: removed %s@%s %s (handle %d, %s)\n", lmFeatureName(l.Feature), lmUserName(l.User), lmHost(l.Host),
			lmDisplay(l.Display), l.Handle, licences(int(l.Count)))
	}
	return nil
}

// lmremoveError words the policy's time before a kill as FlexNet does.
func lmremoveError(err error) error {
	if reasonOf(err) == "too_soon" {
		return lmTooSoon
	}
	return err
}
