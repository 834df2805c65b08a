package lease

import "strings"

// owner is whose session it is: tenant, principal and instance id in one string, each
// field ended by a byte that no name may contain (checkName), empty ones at the end left
// out. The default tenant is written as the empty one.
type owner string

const (
	ownerTenant = iota
	ownerUser
	ownerHost
	ownerIP
	ownerDisplay
	ownerVendor
	ownerProject
	ownerInstance
	ownerFields
)

const ownerEnd = "\x00"

func packOwner(tenant string, p Principal, instance string) owner {
	if tenant == DefaultTenant {
		tenant = ""
	}
	all := [ownerFields]string{tenant, p.User, p.Host, p.IP, p.Display, p.VendorDefined, p.Project, instance}
	return owner(strings.TrimRight(strings.Join(all[:], ownerEnd), ownerEnd))
}

func (o owner) fields() (f [ownerFields]string) {
	rest := string(o)
	for i := range f {
		f[i], rest, _ = strings.Cut(rest, ownerEnd)
	}
	if f[ownerTenant] == "" {
		f[ownerTenant] = DefaultTenant
	}
	return f
}

func (o owner) tenant() string {
	if t, _, _ := strings.Cut(string(o), ownerEnd); t != "" {
		return t
	}
	return DefaultTenant
}

func (o owner) instance() string { return o.fields()[ownerInstance] }

func (o owner) principal() Principal {
	f := o.fields()
	return Principal{User: f[ownerUser], Host: f[ownerHost], IP: f[ownerIP], Display: f[ownerDisplay], VendorDefined: f[ownerVendor], Project: f[ownerProject]}
}
