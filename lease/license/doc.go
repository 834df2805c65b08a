// Package license reads and writes signed licence files: bytes in, entitlements out.
//
// A vendor writes a document, signs it with its own key and sends the file to a
// customer; the customer's cluster accepts it when a key it trusts signed it. The
// file is text, so that a person can read what was bought and see where it is wrong:
//
//	seatkeeper-license/1
//	license: L-2026-001
//	vendor: acme
//	tenant: default
//	cluster: any
//	issued: 2026-02-10
//
//	# Design team, order 4711
//	feature: cad
//	version: 2026.0
//	count: 10
//	start: 2026-02-10
//	expiry: 2027-12-31
//	serial: acme-0001
//	profile: lan
//	share: user+host max 4
//
//	— acme Az3grl…
//
// # Grammar
//
// The first line names the format and its version. Then come "key: value" lines:
// first the header, then one block per feature, which begins with its "feature" line.
// Inside the header and inside a block the order is free; a key given twice, an
// unknown one and a missing one are refused, with line and column. Empty lines and
// lines that begin with "#" may stand anywhere after the first. Lines neither begin nor end
// with a space, because mail programs change such lines, and the signature with them.
//
//	license, serial   a name; no two blocks of a file have the same serial
//	vendor            letters, digits and "_" only, as lmstat readers expect
//	tenant, feature   a name: letters, digits, "_", "-", ".", not beginning with "-" or "."
//	cluster           the id of the one cluster that may use the file, or "any"
//	issued            a date, 2026-02-10
//	version           a decimal number, 2026.0
//	count             seats, 1 to lease.MaxCount
//	start             first day of validity; without it the feature is valid at once
//	expiry            last day of validity, or "never"; never left out, so that a
//	                  forgotten line cannot make a licence last for ever
//	profile           default, lan, wan, ci, or "lifespan 45s grace 15s" (units ms, s, m, h);
//	                  without it default
//	share             "none", or fields of user, host, display, vendor with the most
//	                  sessions, "user+host max 4"; without it lease.DefaultShareRule
//
// A block that begins with "package" or "suite" names a bundle instead, with one
// "component" line for each feature in it. The seats of a package are seats of its
// components, count times over. Those of a suite are charged by the components: one seat
// covers what one session, or share group, uses of them at a time.
//
//	component         NAME, NAME:VERSION or NAME:VERSION:COUNT; without a version that of
//	                  the package; COUNT is how many seats one of the package brings
//
// What few features have, in blocks of all kinds:
//
//	count             "uncounted" stands for no limit; each use is still leased and shown
//	tokens            "5 of units": each seat takes five of the pool of the feature units,
//	                  of the same vendor; with count uncounted, only the tokens are a limit
//	grace             "14 days": usable so long after the expiry day, with an alarm
//	tz                the offset from UTC of the place whose days start and expiry mean,
//	                  +05:30; without it UTC
//	overdraft         seats above count that a policy may allow, flagged
//	borrow            the longest time to borrow a seat for, "96h", or "off"; without it off
//	linger            least time a seat stays charged after its check-in
//	idle-floor        least idle time before a policy may take a seat back
//	min-checkout      least time a checkout is charged for
//	issued            the date of issue of this line, if not that of the file
//	supersedes        names of features of this vendor and tenant: their lines with an
//	                  earlier date of issue count no more from this line's start on
//	variant           any text; seats of different variants are kept in pools of their own
//
// # Dates
//
// A date is a whole day where tz says, in UTC if nothing does, on every machine: a
// feature is valid from the first instant of its start day to the last instant of its
// expiry day, and usable for its days of grace, of 24 hours each, after that. An offset is
// a number and not a place's name, so that no machine's time zone database decides when
// a licence ends.
//
// # Signature
//
// Signed files are signed notes (golang.org/x/mod/sumdb/note) with one Ed25519
// signature. The name of a key is its vendor, and a key speaks for that vendor only.
// What is signed and verified is the normalised text: without a byte order mark, with
// LF for CRLF and with one newline at the end. So a file still verifies after it went
// through Windows or an editor that ends files its own way; any other change breaks it.
//
// Its one rule: nothing of a file is believed, and nothing but its signature line is
// read, before the signature is verified; Inspect, which trusts nobody, is for people.
//
// Its clock assumption: there is none in here. Check is given the calendar.
package license
