//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"

	"github.com/seatkeeper/seatkeeper/lease"
	"github.com/seatkeeper/seatkeeper/rpc/client"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// hostile are names that would be markup, script or a format if anything took them so.
var hostile = []string{
	`<img src=x onerror="window.owned=1">`,
	`"><script>window.owned=2</script>`,
	`'-alert(1)-' {{constructor.constructor('window.owned=3')()}}`,
	`${window.owned=4} %s %c`,
	"\u202eevil\u2066 أحمد", // text that turns others around
}

// checkout takes a seat as curl would, for a user on a host.
func (s *story) checkout(t *testing.T, feature, user, host string) {
	t.Helper()
	if err := s.ask(t.Context(), &pb.CheckoutRequest{Feature: feature, User: user, Host: host, Display: ":0"}); err != nil {
		t.Fatal(err)
	}
}

// ask sends a request, in a session of its own, until it is answered: that nobody leads for
// a moment, as on a busy machine at any time, is no answer.
func (s *story) ask(ctx context.Context, req *pb.CheckoutRequest) (refused error) {
	minted, err := (&app{}).openSession(sessionFlags{})
	if err != nil {
		return err
	}
	req.SessionId, req.SessionSecret, req.Seq = minted.ID, minted.Secret, 1
	err = waitFor(ctx, "an answer", patience, func(ctx context.Context) error {
		_, refused = s.conn.seats.Checkout(ctx, req)
		switch client.ReasonOf(refused) {
		case client.NotLeader, client.UnknownOutcome, client.Unreachable, lease.Overloaded:
			return refused
		}
		return nil
	})
	return errors.Join(err, refused)
}

// follower is a node that does not lead.
func (s *story) follower(t *testing.T) *devNode {
	t.Helper()
	leader := s.leader(t)
	for _, n := range s.nodes {
		if n != leader {
			return n
		}
	}
	t.Fatal("no follower")
	return nil
}

var longProfile = lease.Profile{Lifespan: 10 * time.Minute, Grace: 10 * time.Minute}

