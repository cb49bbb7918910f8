// The plain page: threads, their turns, and the answer that is on its way. What the server sends is text, never HTML.

const API = "/api/v1";
const RETRY_MS = 2000;
const ACTIVE = { queued: "Queued", running: "Working…", waiting: "Waiting for a decision" };
const ENDED = { succeeded: "", failed: "Failed", cancelled: "Stopped" };

const byId = (id) => document.getElementById(id);
const [log, agents, input] = ["log", "agent", "input"].map(byId);

let threadId = "";
let opened; // settles when the thread is shown
let turns = new Map(); // run id -> Turn, in the order of the thread
let stream = null; // the one EventSource: a thread works on one run at a time
let draft = {}; // what was sent last, and its Idempotency-Key
let atEnd = true; // whether the reader is at the end, and wants to stay there
let lastTop = 0;

async function api(path, options) {
  const response = await fetch(API + path, options).catch(() => {
    throw new Error("The server cannot be reached. Nothing is lost: try again.");
  });
  const answer = await response.json().catch(() => null);
  if (response.ok) return answer;
  throw new Error(answer?.error?.message ?? answer?.detail ?? `The server answered ${response.status}.`);
}

function post(path, body, headers) {
  headers = { "Content-Type": "application/json", ...headers };
  return api(path, { method: "POST", headers, body: JSON.stringify(body) });
}

async function all(path, query = {}) {
  const page = await api(`${path}?${new URLSearchParams({ limit: 100, ...query })}`);
  return page.has_more ? [...page.data, ...(await all(path, { ...query, after: page.last_id }))] : page.data;
}

// Does what the person asked for, and says so where it fails.
async function attempt(action) {
  try {
    return await action();
  } catch (error) {
    byId("problem").textContent = error.message;
  }
}

// An Idempotency-Key: what is sent again under the same one is not run twice.
const newKey = () => crypto.getRandomValues(new Uint8Array(16)).join("-");

