//go:build linux

package main

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// spoken are the roles whose elements a screen reader announces by their name.
var spoken = []string{"button", "link", "textbox", "searchbox", "combobox", "slider", "region", "dialog", "alertdialog", "navigation", "img", "image"}

// namesAll fails for every element that a screen reader would announce without a name.
func (p *page) namesAll(where string, least int) {
	p.t.Helper()
	tree, err := chromedp.Call(p.ctx, accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{})
	if err != nil {
		p.t.Fatal(err)
	}
	seen := 0
	for _, n := range tree.Nodes {
		if n.Ignored || n.Role == nil || !slices.Contains(spoken, strings.Trim(string(n.Role.Value), `"`)) {
			continue
		}
		seen++
		if n.Name == nil || strings.Trim(string(n.Name.Value), `" `) == "" {
			p.t.Errorf("%s: a %s has no name", where, n.Role.Value)
		}
	}
	if seen < least {
		p.t.Errorf("%s: only %d elements are announced", where, seen)
	}
}

// pointer moves the mouse, pressing nothing.
func pointer(x, y float64) chromedp.Action[chromedp.Void] {
	return chromedp.MouseEvent(input.DispatchMouseEventTypeMouseMoved, x, y)
}

// testConsolePlots reads a plot by pointer and by arrow keys.
func testConsolePlots(t *testing.T, p *page, ui string) {
	p.do(chromedp.Navigate(ui))
	p.see(".plot .now", "of 10, peak")
	x := eval[float64](p, `(() => { const f = document.querySelector('.field'); f.scrollIntoView({ block: 'center' }); return f.getBoundingClientRect().right - 2; })()`)
	y := eval[float64](p, `(() => { const r = document.querySelector('.field').getBoundingClientRect(); return r.top + r.height / 2; })()`)
	p.do(pointer(x, y))
	p.waitFor("what the plot shows at the pointer", `/^[\d:]+: \d+ of \d+ seats$/.test(document.querySelector('.tip').innerText)`)
	p.screenshot("plot-pointer")
	p.do(pointer(1, 1))
	p.waitFor("no value where no pointer is", `document.querySelector('.tip').hidden`)
	eval[bool](p, `(document.querySelector('.field').focus(), true)`)
	p.do(chromedp.KeyEvent(kb.ArrowLeft))
	p.waitFor("a value by the keyboard", `!document.querySelector('.tip').hidden && document.querySelector('.field').getAttribute('aria-valuetext') === document.querySelector('.tip').innerText`)
	p.do(chromedp.KeyEvent(kb.Escape))
	p.waitFor("no value after Esc", `document.querySelector('.tip').hidden`)
	if words := eval[string](p, `[...document.querySelectorAll('.plot .top, .plot .zero, .legend')].map((e) => e.innerText).join(' ')`); !strings.Contains(words, "seats in use") || !strings.Contains(words, "10") {
		t.Errorf("the plots have the scale and legend %q, want numbers and a unit", words)
	}
}

// testConsoleAddresses: order and filter outlive a reload, and Back leads back.
func testConsoleAddresses(t *testing.T, p *page, ui string) {
	first := func() string { return eval[string](p, `document.querySelector('tbody tr td a').textContent`) }
	p.do(chromedp.Navigate("about:blank"), chromedp.Navigate(ui))
	p.see("tbody tr", "cad")
	p.do(chromedp.Click("//button[text()='In use']"), chromedp.Click("//button[text()='In use']"))
	p.waitFor("the order by seats in use, the most first", `document.querySelector('th[aria-sort=descending]')?.innerText.startsWith('In use')`)
	most := first()
	p.do(chromedp.Reload())
	p.see("tbody tr", "cad")
	if got := first(); got != most || !eval[bool](p, `Boolean(document.querySelector('th[aria-sort=descending]'))`) {
		t.Errorf("after a reload the first feature is %s, want %s and the same order", got, most)
	}
	p.do(chromedp.Click("//nav//a[text()='Allocations']"))
	p.see("tbody tr", "cad")
	p.do(chromedp.Click("//button[text()='User']"))
	p.waitFor("the order by user", `(() => { const users = [...document.querySelectorAll('tbody td:nth-child(2)')].map((e) => e.textContent); return users.length > 2 && users.every((u, i) => !i || users[i - 1].localeCompare(u, 'en', { numeric: true }) <= 0); })()`)
	p.do(chromedp.NavigateBack())
	p.waitFor("the overview again, as it was", `document.querySelector('nav a[aria-current]')?.hash === '#overview' && document.querySelector('th[aria-sort=descending]')`)
}

