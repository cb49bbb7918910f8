// Where the page begins.

import { render } from "preact";
import { get, session } from "./net/api.js";
import { open as openLine } from "./net/line.js";
import { loadAgents } from "./state/agents.js";
import { watchAttention } from "./state/attention.js";
import { take, watchApprovals } from "./state/feed.js";
import { filesOpen, shown } from "./state/panel.js";
import { threadId } from "./state/route.js";
import { open } from "./state/thread.js";
import { loadThreads, refreshSoon } from "./state/threads.js";
import { attempt } from "./state/toasts.js";
import { App } from "./ui/app.js";
import { html } from "./ui/html.js";

render(html`<${App} />`, document.body);
threadId.subscribe((id) => {
  filesOpen.value = false;
  shown.value = { name: "", version: 0 };
  void open(id);
});
openLine(take);
watchAttention();
watchApprovals();
void attempt(async () => void (session.value = await get("/session")));
void attempt(loadThreads);
void attempt(loadAgents);
addEventListener("focus", refreshSoon);
