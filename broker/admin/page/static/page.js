// Keeps the page up to date, and has things done. Everything is rendered by the
// broker; this puts it in its place.
const body = document.body;
const $ = (id) => document.getElementById(id);
const skew = Number(body.dataset.now) * 1000 - Date.now(); // the broker's clock less ours

// ---- times ----
function age(seconds) {
  const s = Math.max(0, Math.floor(seconds)), m = Math.floor(s / 60), h = Math.floor(m / 60), d = Math.floor(h / 24);
  if (s < 60) return s + "s";
  if (m < 60) return m + "m";
  if (h < 24) return h + "h" + (m % 60) + "m";
  return d + "d" + (h % 24) + "h";
}
function times(root) {
  const now = (Date.now() + skew) / 1000;
  for (const t of root.querySelectorAll("time[data-since]")) {
    const text = age(now - Number(t.dataset.since));
    if (t.textContent !== text) t.textContent = text;
  }
}
function clocks(root) {
  for (const t of root.querySelectorAll("time[data-clock]")) {
    const at = new Date(t.getAttribute("datetime"));
    t.textContent = at.toLocaleTimeString([], { hour12: false });
    t.title = at.toLocaleString();
    t.removeAttribute("data-clock");
  }
}
setInterval(() => { if (!document.hidden) times(document); }, 1000);

// ---- changes ----
const rows = $("rows"), records = $("records");
function element(html) {
  const t = document.createElement("template");
  t.innerHTML = html.trim();
  return t.content.firstElementChild;
}
// Where the keyboard was in what is replaced, to go back there.
function focusIn(el) {
  const a = document.activeElement;
  if (!a || !el.contains(a)) return null;
  const tr = a.closest("tr");
  return { key: tr && tr.dataset.key, action: a.dataset.action, tag: a.tagName };
}
function focusBack(el, f) {
  if (!f) return;
  const scope = f.key ? el.querySelector(`tr[data-key="${CSS.escape(f.key)}"]`) : el;
  const to = scope && (f.action ? scope.querySelector(`[data-action="${f.action}"]`) : scope.querySelector(f.tag));
  if (to) to.focus({ preventScroll: true });
}
function putRow(name, html) {
  const fresh = element(html), old = $("h-" + name);
  const open = old && old.querySelector("details.lazy[open]");
  if (old) {
    const focus = focusIn(old);
    old.replaceWith(fresh);
    focusBack(fresh, focus);
  } else {
    rows.querySelector(":scope > .empty")?.remove();
    rows.append(fresh);
  }
  fresh.classList.add("fresh");
  const details = fresh.querySelector("details.lazy");
  if (open && details) { details.open = true; }
  times(fresh);
  show(fresh);
}
function order(names) {
  const known = new Set(names);
  for (const el of [...rows.querySelectorAll(".host")]) if (!known.has(el.dataset.host)) el.remove();
  let before = null;
  for (let i = names.length - 1; i >= 0; i--) {
    const el = $("h-" + names[i]);
    if (!el) continue;
    if (el.nextElementSibling !== before) rows.insertBefore(el, before);
    before = el;
  }
}
const mostRecords = 300;
function apply(c) {
  if (c.summary) $("summary").innerHTML = c.summary;
  if (c.waiting) { $("waiting").innerHTML = c.waiting; times($("waiting")); }
  for (const [name, html] of Object.entries(c.rows || {})) putRow(name, html);
  if (c.order) order(c.order);
  for (const html of c.decisions || []) {
    const li = element(html);
    li.classList.add("fresh");
    records.prepend(li);
  }
  if (c.lost) records.prepend(element(`<li class="record order"><p>${Number(c.lost)} more decisions came at once; the audit has them.</p></li>`));
  if (c.decisions || c.lost) {
    clocks(records);
    $("no-records").hidden = true;
    while (records.children.length > mostRecords) records.lastElementChild.remove();
  }
}
const link = $("link");
function say(kind, text) { link.className = "link " + kind; if (link.textContent !== text) link.textContent = text; }
function anew(wait) { setTimeout(() => location.reload(), wait * Math.random()); } // not all pages at once
function listen() {
  const events = new EventSource("/live?after=" + body.dataset.seq + "&life=" + body.dataset.life);
  events.addEventListener("open", () => say("live", "live"));
  events.addEventListener("change", (e) => apply(JSON.parse(e.data)));
  events.addEventListener("reload", () => anew(8000));
  events.addEventListener("missed", () => anew(2000));
  events.addEventListener("error", async () => {
    say("lost", "not up to date: the broker cannot be reached");
    if (events.readyState !== EventSource.CLOSED) return; // it tries again by itself
    const me = await fetch("/api/v1/me").catch(() => null);
    if (me && me.status === 401) location.assign("/login");
    else setTimeout(listen, 5000);
  });
  addEventListener("pagehide", () => events.close());
}