// testConsoleMotion: who wants none gets none.
func testConsoleMotion(t *testing.T, p *page) {
	emulate := func(value string) {
		if _, err := chromedp.Call(p.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-reduced-motion", Value: value}}}); err != nil {
			t.Fatal(err)
		}
	}
	emulate("reduce")
	defer emulate("")
	if n := eval[int](p, `[...document.querySelectorAll('*')].filter((e) => getComputedStyle(e).transitionDuration !== '0s' || getComputedStyle(e).animationName !== 'none').length`); n != 0 {
		t.Errorf("%d elements move", n)
	}
}

// One cluster with tokens: who may look, who may take seats back, and what is left on the
// screen when a token ends.
func TestDashboardByRole(t *testing.T) {
	inFull(t)
	t.Parallel()
	p := openBrowser(t)
	s := startStory(t, seats("cad", 10, longProfile))
	defer p.leave()
	s.checkout(t, "cad", "ann", "ws1")
	s.checkout(t, "cad", "bob", "ws2")
	admin := map[string]string{"SEATKEEPER_ADDR": s.address()}
	cli := func(args ...string) (token, id string) {
		t.Helper()
		code, out, stderr := run(t, admin, append(args, "-o", "json")...)
		var answer struct{ ID, Token string }
		if code != 0 || json.Unmarshal([]byte(out), &answer) != nil || answer.Token == "" {
			t.Fatalf("%v: exit code %d, %s", args, code, stderr)
		}
		return answer.Token, answer.ID
	}
	admin["SEATKEEPER_TOKEN"], _ = cli("acl", "bootstrap")
	viewer, viewerID := cli("token", "create", "--role", "viewer")
	operator, _ := cli("token", "create", "--role", "operator")
	client, _ := cli("token", "create", "--role", "client")
	signIn := func(token string) {
		t.Helper()
		p.waitFor("the door", `document.getElementById('door').open && document.activeElement.id === 'token'`)
		p.do(typeInto("token", token), chromedp.KeyEvent(kb.Enter))
	}
	signOut := func() {
		t.Helper()
		p.do(chromedp.Click(chromedp.ID("leave")))
		p.waitFor("the door", `document.getElementById('door').open && !sessionStorage.length`)
	}

	p.do(chromedp.Navigate("http://" + s.nodes[0].API + "/ui/#allocations?search=ann"))
	p.waitFor("the door", `document.getElementById('door').open`)
	p.screenshot("door")
	p.namesAll("the door", 3)
	signIn("skt_wrong")
	p.see("#door", "The token was refused")
	p.screenshot("door-wrong")
	if eval[bool](p, `document.body.innerText.includes('cad')`) {
		t.Error("something is shown to nobody")
	}

	signIn(viewer)
	p.see("tbody tr", "ann")
	p.see("#source", "signed in as viewer")
	p.see(".card .empty", "sign in with a token of the role operator; this one is viewer")
	p.waitFor("no button for what is not allowed", `![...document.querySelectorAll('button.kill')].some((e) => e.checkVisibility())`)
	if n := eval[int](p, `document.querySelectorAll('tbody tr').length`); n != 1 {
		t.Errorf("%d rows: the search of the address did not outlive the sign-in", n)
	}
	p.screenshot("viewer")

	// A token that ends takes the page with it.
	if code, _, stderr := run(t, admin, "token", "revoke", viewerID); code != 0 {
		t.Fatal(stderr)
	}
	p.waitFor("the door", `document.getElementById('door').open`)
	p.see("#door", "The token was refused")
	p.waitFor("nothing left of what the token showed", `!document.getElementById('main').checkVisibility() && !document.body.innerText.includes('ws1') && !document.getElementById('source').innerText`)

	signIn(client)
	p.see(".empty", "A token of the role client may not see who holds seats")
	signOut()
	signIn(operator)
	p.see("tbody tr", "ann")
	p.do(chromedp.Click(chromedp.CSS(`tbody tr button.kill`)), chromedp.WaitVisible(chromedp.ID("kill")))
	p.confirmKill()
	p.see(".empty", "No allocation is like that")
	p.see("#said", "Taken back: cad from ann")
	signOut()
	if eval[bool](p, `document.body.innerText.includes('bob')`) {
		t.Error("who signed out still sees who holds seats")
	}
}

