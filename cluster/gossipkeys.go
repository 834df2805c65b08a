package cluster

import (
	"bytes"
	"errors"
	"slices"

	"github.com/hashicorp/memberlist"
)

// SetGossipKeys replaces the keys of gossip while it runs: the first one encrypts from
// now on, all of them decrypt. To replace a key nobody may ever be without the one that
// others encrypt with: add the new one everywhere, then put it first everywhere, then
// take the old one away. Gossip without keys cannot be given any without a restart.
func (n *Node) SetGossipKeys(keys [][]byte) error {
	g, ok := n.discovery.(*gossip)
	if !ok {
		return nil
	}
	return g.setKeys(keys)
}

func (g *gossip) setKeys(keys [][]byte) error {
	switch {
	case g.keyring == nil && len(keys) == 0:
		return nil
	case g.keyring == nil || len(keys) == 0:
		return errors.New("encryption of gossip is switched on and off by a restart only")
	}
	for _, key := range keys {
		if err := memberlist.ValidateKey(key); err != nil {
			return err
		}
	}
	for _, key := range keys {
		if err := g.keyring.AddKey(key); err != nil {
			return err
		}
	}
	if err := g.keyring.UseKey(keys[0]); err != nil {
		return err
	}
	for _, old := range slices.Clone(g.keyring.GetKeys()) {
		if !slices.ContainsFunc(keys, func(k []byte) bool { return bytes.Equal(k, old) }) {
			if err := g.keyring.RemoveKey(old); err != nil {
				return err
			}
		}
	}
	return nil
}