// ---- finding ----
const filter = $("filter"), troubled = $("troubled"), found = $("found");
function show(el) {
  const text = filter.value.trim().toLowerCase();
  const fits = !text || el.dataset.host.toLowerCase().includes(text) || el.dataset.farm.toLowerCase().includes(text)
    || [...el.querySelectorAll("tr[data-who]")].some((tr) => tr.dataset.who.toLowerCase().includes(text));
  const trouble = !troubled.checked || !el.classList.contains("up") || el.classList.contains("noted") || el.classList.contains("draining");
  el.hidden = !(fits && trouble);
}
let looking;
function find() {
  for (const el of rows.querySelectorAll(".host")) show(el);
  clearTimeout(looking);
  found.replaceChildren();
  const text = filter.value.trim();
  if (!text || !rows.querySelector("details.lazy")) return;
  looking = setTimeout(async () => {
    const res = await fetch("/find?user=" + encodeURIComponent(text));
    if (res.ok && filter.value.trim() === text) { found.innerHTML = await res.text(); times(found); }
  }, 250);
}
filter.addEventListener("input", find);
troubled.addEventListener("change", find);
addEventListener("keydown", (e) => {
  if (e.key === "/" && !/^(INPUT|TEXTAREA|SELECT)$/.test(document.activeElement.tagName) && !$("dialog").open) { e.preventDefault(); filter.focus(); }
});
// The sessions of a host in a large farm come when it is opened.
rows.addEventListener("toggle", async (e) => {
  const d = e.target;
  if (!d.matches("details.lazy") || !d.open) return;
  const res = await fetch("/sessions/" + encodeURIComponent(d.closest(".host").dataset.host));
  const into = d.querySelector(".table");
  if (res.ok) { into.innerHTML = await res.text(); times(into); } else { into.textContent = await problem(res); }
}, true);

