package cluster

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/seatkeeper/seatkeeper/fsm"
)

// versionFile in the data directory holds the log version that the cluster had when this
// node last looked; there is none as long as it is the first.
const versionFile = "log-version"

// checkVersion refuses a data directory whose log or snapshot may hold what this build does
// not understand, and returns the version that it is marked with. The mark may be a second
// behind; the entry that raises the version stops the node in any case.
func checkVersion(dir string, snaps *checkedSnapshots, understands uint32) (uint32, error) {
	path := filepath.Join(dir, versionFile)
	marked, err := readVersion(path)
	if err != nil {
		return 0, err
	}
	found := marked
	list, err := snaps.List()
	if err != nil {
		return 0, fmt.Errorf("snapshots cannot be read: %w", err)
	}
	for _, meta := range list {
		_, state, err := snaps.Open(meta.ID)
		if err != nil {
			return 0, err
		}
		v, err := fsm.SnapshotVersion(state)
		state.Close()
		if err != nil {
			return 0, fmt.Errorf("snapshot %s: %w", meta.ID, err)
		}
		found = max(found, v)
	}
	if found > understands {
		return 0, fmt.Errorf("data directory %s is of log version %d and this build understands %d: the cluster was upgraded; install the version that ran here, or a later one (there is no way back but a backup from before)", dir, found, understands)
	}
	return max(marked, fsm.FirstVersion), nil
}

// readVersion returns 0 if there is no such file.
func readVersion(path string) (uint32, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("%s cannot be read: %w", path, plain(err))
	}
	v, err := strconv.ParseUint(strings.TrimSpace(string(data)), 10, 32)
	if err != nil || v < fsm.FirstVersion {
		return 0, fmt.Errorf("%s does not hold a number: write the log version into it that seatkeeper status shows on another node", path)
	}
	return uint32(v), nil
}
