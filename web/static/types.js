// What travels between the server and the page. JSDoc alone: the checker reads it, the browser loads nothing of it.

/**
 * @typedef {"queued" | "running" | "waiting" | "succeeded" | "failed" | "cancelled"} Status
 * @typedef {{ code: string, message: string }} RunError
 * @typedef {{
 *   id: string, thread_id: string, kind: "chat" | "background", status: Status, agent: string, model: string | null,
 *   attempt: number, last_seq: number, input: string, output_text: string | null, error: RunError | null,
 *   usage: Record<string, any> | null, cost_usd: number | null, max_cost_usd?: number | null, queue_position: number | null, retry_of: string | null,
 *   follows?: string | null, metadata: Record<string, any>, created_at: string, started_at: string | null,
 *   finished_at: string | null, cancel_requested_at: string | null,
 * }} Run
 * @typedef {{
 *   id: string, title: string, agent: string | null, metadata: Record<string, any>, created_at: string,
 *   updated_at: string, active_run_id: string | null, unread?: boolean, excerpt?: string | null,
 * }} Thread
 * @typedef {{ id: string, thread_id: string, run_id: string, role: "user" | "assistant", text: string,
 *   partial: boolean, created_at: string }} Message
 * @typedef {{ id: string, thread_id: string, run_id: string | null, type: "generated_file" | "upload", name: string,
 *   version: number, media_type: string, size: number, sha256: string, created_at: string }} Artifact
 * @typedef {{ id: string, run_id: string, tool: string, input: any,
 *   status: "pending" | "allowed" | "denied" | "expired", created_at: string, decided_at: string | null,
 *   message: string | null }} Approval
 * @typedef {{ id: string, name: string, description: string, available: boolean, reason: string | null,
 *   models: string[], capabilities: Record<string, boolean> | string[], isolated?: boolean | null }} Agent
 * @typedef {{ owner: string, scopes: string[], how: "key" | "page" | "proxy" | "local" }} Session
 * @typedef {{ used: number, limit: number | null }} Amount
 * @typedef {{ running: Amount, queued: Amount, artifacts: Amount, artifact_bytes: Amount, spend_usd_today: Amount,
 *   tokens_today: { input: number, output: number }, requests_per_second: Amount, streams: Amount,
 *   resets_at: string }} Usage
 * @typedef {{ seq: number, run_id: string, attempt: number, at: string, type: string, data: any }} RunEvent
 */

export {};