// One cluster and one browser for what an operator does; the leader dies at the end.
func TestDashboardInARealBrowser(t *testing.T) {
	inFull(t)
	t.Parallel()
	p := openBrowser(t)
	s := startStory(t, seats("cad", 10, longProfile), seats("solver", 5, longProfile), seats("mesh", 2, longProfile))
	defer p.leave()
	at := s.follower(t)
	ui := "http://" + at.API + "/ui/"
	p.look(1360, 900, false)

	t.Run("loads and says who leads", func(t *testing.T) {
		p.t = t
		resp, err := chromedp.Run(p.ctx, chromedp.NavigateResponse("http://"+at.API+"/"))
		if err != nil {
			t.Fatal(err)
		}
		if resp.URL != ui {
			t.Errorf("/ leads to %s, want %s", resp.URL, ui)
		}
		csp := fmt.Sprint(resp.Headers["Content-Security-Policy"])
		for _, want := range []string{"default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "require-trusted-types-for 'script'"} {
			if !strings.Contains(csp, want) {
				t.Errorf("Content-Security-Policy is %q, want %s in it", csp, want)
			}
		}
		p.see(".tile .value", s.leader(t).Name)
		p.see(".tile .value", "17")
		p.see("#link", "Live")
		p.see(".tile .value", "No")
		for _, section := range []string{"overview", "allocations", "waiting", "licences", "cluster", "policy"} {
			p.do(chromedp.Navigate(ui + "#" + section))
			p.waitFor("nothing to be read any more", `![...document.querySelectorAll('#main .empty')].some((e) => e.checkVisibility() && e.textContent === 'Reading…')`)
			p.screenshot(section + "-empty-light")
			p.look(1360, 900, true)
			p.screenshot(section + "-empty-dark")
			p.look(1360, 900, false)
		}
		p.do(chromedp.Navigate(ui + "#overview"))
	})

	t.Run("a checkout shows without a reload", func(t *testing.T) {
		p.t = t
		eval[bool](p, `(window.sameDocument = true)`)
		for i := range 2 {
			s.checkout(t, "mesh", fmt.Sprintf("user%d", i), "ws1")
		}
		s.checkout(t, "cad", "ann", "ws1")
		p.see("tbody tr", "2 of 2")
		p.see(".findings", "mesh: no seat is free")
		if !eval[bool](p, `window.sameDocument === true`) {
			t.Error("the page was loaded again")
		}
		p.see(".plot .now", "2 of 2, peak 2")
		p.screenshot("overview")
	})

	t.Run("hostile names are text", func(t *testing.T) { p.t = t; testHostileNames(t, p, s) })
	t.Run("search and filters", func(t *testing.T) { p.t = t; testConsoleSearch(t, p) })
	t.Run("kill by the dialog", func(t *testing.T) { p.t = t; testConsoleKill(t, p, s) })
	t.Run("keyboard alone", func(t *testing.T) { p.t = t; testConsoleKeyboard(t, p, s, ui) })
	t.Run("denials and policy", func(t *testing.T) { p.t = t; testConsoleDenialsAndPolicy(t, p, s, ui) })
	t.Run("plots", func(t *testing.T) { p.t = t; testConsolePlots(t, p, ui) })
	t.Run("addresses", func(t *testing.T) { p.t = t; testConsoleAddresses(t, p, ui) })
	t.Run("no motion", func(t *testing.T) { p.t = t; testConsoleMotion(t, p) })
	t.Run("every section", func(t *testing.T) {
		p.t = t
		for _, section := range []string{"overview", "allocations", "waiting", "licences", "cluster", "policy"} {
			p.do(chromedp.Navigate(ui + "#" + section))
			p.waitFor("the section "+section, `document.querySelector('nav a[aria-current]')?.hash === '#`+section+`'`)
			p.see("#link", "Live")
			p.waitFor("nothing to be read any more", `![...document.querySelectorAll('#main .empty')].some((e) => e.checkVisibility() && e.textContent === 'Reading…')`)
			if n := eval[int](p, `document.querySelectorAll('td img, td script, td b, td i:not(.used, .late, .kept)').length`); n != 0 || eval[bool](p, `'owned' in window`) {
				t.Errorf("%s: %d elements came out of a name", section, n)
			}
			p.namesAll(section, 8) // the links to the sections, at least
			p.screenshot(section + "-light")
			p.look(1360, 900, true)
			p.screenshot(section + "-dark")
			p.look(1100, 800, false)
			if cut := eval[string](p, `[...document.querySelectorAll('button.kill, .level, td.ends')].filter((e) => e.checkVisibility()).filter((e) => {
				const r = e.getBoundingClientRect();
				return r.right > innerWidth || r.height > 48;
			}).map((e) => e.textContent).join()`); cut != "" {
				t.Errorf("%s: on a small desk these are out of sight or broken: %s", section, cut)
			}
			p.screenshot(section + "-desk")
			p.look(360, 740, false)
			if wide := eval[int](p, `document.documentElement.scrollWidth`); wide > 360 {
				t.Errorf("%s is %d pixels wide on a screen of 360", section, wide)
			}
			p.screenshot(section + "-phone")
			p.look(1360, 900, false)
		}
	})
	t.Run("the leader dies", func(t *testing.T) { p.t = t; testConsoleLeaderDies(t, p, s) })
}

func testHostileNames(t *testing.T, p *page, s *story) {
	for _, name := range hostile {
		s.checkout(t, "cad", name, name)
	}
	p.do(chromedp.Navigate(eval[string](p, `location.origin + '/ui/#allocations'`)))
	for _, name := range hostile {
		// Signs that turn text around are shown as what they are.
		name = strings.NewReplacer("\u202e", "\ufffd", "\u2066", "\ufffd").Replace(name)
		p.waitFor(name, fmt.Sprintf(`[...document.querySelectorAll('td')].some((e) => e.textContent === %s)`, quoteJS(name)))
	}
	if n := eval[int](p, `document.querySelectorAll('td img, td script').length`); n != 0 {
		t.Errorf("%d elements came out of a name", n)
	}
	if eval[bool](p, `'owned' in window`) {
		t.Error("a name ran as a script")
	}
}

