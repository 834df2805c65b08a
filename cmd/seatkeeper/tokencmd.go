package main

import (
	"crypto/rand"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/seatkeeper/seatkeeper/lease/access"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// maxTokenLife bounds --expires-in: what the wire carries.
const maxTokenLife = 100 * 365 * 24 * time.Hour

// newToken is what is printed of a token that was made: this once with its secret.
type newToken struct {
	ID     string `json:"id"`
	Token  string `json:"token"`
	Role   string `json:"role"`
	Tenant string `json:"tenant"`
	User   string `json:"user"`
	// Description and the dates are as the cluster keeps them.
	Description string `json:"description"`
	Created     string `json:"created"`
	Expires     string `json:"expires"`
}

// mintToken makes a token here, so that its secret never travels and the request can be
// sent again when its outcome is unknown.
func mintToken() (text, id string, digest []byte) {
	var name [access.IDBytes]byte
	var secret [access.SecretBytes]byte
	rand.Read(name[:])
	rand.Read(secret[:])
	text = access.Text(name, secret)
	id, sum, _ := access.Parse(text)
	return text, id, sum[:]
}

func (a *app) aclCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "acl",
		Short: "Close a cluster: from the first token on every call needs one",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	var description, dataDir string
	var reset bool
	bootstrap := &cobra.Command{
		Use:   "bootstrap",
		Short: "Make the first token, an admin's; it is shown this once",
		Long: `Makes the first token, an admin's, and shows it, this once.

If the tokens of all admins are lost, --reset makes another one for whoever has the machine
of the node that leads: run it there, as root or as the server's user, with the data
directory of that node. It writes a file there that the server compares and uses up.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if reset {
				if !cmd.Flags().Changed("description") {
					description = "admin token by reset"
				}
				return a.resetAdmin(cmd, dataDir, description)
			}
			if dataDir != "" {
				return usagef("--data-dir is for --reset")
			}
			c, err := a.dial(0)
			if err != nil {
				return err
			}
			defer c.Close()
			text, id, digest := mintToken()
			r, err := c.client.Access().AclBootstrap(cmd.Context(), &pb.AclBootstrapRequest{Description: description, TokenId: id, TokenDigest: digest})
			if err != nil {
				return apiError(err)
			}
			return a.printToken(r.GetToken(), text)
		},
	}
	f := bootstrap.Flags()
	f.StringVar(&description, "description", "first admin token", "what it is for")
	f.BoolVar(&reset, "reset", false, "make an admin's token in the place of lost ones")
	f.StringVar(&dataDir, "data-dir", "", "with --reset: the data directory of the node that leads")
	cmd.AddCommand(bootstrap)
	return cmd
}

func (a *app) tokenCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "token",
		Short: "Make, list and revoke access tokens",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.tokenCreateCommand(), a.tokenListCommand(), a.tokenRevokeCommand(), a.whoAmICommand())
	return cmd
}

func (a *app) tokenCreateCommand() *cobra.Command {
	var r pb.TokenCreateRequest
	var life time.Duration
	cmd := &cobra.Command{
		Use:   "create --role ROLE",
		Short: "Make a token; it is shown this once",
		Long: `Makes a token and shows it, this once. Roles:

  client    takes seats and returns them
  viewer    looks
  operator  also kills, sets policies, takes seats, moves leadership
  vendor    brings and takes away licences, reads their use
  admin     everything

--only-tenant and --user bind it: whoever has it acts for that tenant or user only.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, err := access.ParseRole(r.Role); err != nil {
				return usagef("--%w", err)
			}
			if life != 0 && (life < time.Second || life > maxTokenLife) {
				return usagef("--expires-in %v: use 1s to %v, or leave it out", life, maxTokenLife)
			}
			c, err := a.dial(0)
			if err != nil {
				return err
			}
			defer c.Close()
			r.ExpiresInS = uint32(life / time.Second)
			var text string
			text, r.TokenId, r.TokenDigest = mintToken()
			made, err := c.client.Access().TokenCreate(cmd.Context(), &r)
			if err != nil {
				return apiError(err)
			}
			return a.printToken(made.GetToken(), text)
		},
	}
	f := cmd.Flags()
	f.StringVar(&r.Role, "role", "", "viewer, operator, admin, vendor or client")
	f.StringVar(&r.Tenant, "only-tenant", "", "the one tenant it acts for (default: all)")
	f.StringVar(&r.User, "user", "", "the one user it acts for (default: all)")
	f.StringVar(&r.Description, "description", "", "what it is for")
	f.DurationVar(&life, "expires-in", 0, "when it stops being accepted, e.g. 720h (default: never)")
	_ = cmd.MarkFlagRequired("role")
	_ = cmd.RegisterFlagCompletionFunc("role", cobra.FixedCompletions(
		[]string{"viewer", "operator", "admin", "vendor", "client"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// printToken shows a new token: the only time that its secret is seen.
func (a *app) printToken(x *pb.AccessToken, text string) error {
	n := newToken{ID: x.GetId(), Token: text, Role: x.GetRole(), Tenant: x.GetTenant(), User: x.GetUser(),
		Description: x.GetDescription(), Created: x.GetCreated(), Expires: x.GetExpires()}
	return a.print(n, func(t *table) {
		t.text("%s", n.Token)
		fmt.Fprintf(a.stderr, "token %s, role %s: keep it now, it is not shown again; use it by SEATKEEPER_TOKEN\n", n.ID, n.Role)
	})
}

func (a *app) tokenListCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "Show all tokens (their secrets are not kept)",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.dial(0)
			if err != nil {
				return err
			}
			defer c.Close()
			r, err := c.client.Access().TokenList(cmd.Context(), &pb.TokenListRequest{})
			if err != nil {
				return apiError(err)
			}
			return a.print(r, func(t *table) {
				t.row("ID", "ROLE", "TENANT", "USER", "CREATED", "EXPIRES", "DESCRIPTION")
				for _, x := range r.GetTokens() {
					expires := orDash(x.GetExpires())
					if x.GetExpired() {
						expires += " (expired)"
					}
					t.row(x.GetId(), x.GetRole(), orDash(x.GetTenant()), orDash(x.GetUser()), x.GetCreated(), expires, x.GetDescription())
				}
			})
		},
	}
}

