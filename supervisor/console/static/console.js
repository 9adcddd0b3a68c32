"use strict";
// Keeps an open page as it is now: parts come by server-sent events, ages are counted here, and what is shown says how
// old it is. A page that is not seen asks now and then instead, as a browser opens six connections to one host at most.
(() => {
  const body = document.body;
  const csrf = document.querySelector('meta[name="csrf"]').content;
  const ages = new Map(); // key -> when it was, by performance.now(), or null for never
  const lists = new Map(); // list -> ids in order
  const OLD_MS = 6000, HIDDEN_EVERY_MS = 5000, AGAIN_MS = 1500;
  let seen = body.dataset.seen || "", source = null, heardAt = null, lost = false, timer = 0;

  const words = (ms) => {
    let left = Math.max(0, Math.floor(ms / 1000));
    const out = [];
    for (const [name, size] of [["d", 86400], ["h", 3600], ["m", 60], ["s", 1]]) {
      const count = Math.floor(left / size);
      left -= count * size;
      if (count) out.push(count + name);
      if (out.length === 2 || (out.length && !count)) break;
    }
    return (out.join(" ") || "0s") + " ago";
  };

  const tick = () => {
    const now = performance.now();
    for (const one of document.querySelectorAll("time[data-a]")) {
      const key = one.dataset.a;
      if (!ages.has(key)) continue;
      const at = ages.get(key);
      const text = at === null ? "never" : words(now - at);
      if (one.textContent !== text) one.textContent = text;
    }
    const link = document.getElementById("link");
    if (!link) return;
    const old = heardAt === null || now - heardAt > OLD_MS;
    if (link.classList.contains("old") !== (old || lost)) {
      link.classList.toggle("old", old || lost);
      document.documentElement.classList.toggle("stale", old || lost);
    }
    const state = lost ? "▲ The connection is lost. What is shown was updated " : old ? "▲ What is shown was updated " : "updated ";
    if (link.firstChild.nodeValue !== state) link.firstChild.nodeValue = state;
  };

  const secrets = (root) => {
    for (const one of root.querySelectorAll('input[name="csrf"]')) one.value = csrf;
  };

  // What somebody typed stays when the part around it is made anew; that they looked at both sides does not.
  const kept = (part) => {
    const found = new Map();
    for (const one of part.querySelectorAll("input:not([type=hidden]):not([type=checkbox]), select")) {
      if (one.form) found.set(one.form.id + "|" + one.form.getAttribute("action") + "|" + one.name, one.value);
    }
    const open = [...part.querySelectorAll("details[open]")].map((one) => one.dataset.record || "form");
    return [found, open];
  };

  const put = (id, html) => {
    const made = document.createElement("template");
    made.innerHTML = html;
    const fresh = made.content.firstElementChild;
    if (!fresh) return;
    const old = document.getElementById(id);
    if (!old) { waiting.set(id, fresh); return; }
    const [values, open] = kept(old);
    const focused = old.contains(document.activeElement) ? document.activeElement : null;
    const focus = focused && [focused.tagName, focused.name || "", focused.getAttribute("href") || "", focused.form ? focused.form.id : ""];
    old.replaceWith(fresh);
    secrets(fresh);
    for (const one of fresh.querySelectorAll("input:not([type=hidden]):not([type=checkbox]), select")) {
      const value = one.form && values.get(one.form.id + "|" + one.form.getAttribute("action") + "|" + one.name);
      if (typeof value === "string") one.value = value;
    }
    for (const one of fresh.querySelectorAll("details")) if (open.includes(one.dataset.record || "form")) one.open = true;
    if (window.htmx) window.htmx.process(fresh);
    if (focus) {
      const again = [...fresh.querySelectorAll(focus[0])].find((one) => (one.name || "") === focus[1] && (one.getAttribute("href") || "") === focus[2] && (one.form ? one.form.id : "") === focus[3]);
      if (again) again.focus({ preventScroll: true });
    }
  };
  const waiting = new Map(); // rows that have come before their place in a list

  const arrange = (name) => {
    const list = document.querySelector(`[data-list="${name}"]`);
    const order = lists.get(name);
    if (!list || !order) return;
    const focused = list.contains(document.activeElement) ? document.activeElement : null;
    let at = list.firstElementChild;
    for (const id of order) {
      const row = document.getElementById(id) || waiting.get(id);
      if (!row) continue;
      waiting.delete(id);
      if (row === at) { at = at.nextElementSibling; continue; }
      list.insertBefore(row, at);
    }
    const wanted = new Set(order);
    for (const row of [...list.children]) if (!wanted.has(row.id)) row.remove();
    if (focused && document.activeElement !== focused && focused.isConnected) focused.focus({ preventScroll: true });
  };

  const take = (message) => {
    const now = performance.now();
    lost = false;
    seen = message.seen;
    heardAt = message.heard === null ? null : now - message.heard * 1000;
    ages.set("heard", heardAt);
    for (const [id, html] of Object.entries(message.parts || {})) put(id, html);
    // What was done is said until what came of it is seen.
    if (message.parts && message.parts.break) for (const one of document.querySelectorAll(".said")) one.remove();
    for (const [name, order] of Object.entries(message.lists || {})) lists.set(name, order);
    for (const name of lists.keys()) arrange(name);
    for (const [key, age] of Object.entries(message.ages || {})) ages.set(key, age === null ? null : now - age * 1000);
    if (message.waiting !== undefined) document.title = (message.waiting ? `(${message.waiting}▲) ` : "") + body.dataset.title + " · supervisor";
    tick();
  };

  const address = (once) => "/live?page=" + encodeURIComponent(body.dataset.live) + "&seen=" + encodeURIComponent(seen) + (once ? "&once=1" : "");
  const signedOut = () => location.reload(); // to sign in, or with what a new role may

  const follow = () => {
    if (source) source.close();
    clearTimeout(timer);
    if (document.hidden) { timer = setTimeout(glance, HIDDEN_EVERY_MS); return; }
    source = new EventSource(address(false));
    const mine = source;
    mine.addEventListener("state", (event) => take(JSON.parse(event.data)));
    mine.addEventListener("signed-out", signedOut);
    mine.addEventListener("error", () => {
      lost = true;
      tick();
      mine.close();
      if (source === mine) { source = null; clearTimeout(timer); timer = setTimeout(glance, AGAIN_MS); }
    });
  };

  // One answer by itself: for a page that nobody sees, and to find out whether the connection is back.
  const glance = async () => {
    try {
      const answer = await fetch(address(true), { headers: { "HX-Request": "true" }, cache: "no-store" });
      if (answer.status === 401) { signedOut(); return; }
      if (!answer.ok) throw new Error(String(answer.status));
      take(await answer.json());
      follow();
    } catch {
      lost = true;
      tick();
      clearTimeout(timer);
      timer = setTimeout(glance, document.hidden ? HIDDEN_EVERY_MS : AGAIN_MS);
    }
  };

  const rows = () => [...document.querySelectorAll("main tbody th[scope=row] a, .records summary")];
  document.addEventListener("keydown", (event) => {
    const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName);
    if (event.key === "Escape" && typing) { event.target.blur(); return; }
    if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
    const list = rows(), at = list.indexOf(document.activeElement);
    switch (event.key) {
      case "j": if (list.length) list[Math.min(list.length - 1, at + 1)].focus(); break;
      case "k": if (list.length) list[Math.max(0, at - 1)].focus(); break;
      case "/": { const box = document.getElementById("q"); if (!box) return; box.focus(); box.select(); break; }
      case "f": location.href = "/"; break;
      case "b": location.href = "/breaks"; break;
      default: return;
    }
    event.preventDefault();
  });

  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (form.method !== "post") return;
    if (form.dataset.sent) { event.preventDefault(); return; } // pressed twice
    form.dataset.sent = "1";
    setTimeout(() => delete form.dataset.sent, 4000);
  });

  // What answers a form is no place to come back to: the browser would ask to send the form again, and have no page.
  if (body.dataset.posted !== undefined) history.replaceState(null, "", body.dataset.posted);
  secrets(document);
  setInterval(tick, 1000);
  if (body.dataset.live !== undefined) {
    if (body.dataset.heard) { heardAt = performance.now() - Number(body.dataset.heard) * 1000; ages.set("heard", heardAt); }
    document.addEventListener("visibilitychange", follow);
    // A page that is gone back to is as old as it was: it asks before it is believed.
    window.addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
    window.addEventListener("pagehide", () => { if (source) source.close(); });
    follow();
  }
})();
