// The page of the explorer. Everything shown comes from strangers: it is set as text, never as
// markup, and the only addresses asked are this server's own.
"use strict";

const PAGE_SIZE = 24;
// Between two looks at what changed; many changes together are one look.
const PAUSE_MS = 1000;
// How often is asked where the stream of changes cannot be followed.
const POLL_MS = 5000;
// When a stream that was refused is tried again.
const STREAM_RETRY_MS = 60000;

const TYPES = { federated: "federated", worker: "llama.cpp worker", mlx_worker: "MLX worker" };
const STATES = { new: "new", active: "active", stale: "not answering" };

const $ = (id) => document.getElementById(id);
const api = (path) => new URL(path, document.baseURI);

const view = { offset: 0, total: 0, matching: 0, cards: new Map(), asked: 0, timer: 0, streaming: false };

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "class") made.className = value;
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

function plural(count, one, many) {
  return `${count.toLocaleString()} ${count === 1 ? one : many}`;
}

function ago(moment) {
  const seconds = (Date.parse(moment) - Date.now()) / 1000;
  const steps = [["day", 86400], ["hour", 3600], ["minute", 60]];
  const format = new Intl.RelativeTimeFormat(undefined, { numeric: "auto" });
  for (const [unit, length] of steps) {
    if (Math.abs(seconds) >= length) return format.format(Math.round(seconds / length), unit);
  }
  return "just now";
}

function time(moment) {
  if (!moment) return "never";
  return element("time", { datetime: moment, title: new Date(moment).toLocaleString() }, ago(moment));
}

// --- copying ---

async function copy(text, what) {
  let done = false;
  try {
    await navigator.clipboard.writeText(text);
    done = true;
  } catch {
    // Without TLS there is no clipboard to write to; an old command still can.
    const active = document.activeElement;
    const area = element("textarea", { class: "hidden", readonly: "", "aria-hidden": "true" });
    area.value = text;
    document.body.append(area);
    area.select();
    done = document.execCommand("copy");
    area.remove();
    active?.focus();
  }
  $("copied").textContent = done ? `${what} copied` : `${what} could not be copied; select it and copy it by hand`;
  return done;
}

function copyButton(text, what) {
  const button = element("button", { type: "button", "aria-label": `Copy ${what}` }, "Copy");
  button.addEventListener("click", async () => {
    const done = await copy(text, what);
    button.textContent = done ? "Copied" : "Failed";
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });
  return button;
}

function copyable(title, text, name) {
  const whose = `${title}, ${name}`;
  const head = element("div", { class: "title" }, element("span", {}, title), copyButton(text, whose));
  // Scrolls where it is long, so it must be reached by keyboard.
  const code = element("pre", { tabindex: "0", role: "group", "aria-label": whose }, text);
  return element("div", { class: "command" }, head, code);
}

// --- cards ---

function cluster(of) {
  const parts = [element("span", {}, `Type: ${TYPES[of.type] ?? of.type}`)];
  if (of.network_id) parts.push(element("span", { dir: "auto" }, `ID: ${of.network_id}`));
  parts.push(element("span", { class: "workers" }, `${plural(of.workers, "worker", "workers")} (claimed)`));
  return element("li", { class: "cluster" }, ...parts);
}

function facts(network) {
  const list = element("dl", { class: "facts" });
  const fact = (name, value) => list.append(element("dt", {}, name), element("dd", {}, value));
  fact("Workers", network.workers ? `${network.workers.toLocaleString()} claimed, unverified` : "none seen");
  fact("Last seen", time(network.last_seen));
  fact("Fingerprint", element("span", { class: "code" }, network.fingerprint));
  if (network.state === "stale" && network.failures) {
    fact("Failures", plural(network.failures, "look in vain", "looks in vain"));
  }
  return list;
}

function card(network) {
  const id = `network-${network.fingerprint}`;
  const title = element("h3", { id, dir: "auto" }, network.name);
  const state = element("span", { class: `state ${network.state}` }, STATES[network.state] ?? network.state);
  const article = element("article", { class: "card", "aria-labelledby": id },
    element("header", {}, title, state),
    element("p", { class: "about", dir: "auto" }, network.description));
  if (network.clusters.length) {
    const label = `Available clusters of ${network.name}`;
    article.append(element("ul", { class: "clusters", "aria-label": label }, ...network.clusters.map(cluster)));
  }
  article.append(facts(network), joining(article, network));
  return article;
}

