package main

import (
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

const (
	// resetFile in a data directory names the one token that may be made by a reset. It has
	// no secret: whoever reads it gains nothing.
	resetFile = "acl-reset"
	// resetLife is how long it counts: a file that was forgotten opens no door.
	resetLife = 10 * time.Minute
	// maxResetFile bounds what is read of it: an id and a digest in hexadecimal digits.
	maxResetFile = 200
)

func resetLine(id string, digest []byte) string { return id + " " + hex.EncodeToString(digest) + "\n" }

// confirmReset compares a request with the file in the data directory, and uses the file
// up if they agree: whoever wrote it there has the machine. A file that does not agree
// stays, so that strangers cannot spoil it.
func confirmReset(dir string) func(id string, digest []byte) error {
	path := filepath.Join(dir, resetFile)
	return func(id string, digest []byte) error {
		info, err := os.Lstat(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return errors.New("its data directory holds no proof: run seatkeeper acl bootstrap --reset --data-dir DIR on its machine")
		case err != nil:
			return err
		case !info.Mode().IsRegular():
			return fmt.Errorf("%s is no plain file", path)
		case time.Since(info.ModTime()) > resetLife:
			return fmt.Errorf("%s is older than %s: run the command again", path, resetLife)
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		text, err := io.ReadAll(io.LimitReader(f, maxResetFile))
		if err != nil {
			return err
		}
		if len(digest) == 0 || subtle.ConstantTimeCompare(text, []byte(resetLine(id, digest))) != 1 {
			return fmt.Errorf("%s is for another token: run seatkeeper acl bootstrap --reset --data-dir DIR on its machine", path)
		}
		return os.Remove(path) // before it counts: once
	}
}

// writeReset puts the proof into a data directory. The server must be able to read it,
// whoever runs this; the directory is closed to others.
func writeReset(dir, id string, digest []byte) (path string, err error) {
	if _, err := os.Stat(filepath.Join(dir, "node-id")); err != nil {
		return "", exitf(exitError1, "%s is not the data directory of a node that has run: give the one in the config of the node that leads (%w)", dir, err)
	}
	path = filepath.Join(dir, resetFile)
	_ = os.Remove(path)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return "", exitf(exitNotAllowed, "the proof cannot be written: run this as root or as the server's user on the machine of the node that leads (%w)", err)
	}
	_, err = io.WriteString(f, resetLine(id, digest))
	return path, errors.Join(err, f.Close())
}

// resetAdmin makes an admin's token in the place of lost ones.
func (a *app) resetAdmin(cmd *cobra.Command, dir, description string) error {
	if dir == "" {
		return usagef("--reset needs --data-dir: the data directory of the node that leads, on this machine (seatkeeper status says which leads)")
	}
	text, id, digest := mintToken()
	path, err := writeReset(dir, id, digest)
	if err != nil {
		return err
	}
	defer os.Remove(path) // the server has used it up, or it is of no use
	c, err := a.dial(0)
	if err != nil {
		return err
	}
	defer c.Close()
	r, err := c.client.Access().AclBootstrap(cmd.Context(), &pb.AclBootstrapRequest{
		Description: description, TokenId: id, TokenDigest: digest, ResetAdmin: true})
	if err != nil {
		return apiError(err)
	}
	if err := a.printToken(r.GetToken(), text); err != nil {
		return err
	}
	fmt.Fprintln(a.stderr, "the other tokens go on: seatkeeper token list shows them, revoke those that nobody should have")
	return nil
}
