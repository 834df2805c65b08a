package client

import (
	"cmp"
	"os"
	"os/user"
	"strings"
	"sync"

	"github.com/seatkeeper/seatkeeper/lease"
)

// fillPrincipal names the user and the host of this process where p does not.
func fillPrincipal(p lease.Principal) lease.Principal {
	here := whoAmI()
	p.User = cmp.Or(p.User, here.User)
	p.Host = cmp.Or(p.Host, here.Host)
	return p
}

var whoAmI = sync.OnceValue(func() lease.Principal {
	name := cmp.Or(os.Getenv("USER"), os.Getenv("LOGNAME"), os.Getenv("USERNAME"))
	if u, err := user.Current(); err == nil && u.Username != "" {
		name = u.Username
	}
	if _, after, ok := strings.Cut(name, `\`); ok {
		name = after // Windows puts the domain before it
	}
	host, err := os.Hostname()
	if err != nil {
		host = ""
	}
	return lease.Principal{User: shortName(name), Host: shortName(host)}
})

// shortName keeps a name within what the cluster takes.
func shortName(s string) string { return s[:min(len(s), lease.MaxNameLen)] }
