package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/seatkeeper/seatkeeper/lease"
	"github.com/seatkeeper/seatkeeper/lease/license"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// judgeLicences looks at the licences and pools of the cluster, and at files that were
// named.
func (d *doctor) judgeLicences(ctx context.Context) {
	for _, f := range d.files {
		d.judgeFile(f)
	}
	if !d.anyWho() {
		return // that was said
	}
	c, err := dialCluster(d.client, licenceBound)
	if err != nil {
		return
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, licenceBound)
	defer cancel()
	list, err := c.cluster.LicenseList(ctx, &pb.LicenseListRequest{Tenant: d.client.Tenant})
	if err != nil {
		d.warn("licence", "", "the licences cannot be read: "+apiError(err).Error(), "get the cluster a leader first")
		return
	}
	if len(list.Licenses) == 0 {
		d.warn("licence", "", fmt.Sprintf("tenant %s has no licence", d.client.Tenant), "seatkeeper license apply FILE (--tenant chooses another tenant)")
	}
	for _, l := range list.Licenses {
		d.judgeLicence(l)
	}
	if st, err := c.cluster.Status(ctx, &pb.StatusRequest{Tenant: d.client.Tenant}); err == nil {
		for _, p := range st.Pools {
			d.judgePool(p)
		}
	}
}

func (d *doctor) anyWho() bool { return len(d.nodes()) > 0 }

const renewLicence = "ask the vendor for a new one, then seatkeeper license apply --replace FILE"

func (d *doctor) judgeLicence(l *pb.License) {
	if l.Cluster != "" && l.Cluster != d.cluster() {
		d.fail("licence", l.Id, fmt.Sprintf("licence %s is bound to cluster %s, this is %s", l.Id, l.Cluster, d.cluster()), "ask the vendor for one that names this cluster")
	}
	bad := false
	for _, f := range l.Features {
		what := fmt.Sprintf("%s %s of licence %s", f.Feature, f.Version, l.Id)
		until, err := time.Parse(time.RFC3339, f.Expiry)
		left := until.Sub(d.now())
		switch {
		case f.State == "expired":
			d.fail("licence", l.Id, fmt.Sprintf("%s has expired (%s)", what, dayText(f.Expiry)), renewLicence)
		case f.State == "grace":
			d.warn("licence", l.Id, fmt.Sprintf("%s is past its last day and works for its %d days of grace only", what, f.GraceDays), renewLicence)
		case f.State == "not_started":
			d.warn("licence", l.Id, fmt.Sprintf("%s does not start before %s", what, dayText(f.Start)), "wait, or look at the clocks of the nodes")
		case f.State == "valid" && err == nil && left < expirySoon:
			d.warn("licence", l.Id, fmt.Sprintf("%s expires in %d days", what, int(left.Hours()/24)), renewLicence)
		default:
			continue
		}
		bad = true
	}
	if !bad {
		d.ok("licence", l.Id, "licence %s of %s: %d features, none expires within %d days", l.Id, l.Vendor, len(l.Features), int(expirySoon.Hours()/24))
	}
}

func dayText(rfc3339 string) string {
	if at, err := time.Parse(time.RFC3339, rfc3339); err == nil {
		return at.Format(time.DateOnly)
	}
	return "no date"
}

func (d *doctor) judgePool(p *pb.PoolStatus) {
	what := fmt.Sprintf("%s %s", p.Feature, p.Version)
	const who = "seatkeeper leases --feature %s shows who has them, seatkeeper denials who was refused"
	switch {
	case p.Uncounted:
	case p.OverUse > 0:
		d.warn("pool", what, fmt.Sprintf("%s: %d seats more are in use than are licensed", what, p.OverUse), fmt.Sprintf(who, p.Feature)+"; they stay until they are returned")
	case p.Total > 0 && p.InUse+p.Reserved+p.HeldBack >= p.Total:
		taken := fmt.Sprintf("%d in use, %d reserved", p.InUse, p.Reserved)
		if p.HeldBack > 0 {
			taken += fmt.Sprintf(", %d held back for seats of other versions", p.HeldBack)
		}
		d.warn("pool", what, fmt.Sprintf("%s: all %d seats are taken (%s, %d wait)", what, p.Total, taken, p.Queued), fmt.Sprintf(who, p.Feature))
	}
}

// judgeFile looks at a licence file as the cluster would when it is applied.
func (d *doctor) judgeFile(name string) {
	data, err := readLimited(name, maxLicenceInput)
	if err != nil {
		d.fail("licence/file", name, fmt.Sprintf("%s: %s", name, fileMessage(err)), "name a signed licence file that this user may read")
		return
	}
	l, by, err := license.Inspect(data)
	if err != nil {
		d.fail("licence/file", name, fmt.Sprintf("%s: %v", name, err), "ask the vendor for the file again; it must not be edited")
		return
	}
	if d.server != nil {
		if _, err := license.Verify(data, d.server.TrustedKeys); err != nil {
			d.fail("licence/file", name, fmt.Sprintf("%s, signed by %s: %v", name, by, err), "add the vendor's verifier key to trusted_keys of every node, if you trust it")
			return
		}
	}
	var problem *license.Error
	switch err := license.Check(l, d.cluster(), lease.CalendarOf(d.now())); {
	case err == nil:
		d.ok("licence/file", name, "%s: licence %s of %s may be applied", name, l.ID, l.Vendor)
	case errors.As(err, &problem) && problem.Code == license.WrongCluster:
		d.fail("licence/file", name, fmt.Sprintf("%s is bound to cluster %s, this is %s", name, l.Cluster, d.cluster()), "ask the vendor for one that names this cluster (seatkeeper status shows its id)")
	default:
		d.fail("licence/file", name, fmt.Sprintf("%s: %v", name, err), renewLicence)
	}
}
