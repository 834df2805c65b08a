package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

func (a *app) tenantCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "tenant",
		Short: "Show the tenants: what each has, uses now and may use",
		Long: `A tenant is a name in licences, tokens and requests; nobody has to make one. It is known when
it has a licence, seats in use or a token of its own (seatkeeper license apply, token create
--only-tenant). All names that are not known share the few places of one in the admission of
requests, and count for nothing beside those that are.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.tenantListCommand(), a.tenantShowCommand())
	return cmd
}

func (a *app) tenantListCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the tenants with their seats, sessions, tokens and requests",
		Long: `Lists the tenants that have a licence, seats in use, a policy or a token. IN FLIGHT are the
requests of a tenant that the leader works on now, WAITING those that wait for room there,
TURNED AWAY those refused for want of room since it started.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.dial(0)
			if err != nil {
				return err
			}
			defer c.Close()
			all, err := c.tenants(cmd.Context(), "")
			if err != nil {
				return apiError(err)
			}
			return a.print(all, func(t *table) { drawTenants(t, all) })
		},
	}
}

// tenants asks for all pages; name is the one tenant that is meant, if any.
func (c *conn) tenants(ctx context.Context, name string) (*pb.TenantListResponse, error) {
	req := &pb.TenantListRequest{Tenant: name}
	all, err := c.client.Tenants().TenantList(ctx, req)
	for page := all; err == nil && page.GetNext() != ""; {
		req.After = page.GetNext()
		if page, err = c.client.Tenants().TenantList(ctx, req); err == nil {
			all.Tenants, all.Next = append(all.Tenants, page.GetTenants()...), page.GetNext()
		}
	}
	return all, err
}

func drawTenants(t *table, all *pb.TenantListResponse) {
	t.row("TENANT", "LICENCES", "POOLS", "SEATS", "IN USE", "RESERVED", "QUEUED", "LEASES", "SESSIONS", "TOKENS", "POLICY", "IN FLIGHT", "WAITING", "TURNED AWAY")
	for _, x := range all.GetTenants() {
		name := x.GetName()
		if !x.GetKnown() {
			name += " (unknown)"
		}
		t.row(name, x.GetLicenses(), x.GetPools(), seatsOfTenant(x), x.GetInUse(), x.GetReserved(), x.GetQueued(), x.GetLeases(), x.GetSessions(),
			x.GetTokens(), yesNo(x.GetPolicy()), inFlight(x.GetTraffic()), x.GetTraffic().GetWaiting(), x.GetTraffic().GetOverloaded())
	}
	if s := all.GetStrangers(); s != nil && (s.GetTenants() > 0 || s.GetTraffic().GetOverloaded() > 0 || inFlight(s.GetTraffic()) > 0) {
		t.text("strangers: %d other names have %d sessions; in flight %d, turned away %d", s.GetTenants(), s.GetSessions(), inFlight(s.GetTraffic()), s.GetTraffic().GetOverloaded())
	}
	drawTenantLimits(t, all.GetLimits())
}

func drawTenantLimits(t *table, l *pb.TenantLimits) {
	t.text("limits of each: in flight %d (%d beside another active tenant, %d checkouts beside one that asks for little, %d of one client; all strangers together %d), sessions that never had a seat %d",
		l.GetInFlight(), l.GetInFlightShared(), l.GetInFlightBesideQuiet(), l.GetInFlightClient(), l.GetInFlightStrangers(), l.GetSessionsUnleased())
}

func inFlight(x *pb.TenantTraffic) uint32 { return x.GetInFlight() + x.GetInFlightKeep() }

func seatsOfTenant(x *pb.TenantUse) string {
	switch {
	case x.GetUncounted() && x.GetSeats() == 0:
		return "uncounted"
	case x.GetUncounted():
		return fmt.Sprintf("%d + uncounted", x.GetSeats())
	}
	return fmt.Sprint(x.GetSeats())
}

// tenantView is one tenant with what it has.
type tenantView struct {
	use      *pb.TenantUse
	limits   *pb.TenantLimits
	pools    []*pb.PoolStatus
	licences []*pb.License
}

