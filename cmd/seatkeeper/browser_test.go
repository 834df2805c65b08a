//go:build linux

package main

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// browsers are the names of a real Chromium, in the order of preference.
var browsers = []string{"chromium", "chromium-browser", "google-chrome", "chrome"}

// page is one tab of a real browser. Whatever its console says, a policy violation too,
// fails the test.
type page struct {
	t   *testing.T
	ctx context.Context

	mu   sync.Mutex
	said []string
	dead string // the node that does not answer now, and whose silence the browser may tell of
}

// openBrowser opens a tab, or skips the test where there is no browser.
func openBrowser(t *testing.T) *page {
	t.Helper()
	var binary string
	for _, name := range browsers {
		if path, err := exec.LookPath(name); err == nil {
			binary = path
			break
		}
	}
	if binary == "" {
		t.Skip("no Chromium found: apt-get install chromium")
	}
	alloc, stop := chromedp.NewExecAllocator(context.Background(), append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(binary), chromedp.NoSandbox, chromedp.WindowSize(1360, 900), chromedp.Flag("lang", "en"))...)
	t.Cleanup(stop)
	ctx, cancel := chromedp.NewContext(alloc)
	t.Cleanup(cancel)
	p := &page{t: t, ctx: ctx}
	if err := chromedp.Do(ctx); err != nil {
		t.Fatal(err)
	}
	if err := chromedp.Listen(ctx, p.hear); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if len(p.said) > 0 {
			t.Errorf("the browser's console is not empty:\n%s", strings.Join(p.said, "\n"))
		}
	})
	return p
}

func (p *page) hear(event any) {
	var text string
	switch e := event.(type) {
	case *runtime.EventConsoleAPICalled:
		text = "console." + string(e.Type)
		for _, a := range e.Args {
			text += fmt.Sprintf(" %s", a.Value)
		}
	case *runtime.EventExceptionThrown:
		text = fmt.Sprintf("exception: %+v", e.ExceptionDetails)
	case *log.EventEntryAdded:
		if p.ofTheDead(e.Entry) {
			return
		}
		text = fmt.Sprintf("%s: %s %s", e.Entry.Level, e.Entry.Text, e.Entry.URL)
	default:
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.said = append(p.said, text)
}

// expectSilence lets the browser say that the node at an address does not answer, which it
// does by itself; "" means that all answer again. Nothing else is ever let through.
func (p *page) expectSilence(address string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dead = address
}

// ofTheDead says whether an entry of the console is the browser's own word for a read that
// the dead node did not answer.
func (p *page) ofTheDead(e *log.Entry) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	at, err := url.Parse(e.URL)
	return err == nil && p.dead != "" && at.Host == p.dead && (at.Path == "/ui/events" || strings.HasPrefix(at.Path, "/v1/")) &&
		e.Source == log.EntrySourceNetwork && strings.HasPrefix(e.Text, "Failed to load resource: net::ERR_")
}

// leave ends what the page does, before its servers end.
func (p *page) leave() {
	_ = chromedp.Do(p.ctx, chromedp.Navigate("about:blank"))
}

// do runs steps within the patience of these tests.
func (p *page) do(steps ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		p.t.Fatalf("%v; the page shows:\n%s", err, p.shown())
	}
}

// eval evaluates an expression in the page.
func eval[T any](p *page, expression string) T {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		p.t.Fatalf("%s: %v", expression, err)
	}
	return v
}

// shown is the text of the page, as far as it can be had.
func (p *page) shown() string {
	text, _ := chromedp.Run(p.ctx, chromedp.Evaluate[string](`document.body.innerText`))
	return text
}

// waitFor waits until an expression is true in the page.
func (p *page) waitFor(what, expression string) {
	p.t.Helper()
	err := waitFor(p.t.Context(), what, patience, func(ctx context.Context) error {
		ok, err := chromedp.Run(p.ctx, chromedp.Evaluate[bool](`Boolean(`+expression+`)`))
		if err == nil && !ok {
			err = fmt.Errorf("not so: %s", expression)
		}
		return err
	})
	if err != nil {
		p.t.Fatalf("%v; the page shows:\n%s", err, p.shown())
	}
}

// see waits until an element has a text in it.
func (p *page) see(selector, text string) {
	p.t.Helper()
	p.waitFor(fmt.Sprintf("%q in %s", text, selector),
		fmt.Sprintf(`[...document.querySelectorAll(%q)].some((e) => e.innerText.includes(%q))`, selector, text))
}

// look sets what the viewer's device is like.
func (p *page) look(width, height int64, dark bool) {
	p.t.Helper()
	scheme := "light"
	if dark {
		scheme = "dark"
	}
	p.do(chromedp.EmulateViewport(width, height))
	_, err := chromedp.Call(p.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
	if err != nil {
		p.t.Fatal(err)
	}
}

// screenshot keeps what the page looks like when SEATKEEPER_SCREENSHOTS names a folder.
func (p *page) screenshot(name string) {
	p.t.Helper()
	dir := os.Getenv("SEATKEEPER_SCREENSHOTS")
	if dir == "" {
		return
	}
	data, err := chromedp.Run(p.ctx, chromedp.FullScreenshot(100))
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, name+".png"), data, 0o644)
	}
	if err != nil {
		p.t.Error(err)
	}
}