function joining(article, network) {
  const area = element("div", { class: "join", id: `join-${network.fingerprint}`, hidden: "" });
  const button = element("button", {
    type: "button", "aria-expanded": "false", "aria-controls": area.id, "aria-label": `How to join ${network.name}`,
  }, "How to join");
  button.addEventListener("click", () => {
    const open = area.hidden;
    area.hidden = !open;
    article.classList.toggle("open", open);
    button.setAttribute("aria-expanded", String(open));
    if (open) fillJoining(area, network.fingerprint);
  });
  const whole = element("div", { class: "join" }, button, area);
  return whole;
}

async function fillJoining(area, fingerprint) {
  area.replaceChildren(element("p", { class: "soft" }, "Loading…"));
  try {
    const answer = await fetch(api(`api/v1/networks/${encodeURIComponent(fingerprint)}`));
    const network = await answer.json();
    if (!answer.ok) throw new Error(network.error?.message ?? answer.statusText);
    if (!network.token) {
      area.replaceChildren(element("p", {}, "The token of this network is not published: ask one of its members."));
      return;
    }
    const parts = [copyable("Token", network.token, network.name)];
    for (const command of network.commands) parts.push(copyable(command.title, command.command, network.name));
    area.replaceChildren(...parts);
  } catch (error) {
    area.replaceChildren(element("p", { class: "bad", role: "alert" }, `This network could not be read: ${error.message}`));
  }
}

// Cards that stay the same stay in place, so that focus, selection and what is open survive.
function show(networks) {
  const items = networks.map((network) => {
    const text = JSON.stringify(network);
    const known = view.cards.get(network.fingerprint);
    if (known?.text === text) return known;
    const item = element("li", {}, card(network));
    if (known) keepOpen(known.item, item, network.fingerprint);
    return { fingerprint: network.fingerprint, text, item, changed: Boolean(known) };
  });
  const list = $("list");
  const wanted = items.map(({ item }) => item);
  const focused = document.activeElement?.closest?.("article")?.getAttribute("aria-labelledby");
  wanted.forEach((item, at) => {
    if (list.children[at] !== item) list.insertBefore(item, list.children[at] ?? null);
  });
  while (list.children.length > wanted.length) list.lastChild.remove();
  view.cards = new Map(items.map((entry) => [entry.fingerprint, entry]));
  if (focused && document.activeElement === document.body) {
    $(focused)?.closest("article").querySelector("button")?.focus();
  }
  for (const entry of items) {
    if (entry.changed) flash(entry);
  }
}

function keepOpen(before, after, fingerprint) {
  const area = before.querySelector(`[id="join-${fingerprint}"]`);
  if (area && !area.hidden) after.querySelector("button").click();
}

function flash(entry) {
  entry.changed = false;
  const article = entry.item.firstChild;
  article.classList.add("changed");
  setTimeout(() => article.classList.remove("changed"), 1500);
}

// --- reading ---

function query() {
  const asked = new URLSearchParams({ limit: PAGE_SIZE, offset: view.offset, sort: $("sort").value });
  const words = $("search").value.trim();
  if (words) asked.set("q", words);
  const only = $("show").value;
  if (only === "online") asked.set("online", "true");
  else if (only) asked.set("type", only);
  return asked;
}

async function refresh() {
  clearTimeout(view.timer);
  view.timer = 0;
  const turn = ++view.asked;
  const list = $("list");
  try {
    const answer = await fetch(api(`api/v1/networks?${query()}`), { cache: "no-cache" });
    const body = await answer.json();
    if (!answer.ok) throw new Error(body.error?.message ?? answer.statusText);
    // A slower answer to an earlier question must not replace a later one.
    if (turn !== view.asked) return;
    if (body.matching && view.offset >= body.matching) {
      view.offset = Math.floor((body.matching - 1) / PAGE_SIZE) * PAGE_SIZE;
      return refresh();
    }
    Object.assign(view, { total: body.total, matching: body.matching });
    show(body.networks);
    count(body);
    pages();
  } catch (error) {
    if (turn !== view.asked) return;
    $("total").textContent = `The list cannot be read now: ${error.message}`;
  }
  list.setAttribute("aria-busy", "false");
}