func testConsoleSearch(t *testing.T, p *page) {
	p.do(typeInto("search", "ANN"))
	p.waitFor("one row", `document.querySelectorAll('tbody tr').length === 1`)
	p.see("tbody tr", "ann")
	p.do(typeInto("search", "nobody-is-called-so"))
	p.see(".empty", "No allocation is like that")
	p.do(chromedp.Evaluate[chromedp.Void](`(() => { const s = document.getElementById('search'); s.value = ''; const f = document.getElementById('feature'); f.value = 'mesh'; f.dispatchEvent(new Event('change')) })()`))
	p.waitFor("two rows of mesh", `document.querySelectorAll('tbody tr').length === 2`)
	if hash := eval[string](p, `location.hash`); hash != "#allocations?feature=mesh" {
		t.Errorf("the address ends with %s, want the filter in it", hash)
	}
}

// quoteJS makes a string of JavaScript.
func quoteJS(s string) string {
	text, _ := json.Marshal(s)
	return string(text)
}

// typeInto puts text into a field by the keyboard, in place of what is there.
func typeInto(id, text string) chromedp.Action[chromedp.Void] {
	return func(ctx context.Context, tab *chromedp.Target) (chromedp.Void, error) {
		if _, err := chromedp.Evaluate[chromedp.Void](fmt.Sprintf(`document.getElementById(%q).select()`, id))(ctx, tab); err != nil {
			return chromedp.Void{}, err
		}
		return chromedp.KeyEvent(text)(ctx, tab)
	}
}

func testConsoleKill(t *testing.T, p *page, s *story) {
	p.do(chromedp.Click(chromedp.CSS(`tbody tr button.kill`)), chromedp.WaitVisible(chromedp.ID("kill")))
	p.see("#kill", "mesh")
	p.see("#kill button.danger", "Take back from user")
	p.screenshot("kill")
	p.do(chromedp.KeyEvent(kb.Escape))
	p.waitFor("the dialog's end", `!document.getElementById('kill').open`)
	if n := s.inUse(t, "mesh"); n != 2 {
		t.Fatalf("after Escape %d seats of mesh are in use, want 2", n)
	}
	p.do(chromedp.Click(chromedp.CSS(`tbody tr button.kill`)), chromedp.WaitVisible(chromedp.ID("kill")))
	p.confirmKill()
	p.waitFor("one row of mesh", `document.querySelectorAll('tbody tr').length === 1`)
	s.waitInUse(t, "mesh", 1)
}

// confirmKill says yes to the dialog.
func (p *page) confirmKill() {
	p.t.Helper()
	p.do(chromedp.Click(chromedp.CSS(`#kill button.danger`)))
	p.killed()
}

// killed waits for the dialog's end; it says yes again where the answer was that nobody leads.
func (p *page) killed() {
	p.t.Helper()
	p.waitFor("the dialog's end", `(() => {
		const [dialog, yes] = [document.getElementById('kill'), document.querySelector('#kill button.danger')];
		if (dialog.open && !yes.disabled && dialog.querySelector('.error').textContent) yes.click();
		return !dialog.open;
	})()`)
}

// pressSlash is a key as a keyboard sends it: the page takes it, so no letter follows.
// chromedp.KeyEvent sends one always, into whatever has the focus by then.
var pressSlash = chromedp.Func(func(ctx context.Context, tab *chromedp.Target) error {
	for _, kind := range []input.DispatchKeyEventType{input.DispatchKeyEventTypeRawKeyDown, input.DispatchKeyEventTypeKeyUp} {
		if _, err := cdp.Call(ctx, tab, input.DispatchKeyEvent, input.DispatchKeyEventParams{Type: kind, Key: "/", Code: "Slash"}); err != nil {
			return err
		}
	}
	return nil
})