// ---- actions ----
async function problem(res) {
  const p = await res.json().catch(() => null);
  return (p && p.detail) || "The broker answers " + res.status + ".";
}
function toast(text, bad) {
  const t = document.createElement("div");
  t.className = bad ? "toast bad" : "toast";
  t.textContent = text;
  $("toasts").append(t);
  setTimeout(() => t.remove(), bad ? 15000 : 7000);
}
function post(path, data) {
  return fetch("/api/v1/" + path, {
    method: "POST", body: JSON.stringify(data),
    headers: { "Content-Type": "application/json", "Rdpbroker-Csrf": body.dataset.csrf },
  });
}
// Asks once, and says what will happen. Resolves to what was entered, or null.
function confirmed({ title, text, list, input, yes, danger }) {
  const d = $("dialog");
  if (answer) { d.returnValue = "no"; answer(); answer = null; } // the question before was left without one
  $("dialog-title").textContent = title;
  $("dialog-text").textContent = text;
  $("dialog-list").hidden = !list;
  $("dialog-list").replaceChildren(...(list || []).map((x) => { const li = document.createElement("li"); li.textContent = x; return li; }));
  const place = $("dialog-input");
  place.hidden = !input;
  place.replaceChildren(...(input ? [input] : []));
  const button = $("dialog-yes");
  button.textContent = yes;
  button.className = danger ? "main danger" : "main";
  d.returnValue = "no";
  d.showModal();
  (input || button).focus();
  return new Promise((done) => { answer = () => done(d.returnValue === "yes" ? (input ? input.value : "") : null); });
}
// The dialog tells late that it was closed: an answer counts for the question that
// was asked last, and only while no other is open.
let answer = null;
$("dialog").addEventListener("close", () => {
  if ($("dialog").open || !answer) return;
  const a = answer;
  answer = null;
  a();
});
function textarea(label) {
  const t = document.createElement("textarea");
  t.rows = 4; t.maxLength = 2000; t.required = true; t.setAttribute("aria-label", label); t.placeholder = label;
  return t;
}
function hours() {
  const s = document.createElement("select");
  s.setAttribute("aria-label", "For how long");
  for (const [value, text] of [["2h", "for 2 hours"], ["8h", "for 8 hours"], ["24h", "for a day"], ["72h", "for 3 days"], ["168h", "for a week"]]) s.add(new Option(text, value, value === "8h", value === "8h"));
  return s;
}
const evictions = {
  off: "Nobody will be logged off in any farm, at once. Whoever needs a slot waits.",
  shadow: "It will be decided and recorded who would be logged off, and nobody will be.",
  on: "Disconnected users will be logged off in every farm where somebody needs their slot, whatever the configuration says. They lose what they have not saved.",
  config: "The configuration will say again who is logged off.",
};
const actions = {
  async drain(at) {
    if (await confirmed({ title: `Drain ${at.host}?`, text: "It will take no new sessions. Those who have a session there still get back to it.", yes: "Drain" }) !== null) return post(`hosts/${at.path}/drain`, {});
  },
  async undrain(at) {
    if (await confirmed({ title: `Undrain ${at.host}?`, text: "It will take new sessions again.", yes: "Undrain" }) !== null) return post(`hosts/${at.path}/undrain`, {});
  },
  async "message-host"(at) {
    const text = await confirmed({ title: `Message to everybody on ${at.host}`, text: "It will be shown to all users who are active there.", input: textarea("Message"), yes: "Send" });
    if (text) return post(`hosts/${at.path}/message`, { text });
  },
  async message(at) {
    const text = await confirmed({ title: `Message to ${at.who}`, text: `It will be shown in session ${at.session}.`, input: textarea("Message"), yes: "Send" });
    if (text) return post(`sessions/${at.path}/message`, { text, key: at.key });
  },
  async keep(at) {
    const how = await confirmed({ title: `Keep the session of ${at.who}?`, text: `Session ${at.session} will not be logged off to make room, whoever needs its slot.`, input: hours(), yes: "Keep" });
    if (how) return post(`sessions/${at.path}/keep`, { for: how, key: at.key });
  },
  async unkeep(at) {
    if (await confirmed({ title: `Keep the session of ${at.who} no longer?`, text: `Session ${at.session} may be logged off again when its slot is needed.`, yes: "Unkeep" }) !== null) return post(`sessions/${at.path}/unkeep`, { key: at.key });
  },
  async logoff(at) {
    if (await confirmed({ title: `Log off ${at.who}?`, text: `The programs in session ${at.session} will be ended. What was not saved is lost. The host refuses if somebody is connected to it by now.`, yes: "Log off", danger: true }) !== null) {
      toast(`${at.who} is being logged off…`);
      return post(`sessions/${at.path}/logoff`, { key: at.key });
    }
  },
  async reload() {
    const dry = await post("reload", { dry_run: true });
    if (!dry.ok) return dry;
    const would = await dry.json();
    const lost = would.changes.some((c) => c.kind === "lost");
    const text = would.changes.length ? "This will change; sessions and connections stay:" : "Nothing would change; files that it names are read anew.";
    if (await confirmed({ title: "Reload the configuration?", text, list: would.changes.map((c) => c.kind + ": " + c.what), yes: "Reload", danger: lost }) !== null) return post("reload", {});
  },
};
function place(el) {
  const tr = el.closest("tr[data-key]"), host = (tr || el.closest("[data-host]"))?.dataset.host;
  if (!tr) return { host, path: host && encodeURIComponent(host) };
  return { host, who: tr.dataset.who, key: tr.dataset.key, session: host + "/" + tr.dataset.id, path: encodeURIComponent(host) + "/" + tr.dataset.id };
}
async function act(what) {
  try {
    const res = await what;
    if (!res) return;
    if (!res.ok) return toast(await problem(res), true);
    const done = await res.json();
    toast(done.done || "The configuration was reloaded.");
    for (const f of done.failed || []) toast(f, true);
  } catch {
    toast("The broker cannot be reached.", true);
  }
}
body.addEventListener("click", (e) => {
  const b = e.target.closest("button[data-action]");
  if (b && actions[b.dataset.action]) act(actions[b.dataset.action](place(b)));
});
$("eviction").addEventListener("change", async (e) => {
  const mode = e.target.value;
  e.target.value = "";
  if (!mode) return;
  act(confirmed({ title: "Eviction: " + mode, text: evictions[mode] + (mode === "config" ? "" : " This holds until you say otherwise or the broker restarts."), yes: "Set", danger: mode === "on" })
    .then((yes) => (yes === null ? null : post("eviction", { mode }))));
});
document.querySelector("[data-logout]").addEventListener("submit", async (e) => {
  e.preventDefault();
  await fetch("/logout", { method: "POST", headers: { "Rdpbroker-Csrf": body.dataset.csrf } }).catch(() => null);
  location.assign("/login");
});

// ---- explain ----
$("explain").addEventListener("submit", async (e) => {
  e.preventDefault();
  const into = $("explained"), data = new FormData(e.target);
  const res = await fetch("/api/v1/explain?" + new URLSearchParams([...data].filter(([, v]) => v)));
  into.replaceChildren();
  const add = (tag, text, className) => { const el = document.createElement(tag); el.textContent = text; if (className) el.className = className; into.append(el); return el; };
  if (!res.ok) return void add("p", await problem(res), "bad");
  const d = (await res.json()).decision;
  add("p", d.kind + (d.host ? " on " + d.host : ""));
  add("p", d.reason, "empty");
  const list = document.createElement("ul");
  list.className = "notes";
  for (const c of (d.candidates || []).sort((a, b) => (b.chosen || 0) - (a.chosen || 0)).slice(0, 50)) {
    const li = document.createElement("li");
    li.textContent = `${c.host}${c.session ? "/" + c.session : ""} ${c.account || ""} as ${c.as}: ${c.why}`;
    if (c.chosen) li.className = "chosen";
    list.append(li);
  }
  into.append(list);
});

times(document);
clocks(records);
listen();
