//go:build !linux

package cluster

import "github.com/hashicorp/raft-wal/types"

// syncData returns when a file is on the disk.
func syncData(f types.WritableFile) error { return f.Sync() }