// testConsoleKeyboard goes from the top of the page to a kill without a mouse.
func testConsoleKeyboard(t *testing.T, p *page, s *story, ui string) {
	s.checkout(t, "solver", "kim", "ws9")
	p.do(chromedp.Navigate("about:blank"), chromedp.Navigate(ui))
	p.see("#link", "Live")
	p.do(chromedp.KeyEvent(kb.Tab))
	if got := eval[string](p, `document.activeElement.textContent`); got != "Skip to the content" {
		t.Errorf("the first stop is %q, want the skip link", got)
	}
	p.do(pressSlash)
	p.waitFor("the search field", `document.activeElement?.id === 'search'`)
	p.do(chromedp.KeyEvent("kim"))
	p.waitFor("one row", `document.querySelectorAll('tbody tr').length === 1`)
	for range 24 { // the filters and the columns to sort by lie between
		if eval[bool](p, `document.activeElement.matches('button.kill')`) {
			break
		}
		p.do(chromedp.KeyEvent(kb.Tab))
		if eval[bool](p, `document.activeElement.matches('button, input, select, a, [tabindex]') && getComputedStyle(document.activeElement).outlineStyle === 'none'`) {
			t.Errorf("no focus is to be seen on %s", eval[string](p, `document.activeElement.outerHTML.slice(0, 80)`))
		}
	}
	if name := eval[string](p, `document.activeElement.getAttribute('aria-label')`); !strings.Contains(name, "Take solver back from kim on ws9") {
		t.Fatalf("Tab leads to %q, want the button that takes kim's seat back", name)
	}
	p.do(chromedp.KeyEvent(kb.Enter), chromedp.WaitVisible(chromedp.ID("kill")))
	if got := eval[string](p, `document.activeElement.textContent`); got != "Keep it" {
		t.Errorf("the dialog begins at %q, want the harmless button", got)
	}
	p.do(chromedp.KeyEvent(kb.Tab), chromedp.KeyEvent(kb.Enter))
	p.killed()
	s.waitInUse(t, "solver", 0)
	p.see("#said", "Taken back")
	p.see(".empty", "No allocation is like that")
	if eval[bool](p, `document.activeElement === document.body`) {
		t.Error("after the kill the focus is nowhere")
	}
}

func testConsoleDenialsAndPolicy(t *testing.T, p *page, s *story, ui string) {
	if err := s.ask(t.Context(), &pb.CheckoutRequest{Feature: "solver", Count: proto.Int32(9), User: "<b>greedy</b>", Host: "ws7"}); client.ReasonOf(err) != lease.TooManyRequested {
		t.Fatalf("nine seats of five: %v", err)
	}
	// A place in the queue and a booking, both of people with names that nobody should have.
	if err := s.ask(t.Context(), &pb.CheckoutRequest{Feature: "mesh", Count: proto.Int32(2), QueueMs: 600_000, User: hostile[0], Host: hostile[1]}); client.ReasonOf(err) != "queued" {
		t.Fatal(err)
	}
	eventually(t, "a booking", func() error {
		_, err := pb.NewQueueClient(s.conn.client).BookingCreate(t.Context(), &pb.BookingCreateRequest{Id: "nightly-7", Feature: "cad", Count: proto.Int32(2),
			ForMs: 3_600_000, User: hostile[0], Project: hostile[3]})
		return err
	})
	if err := s.denied(t.Context(), hostile[2]); err != nil {
		t.Fatal(err)
	}
	body := `{"policy":{"groups":[{"name":"staff","members":["ann","<i>bob</i>"]}],"rules":[{"kind":"max","feature":"cad","who_type":"user","who":"ann","seats":3}]}}`
	eventually(t, "a policy", func() error {
		refused, err := post(t.Context(), http.DefaultClient, s.leader(t).API, "/v1/policy", body, &pb.PolicyApplyResponse{})
		if refused != nil {
			err = errors.New(refused.Message)
		}
		return err
	})
	p.do(chromedp.Navigate("about:blank"), chromedp.Navigate(ui+"#waiting"))
	p.see("tbody tr", "too_many_requested")
	p.see("tbody tr", "<b>greedy</b>")
	p.see("[aria-label=Queue] tbody tr", "2 × mesh")
	p.see("[aria-label=Bookings] tbody tr", "nightly-7")
	for _, name := range hostile[:4] {
		p.waitFor(name, fmt.Sprintf(`[...document.querySelectorAll('td')].some((e) => e.textContent === %s)`, quoteJS(name)))
	}
	p.do(chromedp.Navigate(ui + "#policy"))
	p.see("tbody tr", "user ann")
	p.see("tbody tr", "<i>bob</i>")
	p.do(chromedp.Navigate(ui))
	p.see(".card .head", "since the cluster began, by the records of usage")
}

// denied asks for more than there is.
func (s *story) denied(ctx context.Context, user string) error {
	err := s.ask(ctx, &pb.CheckoutRequest{Feature: "solver", Count: proto.Int32(99), User: user, Host: user})
	if client.ReasonOf(err) != lease.TooManyRequested {
		return fmt.Errorf("99 of five seats: %v", err)
	}
	return nil
}