// MarshalJSON writes the parts as the API does.
func (v tenantView) MarshalJSON() ([]byte, error) {
	use, err := apiJSON.Marshal(v.use)
	if err != nil {
		return nil, err
	}
	limits, err := apiJSON.Marshal(v.limits)
	if err != nil {
		return nil, err
	}
	pools, err := apiJSON.Marshal(&pb.StatusResponse{Pools: v.pools})
	if err != nil {
		return nil, err
	}
	licences, err := apiJSON.Marshal(&pb.LicenseListResponse{Licenses: v.licences})
	if err != nil {
		return nil, err
	}
	var p struct {
		Pools json.RawMessage `json:"pools"`
	}
	var l struct {
		Licenses json.RawMessage `json:"licenses"`
	}
	if err := json.Unmarshal(pools, &p); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(licences, &l); err != nil {
		return nil, err
	}
	return json.Marshal(struct {
		Tenant   json.RawMessage `json:"tenant"`
		Limits   json.RawMessage `json:"limits"`
		Pools    json.RawMessage `json:"pools"`
		Licenses json.RawMessage `json:"licenses"`
	}{use, limits, p.Pools, l.Licenses})
}

func (a *app) tenantShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "show TENANT",
		Short: "Show one tenant: its use, its limits, its pools and its licences",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.dial(0)
			if err != nil {
				return err
			}
			defer c.Close()
			v, err := c.tenant(cmd.Context(), args[0])
			if err != nil {
				return apiError(err)
			}
			if x := v.use; !x.GetKnown() && x.GetSessions() == 0 && !x.GetPolicy() {
				return fmt.Errorf("nothing is known of tenant %q: no licence, no seat in use, no token, no policy, no session; seatkeeper tenant list shows those there are", args[0])
			}
			return a.print(v, func(t *table) { drawTenant(t, v) })
		},
		ValidArgsFunction: a.completeTenants,
	}
}

func (c *conn) tenant(ctx context.Context, name string) (v tenantView, err error) {
	all, err := c.tenants(ctx, name)
	if err != nil {
		return v, err
	}
	v.limits = all.GetLimits()
	i := slices.IndexFunc(all.GetTenants(), func(x *pb.TenantUse) bool { return x.GetName() == name })
	if i < 0 {
		v.use = &pb.TenantUse{Name: name}
		return v, nil
	}
	v.use = all.GetTenants()[i]
	status, err := c.cluster.Status(ctx, &pb.StatusRequest{Tenant: name})
	if err != nil {
		return v, err
	}
	licences, err := c.cluster.LicenseList(ctx, &pb.LicenseListRequest{Tenant: name})
	v.pools, v.licences = status.GetPools(), licences.GetLicenses()
	return v, err
}

func drawTenant(t *table, v tenantView) {
	x, traffic := v.use, v.use.GetTraffic()
	t.text("tenant %s: %d of %s seats in use, %d reserved, %d queued", x.GetName(), x.GetInUse(), seatsOfTenant(x), x.GetReserved(), x.GetQueued())
	t.text("leases %d  sessions %d (%d of at most %d never had a seat)  tokens %d  policy %s",
		x.GetLeases(), x.GetSessions(), x.GetSessionsUnleased(), v.limits.GetSessionsUnleased(), x.GetTokens(), yesNo(x.GetPolicy()))
	t.text("on the leader: in flight %d, renewals and check-ins %d, waiting %d, turned away %d",
		traffic.GetInFlight(), traffic.GetInFlightKeep(), traffic.GetWaiting(), traffic.GetOverloaded())
	if !x.GetKnown() {
		t.text("it has no licence and no token: it shares its places with all names like that")
	}
	drawTenantLimits(t, v.limits)
	t.text("")
	drawPools(t, v.pools)
	t.text("")
	drawFeatures(t, v.licences)
}

// completeTenants offers the names of the tenants that there are.
func (a *app) completeTenants(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 || a.prepare(cmd) != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	c, err := dialCluster(a.cfg.Client, completionTimeout)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	defer c.Close()
	all, err := c.tenants(cmd.Context(), "")
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, x := range all.GetTenants() {
		names = append(names, x.GetName())
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
