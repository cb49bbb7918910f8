// Server-sent events over fetch: whole chunks at a time, which a thousand events at once ask for.

const SILENCE_MS = 40_000;

/**
 * Reads a stream to its end, and gives what came with each chunk.
 * @param {string} url
 * @param {AbortSignal} signal
 * @param {(data: any[]) => void} take
 * @returns {Promise<number>} the status of the answer
 */
export async function read(url, signal, take) {
  // A connection that a sleeping machine has lost says nothing for ever; the server says something every 15 s.
  const silence = new AbortController();
  let timer = setTimeout(() => silence.abort(), SILENCE_MS);
  const either = new AbortController();
  for (const one of [signal, silence.signal]) one.addEventListener("abort", () => either.abort(), { once: true });
  if (signal.aborted) either.abort();
  try {
    const response = await fetch(url, { headers: { Accept: "text/event-stream" }, signal: either.signal, cache: "no-store" });
    if (response.status !== 200 || !response.body) return response.status;
    const reader = response.body.getReader();
    const decoder = new TextDecoder();
    for (let rest = ""; ; ) {
      const { done, value } = await reader.read();
      if (done) return 200;
      clearTimeout(timer);
      timer = setTimeout(() => silence.abort(), SILENCE_MS);
      const parsed = parse(rest + decoder.decode(value, { stream: true }));
      rest = parsed.rest;
      if (parsed.data.length) take(parsed.data);
    }
  } finally {
    clearTimeout(timer);
  }
}

/**
 * The data of all whole frames, and what is left. Our server's data is one line of JSON.
 * @param {string} text
 */
export function parse(text) {
  const end = text.lastIndexOf("\n\n");
  if (end < 0) return { data: [], rest: text };
  const lines = text.slice(0, end).split("\n");
  return { data: lines.filter((line) => line.startsWith("data:")).map((line) => JSON.parse(line.slice(5))), rest: text.slice(end + 2) };
}
