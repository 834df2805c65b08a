package offline_test

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/seatkeeper/seatkeeper/lease/offline"
)

var begin = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func key(n byte) (ed25519.PrivateKey, offline.Key) {
	private := ed25519.NewKeyFromSeed(append(make([]byte, 31), n))
	return private, offline.NewKey("key-"+string('0'+rune(n)), [32]byte(private.Public().(ed25519.PublicKey)))
}

func claims() offline.Claims {
	return offline.Claims{Issuer: offline.Issuer, Cluster: "c", Tenant: "default", Vendor: "acme", Feature: "cad", Version: "2026.0", Count: 1,
		User: "ann", Host: "ws1", LeaseID: 5, FencingToken: 9, IssuedAt: begin.Unix(), NotBefore: begin.Unix(), Expires: begin.Add(time.Hour).Unix()}
}

// token signs header and claims as they are given.
func token(t *testing.T, private ed25519.PrivateKey, header string, c any) string {
	t.Helper()
	body, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	enc := base64.RawURLEncoding.EncodeToString
	text := enc([]byte(header)) + "." + enc(body)
	return text + "." + enc(ed25519.Sign(private, []byte(text)))
}

const goodHeader = `{"alg":"EdDSA","kid":"key-1","typ":"seat+jwt"}`

func TestReadRefusesWhatIsNotWhole(t *testing.T) {
	private, public := key(1)
	other, otherPublic := key(2)
	keys := offline.Keys{Keys: []offline.Key{otherPublic, public}}
	good := token(t, private, goodHeader, claims())
	change := func(f func(*offline.Claims)) offline.Claims {
		c := claims()
		f(&c)
		return c
	}
	part := strings.Split(good, ".")
	swapped := func(i int, from string) string {
		p := strings.Split(good, ".")
		p[i] = strings.Split(from, ".")[i]
		return strings.Join(p, ".")
	}
	for _, c := range []struct {
		name, token string
		want        offline.Code
	}{
		{"whole", good, ""},
		{"empty", "", offline.Malformed},
		{"two parts", part[0] + "." + part[1], offline.Malformed},
		{"not base64", "%." + part[1] + "." + part[2], offline.Malformed},
		{"padded", part[0] + "=." + part[1] + "." + part[2], offline.Malformed},
		{"too long", good + strings.Repeat("A", offline.MaxToken), offline.Malformed},
		{"no signature asked for", token(t, private, `{"alg":"none","kid":"key-1","typ":"seat+jwt"}`, claims()), offline.Malformed},
		{"another algorithm", token(t, private, `{"alg":"HS256","kid":"key-1","typ":"seat+jwt"}`, claims()), offline.Malformed},
		{"another kind of token", token(t, private, `{"alg":"EdDSA","kid":"key-1","typ":"JWT"}`, claims()), offline.Malformed},
		{"critical extension", token(t, private, `{"alg":"EdDSA","kid":"key-1","typ":"seat+jwt","crit":["b64"]}`, claims()), offline.Malformed},
		{"key unknown", token(t, private, `{"alg":"EdDSA","kid":"key-9","typ":"seat+jwt"}`, claims()), offline.UnknownKey},
		{"signed by another", token(t, other, goodHeader, claims()), offline.BadSignature},
		{"claims of another token", swapped(1, token(t, private, goodHeader, change(func(c *offline.Claims) { c.Expires += 3600 }))), offline.BadSignature},
		{"signature of another token", swapped(2, token(t, private, goodHeader, change(func(c *offline.Claims) { c.Count = 2 }))), offline.BadSignature},
		{"issued by somebody else", token(t, private, goodHeader, change(func(c *offline.Claims) { c.Issuer = "x" })), offline.Malformed},
		{"of no lease", token(t, private, goodHeader, change(func(c *offline.Claims) { c.LeaseID = 0 })), offline.Malformed},
		{"of no seats", token(t, private, goodHeader, change(func(c *offline.Claims) { c.Count = 0 })), offline.Malformed},
		{"ends before it begins", token(t, private, goodHeader, change(func(c *offline.Claims) { c.Expires = c.NotBefore })), offline.Malformed},
		{"no claims", token(t, private, goodHeader, 7), offline.Malformed},
	} {
		if _, err := offline.Read(c.token, keys); offline.CodeOf(err) != c.want {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

// Not one bit of a token can be changed.
func TestEveryBitIsSigned(t *testing.T) {
	private, public := key(1)
	keys := offline.Keys{Keys: []offline.Key{public}}
	good := token(t, private, goodHeader, claims())
	want, err := offline.Read(good, keys)
	if err != nil {
		t.Fatal(err)
	}
	for i := range len(good) {
		for bit := range 7 {
			bad := []byte(good)
			bad[i] ^= 1 << bit
			if _, err := offline.Read(string(bad), keys); err == nil {
				t.Fatalf("bit %d of character %d does not matter (%+v)", bit, i, want)
			}
		}
	}
}

func TestTimesOfAToken(t *testing.T) {
	c := claims()
	for _, x := range []struct {
		name string
		now  time.Time
		want offline.Code
	}{
		{"as it begins", begin, ""},
		{"a clock a little behind", begin.Add(-offline.Leeway), ""},
		{"a clock far behind", begin.Add(-offline.Leeway - time.Second), offline.NotYet},
		{"its last second", begin.Add(time.Hour - time.Nanosecond), ""},
		{"its end", begin.Add(time.Hour), offline.Expired},
	} {
		if err := c.At(x.now); offline.CodeOf(err) != x.want {
			t.Errorf("%s: %v, want %q", x.name, err, x.want)
		}
	}
}

func TestWhoseATokenIs(t *testing.T) {
	person, anybody, instance := claims(), claims(), claims()
	anybody.User = ""
	instance.User, instance.Host, instance.InstanceID = "", "", "pod-7"
	for _, x := range []struct {
		name   string
		claims offline.Claims
		holder offline.Holder
		ok     bool
	}{
		{"the person on the machine", person, offline.Holder{User: "ann", Host: "ws1"}, true},
		{"host names have no case", person, offline.Holder{User: "ann", Host: "WS1"}, true},
		{"another machine", person, offline.Holder{User: "ann", Host: "ws2"}, false},
		{"another person", person, offline.Holder{User: "bob", Host: "ws1"}, false},
		{"nobody", person, offline.Holder{}, false},
		{"anybody on the machine", anybody, offline.Holder{User: "bob", Host: "ws1"}, true},
		{"the instance", instance, offline.Holder{User: "bob", Host: "ws9", InstanceID: "pod-7"}, true},
		{"another instance", instance, offline.Holder{InstanceID: "pod-8"}, false},
		{"no instance", instance, offline.Holder{}, false},
		{"bound to nothing", offline.Claims{}, offline.Holder{}, false},
	} {
		if err := x.claims.For(x.holder); (err == nil) != x.ok {
			t.Errorf("%s: %v", x.name, err)
		}
	}
}

func TestKeysOfOtherKindsArePassedOver(t *testing.T) {
	private, public := key(1)
	set := `{"keys":[{"kty":"RSA","kid":"key-1","n":"x","e":"AQAB"},{"kty":"OKP","crv":"X25519","kid":"key-1","x":"` + public.X + `"},{"kty":"OKP","crv":"Ed25519","kid":"key-1","use":"enc","x":"` + public.X + `"}]}`
	keys, err := offline.ParseKeys([]byte(set))
	if err != nil {
		t.Fatal(err)
	}
	good := token(t, private, goodHeader, claims())
	if _, err := offline.Read(good, keys); offline.CodeOf(err) != offline.UnknownKey {
		t.Error(err)
	}
	keys.Keys = append(keys.Keys, public)
	if _, err := offline.Read(good, keys); err != nil {
		t.Error(err)
	}
	if _, err := offline.ParseKeys([]byte("{")); err == nil {
		t.Error("half a set was read")
	}
}

func FuzzRead(f *testing.F) {
	private, public := key(1)
	keys := offline.Keys{Keys: []offline.Key{public}}
	body, _ := json.Marshal(claims())
	enc := base64.RawURLEncoding.EncodeToString
	text := enc([]byte(goodHeader)) + "." + enc(body)
	good := text + "." + enc(ed25519.Sign(private, []byte(text)))
	f.Add(good)
	f.Add("a.b.c")
	f.Fuzz(func(t *testing.T, token string) {
		if _, err := offline.Read(token, keys); err == nil && token != good {
			t.Errorf("accepted %q", token)
		}
	})
}
