package cluster

import "golang.org/x/sys/windows"

// diskSpace measures the file system that dir is on, as an unprivileged process sees it.
func diskSpace(dir string) (free, total uint64, err error) {
	name, err := windows.UTF16PtrFromString(dir)
	if err != nil {
		return 0, 0, err
	}
	err = windows.GetDiskFreeSpaceEx(name, &free, &total, nil)
	return free, total, err
}
