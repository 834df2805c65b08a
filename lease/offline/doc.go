// Package offline reads the token of a borrowed seat: bytes in, claims out. It is what a
// program does that cannot ask anybody, and what the cluster does when a token comes back.
//
// A token is a JWS in compact form, signed with EdDSA (RFC 7515, RFC 8037); its claims
// are those of a JWT (RFC 7519) and some of our own. The public keys come as a JWK set
// (RFC 7517), as the cluster publishes it at /.well-known/jwks.json.
//
// Its one rule: a token is worth what its signature, its times and its holder say
// together. There is one algorithm; what names another is refused, so nobody chooses how
// a token is verified but the one who verifies it.
//
// Its clock assumption: the caller says what time it is. A clock that can be wound back
// makes a token last longer: see docs/borrow.md for what can be done about that.
package offline