// The leader and a second node go: what is shown is old, and says since when; then all is
// fresh again.
func TestDashboardSaysSinceWhenItIsOld(t *testing.T) {
	inFull(t)
	t.Parallel()
	p := openBrowser(t)
	s := startStory(t, seats("cad", 10, longProfile))
	defer p.leave()
	s.checkout(t, "cad", "ann", "ws1")
	serving := s.follower(t)
	p.do(chromedp.Navigate("http://" + serving.API + "/ui/#allocations"))
	p.see("tbody tr", "ann")
	p.waitFor("colours while all is fresh", `getComputedStyle(document.getElementById('main')).filter === 'none'`)
	var others []*devNode
	for _, n := range s.nodes {
		if n != serving {
			others = append(others, n)
			n.kill()
		}
	}
	p.see("#link", "No leader")
	p.waitFor("since when", `/No leader has answered since \d\d:\d\d:\d\d/.test(document.getElementById('news').innerText) && /^for \d+ s$/.test(document.getElementById('age').innerText)`)
	p.waitFor("no colours for what is old", `getComputedStyle(document.getElementById('main')).filter === 'grayscale(1)'`)
	p.see("tbody tr", "ann") // the node's own state
	p.screenshot("no-leader")
	p.do(chromedp.Navigate("http://" + serving.API + "/ui/#overview"))
	p.see(".findings", "No leader")
	p.see(".tile .value", "none")
	p.screenshot("no-leader-overview")

	for _, n := range others {
		if err := n.start(); err != nil {
			t.Fatal(err)
		}
	}
	p.see("#link", "Live")
	p.waitFor("colours again", `getComputedStyle(document.getElementById('main')).filter === 'none' && document.getElementById('banner').hidden`)

	p.see(".tile", "all 3 nodes answer")
	p.expectSilence(serving.API)
	serving.kill()
	p.see("#link", "Reconnecting")
	p.waitFor("as it was when", `/does not answer\. What is shown is as it was at \d\d:\d\d:\d\d/.test(document.getElementById('news').innerText)`)
	p.see(".tile .value", "Not known")
	p.waitFor("a title that says so", `document.title.startsWith('No answer: ')`)
	for _, n := range others {
		p.see("#banner a", n.Name)
	}
	p.screenshot("node-lost")
	if err := serving.start(); err != nil {
		t.Fatal(err)
	}
	p.see("#link", "Live")
	p.waitFor("no banner", `document.getElementById('banner').hidden && !document.title.startsWith('No answer')`)
	p.expectSilence("")
}

// testConsolePages goes through pages of ten thousand leases, and back by the browser.
func testConsolePages(t *testing.T, p *page) {
	p.do(chromedp.Click("//button[text()='Next']"))
	p.see(".card .head", "51–100 of 10,000")
	p.do(chromedp.Reload())
	p.see(".card .head", "51–100 of 10,000")
	p.do(chromedp.NavigateBack())
	p.see(".card .head", "1–50 of 10,000")
	p.do(chromedp.Click("//button[text()='User']"))
	p.see(".card .head", "this page sorted")
	p.do(chromedp.Click("//button[text()='User']"), chromedp.Click("//button[text()='User']"))
	p.do(chromedp.Evaluate[chromedp.Void](`(() => { const s = document.getElementById('size'); s.value = '250'; s.dispatchEvent(new Event('change')) })()`))
	p.see(".card .head", "1–250 of 10,000")
	p.do(chromedp.Reload())
	p.see(".card .head", "1–250 of 10,000")
	p.do(chromedp.Evaluate[chromedp.Void](`(() => { const s = document.getElementById('size'); s.value = '50'; s.dispatchEvent(new Event('change')) })()`))
	p.see(".card .head", "1–50 of 10,000")
}
