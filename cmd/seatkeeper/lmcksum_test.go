package main

import (
	"strings"
	"testing"
)

// lmcksum reads files of FlexNet without a cluster, and says which line lacks what.
func TestLmcksumListsAForeignFile(t *testing.T) {
	code, out, _ := run(t, nil, "lmutil", "lmcksum", "-c", "../../lease/license/testdata/flexnet/sample.lic")
	for _, want := range []string{"\nFEATURE cad acme 2026.0 31-dec-2027 10\n", "\nINCREMENT cad acme 2025.0 permanent 3\n", "\nINCREMENT mesh acme 1.0 01-JAN-0000 2\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in %d:\n%s", want, code, out)
		}
	}
	bad := write(t, "bad.lic", "SERVER a ANY\nFEATURE cad acme 1.0 \\\n permanent 3 SIGN=00\nUPGRADE cad acme 1.0 2.0 permanent 3\nINCREMENT mesh acme\n")
	code, out, _ = run(t, nil, "lmutil", "lmcksum", "-c", bad)
	if code != 254 || !strings.HasSuffix(out, "\nFEATURE cad acme 1.0 permanent 3\nUPGRADE cad acme 2.0 permanent 3\nline 5: INCREMENT has 2 of its 5 fields\n") {
		t.Errorf("%d:\n%s", code, out)
	}
	if code, out, _ = run(t, nil, "lmcksum", "-c", bad+".gone"); code == 0 {
		t.Errorf("a file that is not there: %d %s", code, out)
	}
	if code, out, _ = run(t, nil, "lmutil", "lmcksum", "-c", bad+".gone"); code != 255 || !strings.Contains(out, "(-1,359)") {
		t.Errorf("a file that is not there: %d %s", code, out)
	}
	ours := "../../lease/license/testdata/v1.lic"
	if code, out, _ = run(t, nil, "lmutil", "lmcksum", "-c", ours); code != 0 || !strings.Contains(out, "\nFEATURE ") {
		t.Errorf("our own file: %d %s", code, out)
	}
}
