package disk

import (
	"context"
	"os"
	"path/filepath"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// node is a file or directory. What it does not say itself, the loopback does.
type node struct {
	*fs.LoopbackNode
	d *Disk
}

// WrapChild implements fs.NodeWrapChilder.
func (n *node) WrapChild(_ context.Context, ops fs.InodeEmbedder) fs.InodeEmbedder {
	return &node{LoopbackNode: ops.(*fs.LoopbackNode), d: n.d}
}

func (n *node) path() string { return filepath.Join(n.RootData.Path, n.Path(n.Root())) }

// changeName opens the directory, lets the gate judge, and does the work.
func (n *node) changeName(do func(*dir) syscall.Errno) syscall.Errno {
	if errno := n.d.gate.write(); errno != 0 {
		return errno
	}
	d, err := openDir(n.path())
	if err != nil {
		return fs.ToErrno(err)
	}
	return do(d)
}

// Create implements fs.NodeCreater.
func (n *node) Create(ctx context.Context, name string, flags, mode uint32, out *fuse.EntryOut) (child *fs.Inode, fh fs.FileHandle, fuseFlags uint32, errno syscall.Errno) {
	errno = n.changeName(func(d *dir) syscall.Errno {
		flags := int(flags)&^(syscall.O_APPEND|syscall.O_ACCMODE) | os.O_RDWR
		var inner fs.FileHandle
		child, inner, fuseFlags, errno = n.LoopbackNode.Create(ctx, name, uint32(flags), mode, out)
		if errno != 0 {
			d.f.Close()
			return errno
		}
		n.d.journal.made(d, name)
		if r, ok := inner.(fs.FileReleaser); ok {
			defer r.Release(ctx)
		}
		f, err := os.OpenFile(filepath.Join(n.path(), name), os.O_RDWR, 0)
		if err != nil {
			return fs.ToErrno(err)
		}
		fh = &handle{f: f, ino: out.Ino, d: n.d}
		return 0
	})
	return child, fh, fuseFlags, errno
}

// Mkdir implements fs.NodeMkdirer.
func (n *node) Mkdir(ctx context.Context, name string, mode uint32, out *fuse.EntryOut) (child *fs.Inode, errno syscall.Errno) {
	errno = n.changeName(func(d *dir) (errno syscall.Errno) {
		if child, errno = n.LoopbackNode.Mkdir(ctx, name, mode, out); errno != 0 {
			d.f.Close()
			return errno
		}
		n.d.journal.made(d, name)
		return 0
	})
	return child, errno
}

// Unlink implements fs.NodeUnlinker.
func (n *node) Unlink(_ context.Context, name string) syscall.Errno {
	return n.changeName(func(d *dir) syscall.Errno { return fs.ToErrno(n.d.journal.remove(d, name)) })
}

// Rmdir implements fs.NodeRmdirer.
func (n *node) Rmdir(_ context.Context, name string) syscall.Errno {
	return n.changeName(func(d *dir) syscall.Errno {
		if entries, err := os.ReadDir(filepath.Join(n.path(), name)); err != nil || len(entries) > 0 {
			d.f.Close()
			if err != nil {
				return fs.ToErrno(err)
			}
			return syscall.ENOTEMPTY
		}
		return fs.ToErrno(n.d.journal.remove(d, name))
	})
}

// Rename implements fs.NodeRenamer.
func (n *node) Rename(_ context.Context, name string, newParent fs.InodeEmbedder, newName string, flags uint32) syscall.Errno {
	to, ok := newParent.(*node)
	if !ok {
		return syscall.EXDEV
	}
	if flags != 0 {
		return syscall.EINVAL // exchange and no-replace: nothing here needs them
	}
	return n.changeName(func(from *dir) syscall.Errno {
		target, err := openDir(to.path())
		if err != nil {
			from.f.Close()
			return fs.ToErrno(err)
		}
		return fs.ToErrno(n.d.journal.rename(from, name, target, newName))
	})
}

// Link, Symlink and Mknod are refused: the journal does not know them.
func (n *node) Link(context.Context, fs.InodeEmbedder, string, *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	return nil, syscall.EPERM
}

// Symlink implements fs.NodeSymlinker.
func (n *node) Symlink(context.Context, string, string, *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	return nil, syscall.EPERM
}

// Mknod implements fs.NodeMknoder.
func (n *node) Mknod(context.Context, string, uint32, uint32, *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	return nil, syscall.EPERM
}

// Open implements fs.NodeOpener. The file is opened for both ways, so that the journal
// can read what a write replaces; the kernel has checked the permission.
func (n *node) Open(_ context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	f, err := os.OpenFile(n.path(), os.O_RDWR, 0)
	if err != nil {
		return nil, 0, fs.ToErrno(err)
	}
	h := &handle{f: f, ino: n.StableAttr().Ino, d: n.d}
	if flags&syscall.O_TRUNC != 0 {
		if errno := h.truncate(0); errno != 0 {
			f.Close()
			return nil, 0, errno
		}
	}
	return h, 0, 0
}

// Setattr implements fs.NodeSetattrer. Only lengths are journalled: modes and times do
// not carry anybody's data.
func (n *node) Setattr(ctx context.Context, fh fs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	if size, ok := in.GetSize(); ok {
		h, open := fh.(*handle)
		if !open {
			opened, _, errno := n.Open(ctx, syscall.O_RDWR)
			if errno != 0 {
				return errno
			}
			h = opened.(*handle)
			defer h.f.Close()
		}
		if errno := h.truncate(int64(size)); errno != 0 {
			return errno
		}
		in.Valid &^= fuse.FATTR_SIZE
	}
	in.Valid &^= fuse.FATTR_FH
	if h, ok := fh.(*handle); ok && in.Valid == 0 {
		return h.Getattr(ctx, out)
	}
	return n.LoopbackNode.Setattr(ctx, nil, in, out)
}

// Statfs implements fs.NodeStatfser.
func (n *node) Statfs(ctx context.Context, out *fuse.StatfsOut) syscall.Errno {
	errno := n.LoopbackNode.Statfs(ctx, out)
	if f, _ := n.d.gate.get(); f.Full {
		out.Bfree, out.Bavail = 0, 0
	}
	return errno
}

// OpendirHandle implements fs.NodeOpendirHandler.
func (n *node) OpendirHandle(context.Context, uint32) (fs.FileHandle, uint32, syscall.Errno) {
	stream, errno := fs.NewLoopbackDirStream(n.path())
	if errno != 0 {
		return nil, 0, errno
	}
	return &dirHandle{stream: stream, ino: n.backingIno(), d: n.d}, 0, 0
}

func (n *node) backingIno() uint64 {
	var st syscall.Stat_t
	if syscall.Stat(n.path(), &st) != nil {
		return 0
	}
	return st.Ino
}

// dirHandle is an open directory.
type dirHandle struct {
	stream fs.DirStream
	ino    uint64
	d      *Disk
}

// Readdirent implements fs.FileReaddirenter.
func (h *dirHandle) Readdirent(ctx context.Context) (*fuse.DirEntry, syscall.Errno) {
	return h.stream.(fs.FileReaddirenter).Readdirent(ctx)
}

// Seekdir implements fs.FileSeekdirer.
func (h *dirHandle) Seekdir(ctx context.Context, off uint64) syscall.Errno {
	return h.stream.(fs.FileSeekdirer).Seekdir(ctx, off)
}

// Releasedir implements fs.FileReleasedirer.
func (h *dirHandle) Releasedir(context.Context, uint32) { h.stream.Close() }

// Fsyncdir implements fs.FileFsyncdirer.
func (h *dirHandle) Fsyncdir(context.Context, uint32) syscall.Errno {
	lie, errno := h.d.gate.sync()
	if errno == 0 && !lie {
		h.d.journal.syncDir(h.ino)
	}
	return errno
}

// handle is an open file. The backing file is never synced: this machine's power does
// not fail, and the journal decides what would have lasted.
type handle struct {
	f   *os.File
	ino uint64
	d   *Disk
}

// Read implements fs.FileReader.
func (h *handle) Read(_ context.Context, buf []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	return fuse.ReadResultFd(h.f.Fd(), off, len(buf)), 0
}

// Write implements fs.FileWriter.
func (h *handle) Write(_ context.Context, data []byte, off int64) (uint32, syscall.Errno) {
	if errno := h.d.gate.write(); errno != 0 {
		return 0, errno
	}
	n, err := h.d.journal.write(h.f, h.ino, data, off)
	return uint32(n), fs.ToErrno(err)
}

func (h *handle) truncate(size int64) syscall.Errno {
	if errno := h.d.gate.write(); errno != 0 {
		return errno
	}
	return fs.ToErrno(h.d.journal.truncate(h.f, h.ino, size))
}

// Fsync implements fs.FileFsyncer.
func (h *handle) Fsync(context.Context, uint32) syscall.Errno {
	lie, errno := h.d.gate.sync()
	if errno == 0 && !lie {
		h.d.journal.syncFile(h.ino)
	}
	return errno
}

// Flush implements fs.FileFlusher: close promises nothing.
func (h *handle) Flush(context.Context) syscall.Errno { return 0 }

// Release implements fs.FileReleaser.
func (h *handle) Release(context.Context) syscall.Errno { return fs.ToErrno(h.f.Close()) }

// Getattr implements fs.FileGetattrer.
func (h *handle) Getattr(_ context.Context, out *fuse.AttrOut) syscall.Errno {
	var st syscall.Stat_t
	if err := syscall.Fstat(int(h.f.Fd()), &st); err != nil {
		return fs.ToErrno(err)
	}
	out.FromStat(&st)
	return 0
}
