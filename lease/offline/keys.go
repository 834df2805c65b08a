package offline

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"fmt"
)

// Keys is a JWK set of public Ed25519 keys.
type Keys struct {
	Keys []Key `json:"keys"`
}

// Key is one public key.
type Key struct {
	Type      string `json:"kty"`
	Curve     string `json:"crv"`
	Kid       string `json:"kid"`
	Use       string `json:"use,omitempty"`
	Algorithm string `json:"alg,omitempty"`
	X         string `json:"x"`
}

// NewKey makes the public key with this id.
func NewKey(kid string, public [32]byte) Key {
	return Key{Type: "OKP", Curve: "Ed25519", Kid: kid, Use: "sig", Algorithm: Algorithm, X: base64.RawURLEncoding.EncodeToString(public[:])}
}

// ParseKeys reads a JWK set. Keys of other kinds in it are passed over.
func ParseKeys(data []byte) (Keys, error) {
	var k Keys
	if err := json.Unmarshal(data, &k); err != nil {
		return Keys{}, fmt.Errorf("this is no JWK set: %w", err)
	}
	return k, nil
}

// find gives the public half of the key with this id.
func (k Keys) find(kid string) (ed25519.PublicKey, bool) {
	for _, x := range k.Keys {
		if x.Kid != kid || x.Type != "OKP" || x.Curve != "Ed25519" || x.Algorithm != "" && x.Algorithm != Algorithm || x.Use != "" && x.Use != "sig" {
			continue
		}
		if public, err := base64.RawURLEncoding.DecodeString(x.X); err == nil && len(public) == ed25519.PublicKeySize {
			return public, true
		}
	}
	return nil, false
}