func testConsoleLeaderDies(t *testing.T, p *page, s *story) {
	// Who led when the story began may not lead now: the page comes from a node that stays.
	old := s.leader(t)
	serving := s.nodes[slices.IndexFunc(s.nodes, func(n *devNode) bool { return n != old })]
	p.do(chromedp.Navigate("http://" + serving.API + "/ui/"))
	p.see(".tile .value", old.Name)
	eval[bool](p, `(window.sameDocument = true)`)
	old.kill()
	next := s.leader(t)
	p.see(".tile .value", next.Name)
	p.see(".chips", old.Name+" unreachable")
	p.see(".findings", "does not answer")
	p.see("#link", "Live")
	p.screenshot("leader-lost")
	s.checkout(t, "solver", "after", "ws1")
	p.see("tbody tr", "1 of 5")
	if !eval[bool](p, `window.sameDocument === true`) {
		t.Error("the page was loaded again")
	}

	// The node that serves the page dies, too: the page says so and names the others.
	p.expectSilence(serving.API)
	var left string
	for _, n := range s.nodes {
		switch n {
		case old:
		case serving:
			n.kill()
		default:
			left = n.Name
		}
	}
	p.see("#link", "Reconnecting")
	p.see("#banner", "does not answer")
	p.see("#banner a", left)
}

// Ten thousand leases: the server pages and searches, the page stays small.
func TestDashboardPagesTenThousandLeases(t *testing.T) {
	inFull(t)
	t.Parallel()
	p := openBrowser(t)
	const many = 10_000
	s := startStory(t, unshared("cad", many+500, longProfile), seats("solver", 5, longProfile))
	defer p.leave()
	s.crowd(t, "cad", many)
	p.look(1360, 900, false)
	p.do(chromedp.Navigate("http://" + s.follower(t).API + "/ui/#allocations"))
	p.see(".card .head", "1–50 of 10,000")
	testConsolePages(t, p)
	if n := eval[int](p, `document.querySelectorAll('tbody tr').length`); n != 50 {
		t.Errorf("%d rows are on the page, want 50", n)
	}
	p.screenshot("many")
	p.do(chromedp.SendKeys(chromedp.ID("search"), "user-7777"))
	p.waitFor("one row", `document.querySelectorAll('tbody tr').length === 1`)
	p.see("tbody tr", "user-7777")
	p.do(chromedp.Click(chromedp.CSS(`tbody tr button.kill`)), chromedp.WaitVisible(chromedp.ID("kill")))
	p.confirmKill()
	s.waitInUse(t, "cad", many-1)
	p.see(".empty", "No allocation is like that")
	p.do(chromedp.Navigate(eval[string](p, `location.origin + '/ui/#overview'`)))
	p.see("tbody tr", "9,999 of 10,500")
	p.screenshot("many-overview")
}

// crowd checks seats out for many users, each with a session of its own.
func (s *story) crowd(t *testing.T, feature string, n int) {
	t.Helper()
	var g errgroup.Group
	g.SetLimit(24)
	for i := range n {
		g.Go(func() error {
			return s.ask(context.Background(), &pb.CheckoutRequest{Feature: feature,
				User: fmt.Sprintf("user-%d", i), Host: fmt.Sprintf("ws-%03d.example.com", i%300), Display: fmt.Sprintf(":%d", i%8)})
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
}

func TestForeignPagesChangeNothing(t *testing.T) {
	inFull(t)
	t.Parallel()
	s := startStory(t, seats("cad", 3, longProfile))
	s.checkout(t, "cad", "ann", "ws1")
	for name, headers := range map[string][]string{
		"a form of another site":             {"Sec-Fetch-Site", "cross-site"},
		"an old browser's, by origin":        {"Origin", "https://evil.example"},
		"our origin without the page's mark": {"Sec-Fetch-Site", "same-origin"},
		"with the mark, but foreign":         {"Sec-Fetch-Site", "same-site", "X-Seatkeeper-Console", "1"},
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+s.leader(t).API+"/v1/kill", strings.NewReader(`{"user":"ann"}`))
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(headers); i += 2 {
			req.Header.Set(headers[i], headers[i+1])
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusForbidden {
			t.Errorf("%s: answered %d, want 403", name, resp.StatusCode)
		}
	}
	if n := s.inUse(t, "cad"); n != 1 {
		t.Errorf("%d seats in use, want 1", n)
	}
}
