(() => {
  "use strict";
  // One window of time, in thousandths of the run, for all charts.
  const end = Number(document.body.dataset.end) / 1e9, faults = JSON.parse(document.getElementById("shown").textContent) || [];
  const charts = [...document.querySelectorAll("svg.chart")], tip = document.getElementById("tip"), ns = "http://www.w3.org/2000/svg";
  let from = 0, wide = 1000, drag = null;
  document.querySelector(".hint").hidden = false;
  const two = n => String(n).padStart(2, "0");
  const clock = (s, step) => {
    const part = (v, wide) => { const x = v.toFixed(step < 1 ? Math.ceil(-Math.log10(step)) : 0); return wide && v < 10 ? "0" + x : x; };
    if (s < 60) return part(s) + " s";
    const rest = Math.floor(s / 60);
    return (rest < 60 ? rest : Math.floor(rest / 60) + ":" + two(rest % 60)) + ":" + part(s - rest * 60, true);
  };
  const geometry = c => ({ left: +c.dataset.left, width: +c.dataset.width });
  const place = (c, e) => {
    const r = c.getBoundingClientRect(), g = geometry(c), scale = c.viewBox.baseVal.width / r.width;
    const share = ((e.clientX - r.left) * scale - g.left) / g.width;
    return share < 0 || share > 1 ? null : from + share * wide;
  };
  function show() {
    for (const c of charts) {
      const g = geometry(c), plot = c.querySelector(".plot"), x = c.querySelector(".x"), at = v => g.left + (v - from) / wide * g.width;
      plot.setAttribute("viewBox", `${from} 0 ${wide} 100`);
      for (const t of c.querySelectorAll(".over")) {
        const a = Math.max(+t.dataset.a, from), b = Math.min(+t.dataset.b, from + wide);
        t.setAttribute("x", at((a + b) / 2));
        t.setAttribute("visibility", b > a && (b - a) / wide * g.width >= 6 * t.textContent.length ? "visible" : "hidden");
      }
      const s = wide / 1000 * end, raw = s / (g.width / 100), ten = 10 ** Math.floor(Math.log10(raw));
      const step = raw > 1 ? [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400].find(v => v >= raw) || 28800 : [1, 2, 5, 10].find(k => k * ten >= raw) * ten;
      x.replaceChildren();
      for (let i = Math.ceil(from / 1000 * end / step); i * step <= (from + wide) / 1000 * end + 1e-9; i++) {
        const t = document.createElementNS(ns, "text");
        t.setAttribute("x", at(i * step / end * 1000));
        t.setAttribute("y", x.dataset.y);
        t.textContent = clock(i * step, step);
        x.append(t);
      }
    }
  }
  const hide = () => { tip.hidden = true; for (const c of charts) c.querySelector(".cross").style.visibility = "hidden"; };
  for (const c of charts) {
    const plot = c.querySelector(".plot");
    c.addEventListener("pointermove", e => {
      const v = place(c, e);
      if (v === null) return hide();
      for (const o of charts) {
        const g = geometry(o), line = o.querySelector(".cross");
        line.setAttribute("transform", `translate(${g.left + (v - from) / wide * g.width} 0)`);
        line.style.visibility = "visible";
      }
      const now = faults.filter(f => f.A <= v && v <= f.B).map(f => f.T);
      tip.textContent = clock(v / 1000 * end, end * wide / 1e6) + (now.length ? "\n" + now.slice(0, 8).join("\n") : "");
      tip.hidden = false;
      tip.style.left = Math.min(e.clientX + 14, innerWidth - tip.offsetWidth - 8) + "px";
      tip.style.top = Math.min(e.clientY + 16, innerHeight - tip.offsetHeight - 8) + "px";
      if (drag) {
        drag.box.setAttribute("x", Math.min(drag.v, v));
        drag.box.setAttribute("width", Math.abs(v - drag.v));
      }
    });
    c.addEventListener("pointerleave", hide);
    c.addEventListener("pointerdown", e => {
      const v = place(c, e);
      if (v === null || e.button) return;
      const box = document.createElementNS(ns, "rect");
      box.id = "zoomed";
      box.setAttribute("height", 100);
      plot.append(box);
      drag = { v, box, c };
    });
    c.addEventListener("dblclick", () => { from = 0; wide = 1000; show(); });
  }
  addEventListener("pointerup", e => {
    if (!drag) return;
    const d = drag, v = place(d.c, e);
    drag = null;
    d.box.remove();
    if (v === null || Math.abs(v - d.v) < wide / 200) return;
    from = Math.min(v, d.v);
    wide = Math.abs(v - d.v);
    show();
  });
})();
