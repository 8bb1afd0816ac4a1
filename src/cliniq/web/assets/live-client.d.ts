/** Types of live-client.js, for whoever uses it from TypeScript. */

import type { Frame, LiveState } from "./live.js";

export type LiveStatus = "connecting" | "live" | "reconnecting" | "closed";

export interface Listener {
  onChange(state: LiveState, frame: Frame): void;
  onRefused(code: string): void;
}

export interface LiveOptions {
  requestPass(): Promise<{ live_pass: string }>;
  onStatus(status: LiveStatus, attempt: number): void;
  onSignedOut(): void;
  openSocket?(pass: string): WebSocket;
  random?(): number;
}

/** Follow topics live over one socket, and hold it again whenever it breaks. */
export class LiveClient {
  constructor(options: LiveOptions);
  /** Follow a topic such as `queue:<id>` until the answered function is called. */
  subscribe(name: string, clinicId: string, listener: Listener): () => void;
  /** Make sure of the truth now: the phone was asleep, or the network came back. */
  wake(): void;
  /** Stop for good. */
  close(): void;
}

/** Wake a client whenever the person looks again or the network returns; returns what stops it. */
export function wakeWithPage(client: LiveClient): () => void;