function soon() {
  if (!view.timer) view.timer = setTimeout(refresh, PAUSE_MS);
}

function count(body) {
  const all = plural(body.total, "network", "networks");
  const text = body.matching === body.total ? all : `${body.matching.toLocaleString()} of ${all}`;
  const said = `${text}, ${body.online.toLocaleString()} with workers`;
  // Said again only when it changed: it is a live region.
  if ($("total").textContent !== said) $("total").textContent = said;
  const empty = $("empty");
  empty.hidden = body.matching > 0;
  if (body.total === 0) empty.textContent = "No networks yet. Add the first one.";
  else if ($("show").value === "online" && !$("search").value.trim()) empty.textContent = "No networks available with online workers";
  else empty.textContent = "No network matches.";
}

function pages() {
  const last = Math.max(1, Math.ceil(view.matching / PAGE_SIZE));
  const at = Math.floor(view.offset / PAGE_SIZE) + 1;
  $("pages").hidden = last === 1;
  $("page").textContent = `Page ${at.toLocaleString()} of ${last.toLocaleString()}`;
  $("previous").disabled = at <= 1;
  $("next").disabled = at >= last;
}

async function turn(by) {
  view.offset = Math.max(0, view.offset + by * PAGE_SIZE);
  await refresh();
  $("list").scrollIntoView({ block: "start" });
  $("main").focus({ preventScroll: true });
}

function fromStart() {
  view.offset = 0;
  refresh();
}

// --- following ---

function follow() {
  const stream = new EventSource(api("api/v1/events"));
  const live = (on) => {
    view.streaming = on;
    $("live").classList.toggle("on", on);
    $("live").textContent = on ? "live" : "looked at every few seconds";
  };
  stream.addEventListener("open", () => { live(true); soon(); });
  for (const kind of ["networks", "network", "network_removed"]) stream.addEventListener(kind, soon);
  stream.addEventListener("error", () => {
    live(false);
    // A stream that broke comes back by itself, one that was refused does not.
    if (stream.readyState === EventSource.CLOSED) setTimeout(follow, STREAM_RETRY_MS);
  });
}

// --- adding ---

function said(text, tone) {
  $("said").textContent = text;
  $("said").className = tone;
}

function entered() {
  const value = (id) => $(id).value.trim();
  const body = {
    token: value("token"),
    name: value("name"),
    description: value("description"),
    publish_token: $("publish").checked,
  };
  const bootstrap = $("bootstrap").value.split(/[\s,]+/).filter(Boolean);
  if (bootstrap.length) body.bootstrap = bootstrap;
  return body;
}

async function add(event) {
  event.preventDefault();
  const body = entered();
  const missing = ["name", "description", "token"].filter((id) => !body[id]);
  for (const id of ["name", "description", "token"]) $(id).setAttribute("aria-invalid", String(missing.includes(id)));
  if (missing.length) {
    said("All fields are required.", "bad");
    $(missing[0]).focus();
    return;
  }
  $("submit").disabled = true;
  said("Adding…", "");
  try {
    const answer = await fetch(api("network/add"), {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
    });
    const result = await answer.json();
    if (!answer.ok) throw new Error(result.error?.message ?? result.error ?? answer.statusText);
    $("form").reset();
    said("Network added successfully!", "good");
    refresh();
  } catch (error) {
    said(`Failed to add network. Please try again. Error: ${error.message}`, "bad");
  } finally {
    $("submit").disabled = false;
  }
}

function toggle() {
  const open = $("adding").hidden;
  $("adding").hidden = !open;
  $("toggle").setAttribute("aria-expanded", String(open));
  $("toggle").textContent = open ? "Close" : "Add Network";
  if (open) $("name").focus();
}

// --- start ---

let typing = 0;
$("search").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(fromStart, 250);
});
$("show").addEventListener("change", fromStart);
$("sort").addEventListener("change", fromStart);
$("previous").addEventListener("click", () => turn(-1));
$("next").addEventListener("click", () => turn(1));
$("toggle").addEventListener("click", toggle);
$("form").addEventListener("submit", add);
setInterval(() => { if (!view.streaming && !document.hidden) refresh(); }, POLL_MS);
refresh();
follow();