function element(tag, properties, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function artifactLink({ id, name, version, size }) {
  const about = `version ${version}, ${size < 1024 ? `${size} B` : `${(size / 1024).toFixed(1)} KiB`}`;
  const href = `${API}/artifacts/${encodeURIComponent(id)}/content?download=1`;
  const parts = [element("span", { textContent: name }), element("small", { textContent: about })];
  return element("a", { className: "artifact", href, download: name }, ...parts);
}

const pretty = (value) => (typeof value === "string" ? value : JSON.stringify(value, null, 2));

// One run on the page: what was asked, what came of it, and the line that says where it stands.
class Turn {
  constructor(run, messages, artifacts) {
    this.run = run;
    this.seq = 0;
    this.againKey = newKey();
    this.parts = new Map(); // id of a message, a thought or a tool call -> its element
    this.asked = element("div", { className: "asked" });
    this.answer = element("div", { className: "answer" });
    this.state = element("span");
    this.stop = element("button", { type: "button", textContent: "Stop", onclick: () => this.cancel() });
    this.again = element("button", { type: "button", textContent: "Try again", onclick: () => this.retry() });
    const foot = element("footer", {}, this.state, this.stop, this.again);
    this.element = element("article", {}, this.asked, this.answer, foot);
    this.show(run.status, run.error);
    if (run.cancel_requested_at && !this.ended) this.state.textContent = "Stopping…";
    for (const { id, role, text, partial } of messages) {
      if (role === "user") this.asked.append(element("p", { className: "text", textContent: text }));
      // An answer that has not ended comes from its events, whole.
      else if (this.ended) this.complete(this.part(id, "text"), text, partial);
    }
    if (this.ended) this.answer.append(...artifacts.map(artifactLink));
  }

  get ended() {
    return this.run.status in ENDED;
  }

  show(status, error) {
    this.run.status = status;
    this.state.textContent = { ...ACTIVE, ...ENDED }[status] + (error ? `: ${error.code}. ${error.message}` : "");
    this.element.dataset.status = status;
    this.element.ariaBusy = !this.ended;
    this.stop.hidden = this.ended;
    this.again.hidden = status !== "failed";
  }

  part(id, kind, title) {
    if (!this.parts.has(id)) {
      const body = element(title ? "div" : "p", { className: title ? "" : kind });
      const summary = title && element("summary", { textContent: title });
      this.answer.append(title ? element("details", { className: kind }, summary, body) : body);
      this.parts.set(id, body);
    }
    return this.parts.get(id);
  }

  // A completed text is the truth and takes the place of its deltas; one that is too large for an event is null.
  complete(part, text, partial) {
    if (text !== null) part.textContent = text;
    part.classList.toggle("partial", Boolean(partial));
  }

  fold({ seq, type, data }) {
    if (seq <= this.seq) return;
    this.seq = seq;
    const message = () => this.part(data.message_id, "text");
    const thought = () => this.part(data.reasoning_id, "thought", "Thinking");
    const tool = () => this.part(data.tool_call_id, "tool", (data.name ?? "A tool").replace("mcp__longwick__", ""));
    const folds = {
      "run.started": () => this.show("running"),
      "run.attempt_lost": () => (this.state.textContent = "Lost its worker, waits for another"),
      "run.waiting": () => this.show("waiting"),
      "message.started": message,
      "message.delta": () => message().append(data.text),
      "message.completed": () => this.complete(message(), data.text, data.partial),
      "reasoning.delta": () => thought().append(data.text),
      "reasoning.completed": () => this.complete(thought(), data.text),
      "tool.started": () => tool().append(element("pre", { textContent: pretty(data.input) })),
      "tool.completed": () => {
        tool().append(element("pre", { textContent: pretty(data.output) }));
        tool().parentElement.classList.add(data.is_error ? "wrong" : "done");
      },
      "artifact.saved": () => this.answer.append(artifactLink(data.artifact)),
      notice: () => this.answer.append(element("p", { className: "notice", textContent: data.message })),
      progress: () => (this.state.textContent = data.message),
      "run.succeeded": () => this.show("succeeded"),
      "run.failed": () => this.show("failed", data.error),
      "run.cancelled": () => this.show("cancelled"),
    };
    folds[type]?.();
  }

  async cancel() {
    this.state.textContent = "Stopping…";
    const run = await attempt(() => post(`/runs/${this.run.id}/cancel`));
    if (!run && !this.ended) this.show(this.run.status);
    if (run && run.status in ENDED && stream?.turn !== this) this.show(run.status, run.error);
  }

  async retry() {
    const run = await attempt(() => post(`/runs/${this.run.id}/retry`, undefined, { "Idempotency-Key": this.againKey }));
    this.again.hidden = Boolean(run);
    if (run?.thread_id === threadId) addTurn(run);
  }
}

function addTurn(run, messages = [{ role: "user", text: run.input }], artifacts = []) {
  if (turns.has(run.id)) return;
  const turn = new Turn(run, messages, artifacts);
  turns.set(run.id, turn);
  byId("turns").append(turn.element);
  byId("empty").hidden = true;
  atEnd = true;
  follow();
}

// Streams the first run that has not ended; after it, the next.
function follow() {
  const turn = [...turns.values()].find(({ ended }) => !ended);
  if (stream?.turn === turn) return;
  stream?.source.close();
  stream = turn ? { turn, source: new EventSource(`${API}/runs/${turn.run.id}/events?after=${turn.seq}`) } : null;
  if (!turn) return;
  const mine = stream;
  mine.source.onmessage = ({ data }) => {
    turn.fold(JSON.parse(data));
    if (!turn.ended) return;
    follow();
    listThreads();
  };
  mine.source.onerror = () => {
    // The browser resumes by itself, except after an error answer and after 204, “nothing more”.
    if (mine.source.readyState === EventSource.CLOSED) setTimeout(() => mine === stream && resume(turn), RETRY_MS);
  };
}

async function resume(turn) {
  const run = await api(`/runs/${turn.run.id}`).catch(() => null);
  if (stream?.turn !== turn) return;
  if (run && run.status in ENDED && run.last_seq <= turn.seq) turn.show(run.status, run.error);
  stream = null;
  follow();
}

async function openThread() {
  const id = (threadId = location.hash.slice(1));
  turns = new Map();
  follow();
  byId("turns").replaceChildren();
  byId("empty").hidden = Boolean(id);
  byId("threads").hidePopover();
  byId("problem").textContent = "";
  markThread("New thread");
  if (!id) return;
  await attempt(async () => {
    const path = `/threads/${encodeURIComponent(id)}`;
    const [thread, runs] = await Promise.all([api(path), all("/runs", { thread_id: id })]);
    // Asked for after the runs: of those that had ended, nothing can be missing here.
    const [messages, artifacts] = await Promise.all([all(`${path}/messages`), all(`${path}/artifacts`), listed]);
    if (id !== threadId) return;
    markThread(thread.title);
    agents.value = [...agents.options].some(({ value }) => value === thread.agent) ? thread.agent : "";
    for (const run of runs.sort((one, other) => (one.id < other.id ? -1 : 1))) {
      const belongs = ({ run_id }) => run_id === run.id;
      addTurn(run, messages.filter(belongs), artifacts.filter(belongs).reverse());
    }
  });
}

function markThread(title) {
  byId("title").textContent = title;
  document.title = `${title} · Longwick`;
  for (const link of byId("thread-list").querySelectorAll("a"))
    link.ariaCurrent = link.hash === `#${threadId}` ? "page" : null;
}

async function listThreads() {
  const { data } = await api("/threads?limit=100").catch(() => ({}));
  if (!data) return;
  const items = data.map(({ id, title, active_run_id }) => {
    const link = element("a", { href: `#${id}`, textContent: title || "Untitled" });
    return element("li", { className: active_run_id ? "active" : "" }, link);
  });
  byId("thread-list").replaceChildren(...items);
  markThread(data.find(({ id }) => id === threadId)?.title || byId("title").textContent);
}

async function listAgents() {
  for (const { id, name, available, reason } of (await api("/agents")).data) {
    const option = new Option(available ? name : `${name}: ${reason}`, id);
    option.disabled = !available;
    agents.append(option);
  }
}

async function send() {
  const text = input.value;
  const path = threadId ? `/threads/${encodeURIComponent(threadId)}/runs` : "/runs";
  const body = agents.value ? { input: text, agent: agents.value } : { input: text };
  const sent = path + JSON.stringify(body);
  if (draft.sent !== sent) draft = { sent, key: newKey() };
  await opened;
  const run = await attempt(() => post(path, body, { "Idempotency-Key": draft.key }));
  if (!run) return;
  draft = {};
  if (input.value === text) input.value = "";
  if (run.thread_id === threadId) addTurn(run);
  else if (!threadId) location.hash = run.thread_id;
  listThreads();
}

byId("composer").onsubmit = async (event) => {
  event.preventDefault();
  const button = byId("send");
  if (button.disabled || !input.value.trim()) return;
  button.disabled = true;
  byId("problem").textContent = "";
  await send();
  button.disabled = false;
};

input.onkeydown = (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  byId("composer").requestSubmit();
};

// What is unfolded stays where it is. (void: a handler that returns false keeps the click from working.)
log.onclick = ({ target }) => void (atEnd &&= !target.closest("summary"));
log.onscroll = () => {
  // By the time of this event more may have come: only a way up is a wish to leave the end.
  if (log.scrollHeight - log.scrollTop - log.clientHeight < 40) atEnd = true;
  else if (log.scrollTop < lastTop) atEnd = false;
  lastTop = log.scrollTop;
};
const sizes = new ResizeObserver(() => atEnd && (log.scrollTop = log.scrollHeight));
for (const part of [log, byId("turns")]) sizes.observe(part); // the log shrinks as the message below it grows
window.onhashchange = () => (opened = openThread());
window.onfocus = listThreads;

const listed = attempt(listAgents);
opened = openThread();
listThreads();