func (a *app) tokenRevokeCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "revoke ID",
		Short: "Take a token away, at once; ID is what token list shows",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, _, ok := access.Parse(args[0]); ok {
				return usagef("give the token's ID, not the token: arguments are seen by everybody on this host")
			}
			c, err := a.dial(0)
			if err != nil {
				return err
			}
			defer c.Close()
			if _, err := c.client.Access().TokenRevoke(cmd.Context(), &pb.TokenRevokeRequest{Id: args[0]}); err != nil {
				return apiError(err)
			}
			fmt.Fprintf(a.stderr, "token %s is revoked\n", args[0])
			return nil
		},
	}
}

func (a *app) whoAmICommand() *cobra.Command {
	return &cobra.Command{
		Use:   "whoami",
		Short: "Show what the cluster knows you as, and what you may do",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.dial(0)
			if err != nil {
				return err
			}
			defer c.Close()
			r, err := c.client.Access().WhoAmI(cmd.Context(), &pb.WhoAmIRequest{})
			if err != nil {
				return apiError(err)
			}
			return a.print(r, func(t *table) {
				t.row("NAME", "ROLE", "TENANT", "USER", "EXPIRES")
				role := r.GetRole()
				if !r.GetEnforced() {
					role = "(the cluster is open: no token was made yet)"
				}
				t.row(r.GetName(), role, orDash(r.GetTenant()), orDash(r.GetUser()), orDash(r.GetExpires()))
			})
		},
	}
}

// orDash shows that nothing is there.
func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
