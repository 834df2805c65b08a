package cluster

// keepOwner does nothing: files inherit their access from the directory.
func keepOwner(string, string) error { return nil }
