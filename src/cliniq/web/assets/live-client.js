/** @file Hold one socket for all topics of a page, and hold it again whenever it breaks. */

import { SignedOut, Problem } from "./api.js";
import { apply, retryDelay } from "./live.js";

const ANSWER_WITHIN_MS = 8000;
const SILENT_MS = 50000; // two beats of the server and then some
const RESUBSCRIBE_SPREAD_MS = 300;
const ASLEEP_MS = 5000;
const OPEN = 1;
const KINDS = ["snapshot", "resumed", "event", "beat", "refused", "bye"];

/**
 * @typedef {"connecting" | "live" | "reconnecting" | "closed"} LiveStatus
 *
 * @typedef {object} Listener
 * @property {(state: import("./live.js").LiveState, frame: import("./live.js").Frame) => void} onChange
 * @property {(code: string) => void} onRefused
 *
 * @typedef {object} Topic
 * @property {string} clinicId
 * @property {Listener} listener
 * @property {import("./live.js").LiveState | null} state
 * @property {boolean} awaiting   a snapshot was asked for, or will be, and has not come
 * @property {boolean} refused
 * @property {any} timer          until it is asked for again, or the socket is taken for dead
 *
 * @typedef {object} LiveOptions
 * @property {() => Promise<{live_pass: string}>} requestPass
 * @property {(status: LiveStatus, attempt: number) => void} onStatus
 * @property {() => void} onSignedOut
 * @property {(pass: string) => WebSocket} [openSocket]
 * @property {() => number} [random]
 */

/**
 * Follow topics live.
 *
 * `live` is said only while the socket is open and every topic has its snapshot on it; what was
 * known before stays readable, and is called `reconnecting` until then.
 */
export class LiveClient {
  #options;
  #random;
  /** @type {Map<string, Topic>} */
  #topics = new Map();
  /** @type {WebSocket | null} */
  #socket = null;
  /** @type {LiveStatus} */
  #status = "connecting";
  #attempt = 0;
  #connecting = false;
  /** @type {any} */
  #retryTimer = null;
  /** @type {any} */
  #silenceTimer = null;
  #notBefore = 0;
  #spread = 0;

  /** @param {LiveOptions} options */
  constructor(options) {
    this.#options = options;
    this.#random = options.random || Math.random;
  }

  /**
   * Follow a topic until the answered function is called.
   * @param {string} name
   * @param {string} clinicId
   * @param {Listener} listener
   * @returns {() => void}
   */
  subscribe(name, clinicId, listener) {
    /** @type {Topic} */
    const topic = { clinicId, listener, state: null, awaiting: true, refused: false, timer: null };
    this.#topics.set(name, topic);
    this.#ask(name, topic);
    this.#connect();
    return () => this.#unsubscribe(name, topic);
  }

  /** Make sure of the truth now: the phone was asleep, or the network came back. */
  wake() {
    if (this.#status === "closed" || !this.#topics.size) return;
    this.#attempt = 0;
    if (!this.#socket) this.#connect();
    else for (const [name, topic] of this.#topics) this.#ask(name, topic);
  }

  /** Stop for good. */
  close() {
    if (this.#status === "closed") return;
    clearTimeout(this.#retryTimer);
    clearTimeout(this.#silenceTimer);
    for (const topic of this.#topics.values()) clearTimeout(topic.timer);
    this.#topics.clear();
    this.#say("closed");
    this.#dropSocket();
  }

  /**
   * Tell the page how fresh its knowledge is.
   * @param {LiveStatus} status
   */
  #say(status) {
    this.#status = status;
    this.#options.onStatus(status, this.#attempt);
  }

  /** Open a socket with a new pass, unless there is one or one is coming. */
  async #connect() {
    if (this.#status === "closed" || this.#connecting || this.#socket) return;
    clearTimeout(this.#retryTimer);
    this.#connecting = true;
    try {
      const { live_pass: pass } = await this.#options.requestPass();
      if (!this.#isClosed()) this.#listen((this.#options.openSocket || openBrowserSocket)(pass));
    } catch (failure) {
      this.#retryAfter(failure);
    } finally {
      this.#connecting = false;
    }
  }

  /** Say whether the client was stopped for good. */
  #isClosed() {
    return this.#status === "closed";
  }

  /**
   * Come back after a refused pass, no sooner than the server asks; without a session, never.
   * @param {unknown} failure
   */
  #retryAfter(failure) {
    if (this.#isClosed()) return;
    if (failure instanceof SignedOut) {
      this.close();
      this.#options.onSignedOut();
      return;
    }
    const seconds = failure instanceof Problem ? Number(failure.facts.retry_after_seconds) || 0 : 0;
    this.#retryIn(Math.max(retryDelay(this.#attempt, this.#random), seconds * 1000));
  }

  /**
   * Come back after a pause.
   * @param {number} pause milliseconds
   */
  #retryIn(pause) {
    this.#attempt += 1;
    clearTimeout(this.#retryTimer);
    this.#retryTimer = setTimeout(() => this.#connect(), pause);
    this.#say("reconnecting");
  }

  /**
   * Ask for every topic once the socket is open, and hear its frames until it breaks.
   * @param {WebSocket} socket
   */
  #listen(socket) {
    this.#socket = socket;
    socket.onopen = () => {
      for (const [name, topic] of this.#topics) this.#ask(name, topic);
    };
    socket.onmessage = (message) => {
      if (this.#socket !== socket) return;
      this.#watchSilence();
      this.#receive(message.data);
    };
    socket.onclose = () => {
      if (this.#socket === socket) this.#lose();
    };
  }

  /** Forget a socket that is dead or silent, and come back later. */
  #lose() {
    for (const topic of this.#topics.values()) {
      clearTimeout(topic.timer);
      topic.awaiting = true;
    }
    this.#dropSocket();
    // Lost without a word, everybody may be: the first try takes as long as the server wants.
    const spread = this.#notBefore || this.#attempt ? 0 : this.#spread;
    const pause = Math.max(retryDelay(this.#attempt, this.#random, spread), this.#notBefore);
    this.#notBefore = 0;
    this.#retryIn(pause);
  }

  /** Take a socket that says nothing for too long for dead: topics beat. */
  #watchSilence() {
    clearTimeout(this.#silenceTimer);
    this.#silenceTimer = setTimeout(() => {
      if (this.#socket && this.#topics.size) this.#lose();
    }, SILENT_MS);
  }

  /** Close the socket and hear nothing more from it. */
  #dropSocket() {
    const socket = this.#socket;
    this.#socket = null;
    clearTimeout(this.#silenceTimer);
    if (socket) socket.close();
  }

  /**
   * Ask for what was missed, or for a snapshot; a socket that does not answer in time is dead.
   * @param {string} name
   * @param {Topic} topic
   */
  #ask(name, topic) {
    if (!this.#isOpen()) return;
    clearTimeout(topic.timer);
    topic.timer = setTimeout(() => this.#lose(), ANSWER_WITHIN_MS);
    topic.awaiting = true;
    topic.refused = false;
    const known = topic.state
      ? { since: topic.state.version, epoch: String(topic.state.epoch) }
      : {};
    this.#send({ op: "subscribe", topic: name, clinic_id: topic.clinicId, ...known });
  }

  /**
   * Stop following a topic.
   * @param {string} name
   * @param {Topic} topic
   */
  #unsubscribe(name, topic) {
    if (this.#topics.get(name) !== topic) return;
    clearTimeout(topic.timer);
    this.#topics.delete(name);
    if (this.#isOpen()) this.#send({ op: "unsubscribe", topic: name, clinic_id: topic.clinicId });
    this.#judge();
  }

  /** Say whether a frame can be sent now. */
  #isOpen() {
    return this.#socket !== null && this.#socket.readyState === OPEN;
  }

  /**
   * Send a frame.
   * @param {object} frame
   */
  #send(frame) {
    if (this.#socket) this.#socket.send(JSON.stringify(frame));
  }

  /**
   * Give a frame to the topic that it belongs to; events are worth nothing before the snapshot.
   * @param {string} text
   */
  #receive(text) {
    const frame = readFrame(text);
    if (frame && frame.type === "bye") this.#notBefore = frame.retry_after_ms;
    const topic = frame ? this.#topics.get(frame.topic) : undefined;
    if (!frame || !topic) return;
    if (frame.type === "refused") {
      this.#settle(topic, true);
      topic.listener.onRefused(frame.code);
    } else if (frame.type === "resumed") {
      if (topic.state && topic.state.version === frame.version) this.#settle(topic, false);
    } else if (frame.type === "beat") {
      this.#spread = frame.spread_ms || 0;
      if (!topic.awaiting && !topic.refused) this.#compare(frame.topic, topic, frame.version);
    } else if (frame.type === "snapshot" || !topic.awaiting) {
      this.#follow(frame.topic, topic, frame);
    }
  }

  /**
   * Ask for what the server has and this page has not.
   * @param {string} name
   * @param {Topic} topic
   * @param {number} version
   */
  #compare(name, topic, version) {
    if (topic.state && version > topic.state.version) this.#askSoon(name, topic);
  }

  /**
   * Apply a frame, or ask for a snapshot where it does not fit.
   * @param {string} name
   * @param {Topic} topic
   * @param {import("./live.js").Frame} frame
   */
  #follow(name, topic, frame) {
    const next = apply(topic.state, frame);
    if (next === null) {
      // What this page cannot apply it must not ask for again: only a snapshot helps.
      if (topic.state && frame.version === topic.state.version + 1) topic.state = null;
      this.#askSoon(name, topic);
      return;
    }
    const changed = next !== topic.state;
    topic.state = next;
    if (frame.type === "snapshot") this.#settle(topic, false);
    if (changed) topic.listener.onChange(next, frame);
  }

  /**
   * Ask again after a short random pause, or every phone of a waiting room asks in one instant.
   * @param {string} name
   * @param {Topic} topic
   */
  #askSoon(name, topic) {
    topic.awaiting = true;
    clearTimeout(topic.timer);
    topic.timer = setTimeout(() => this.#ask(name, topic), this.#random() * RESUBSCRIBE_SPREAD_MS);
  }

  /**
   * Note that a topic has its answer.
   * @param {Topic} topic
   * @param {boolean} refused
   */
  #settle(topic, refused) {
    clearTimeout(topic.timer);
    topic.awaiting = false;
    topic.refused = refused;
    this.#attempt = 0;
    this.#judge();
  }

  /** Say `live` once nothing is left to wait for. */
  #judge() {
    if (this.#status === "live" || !this.#isOpen()) return;
    const topics = [...this.#topics.values()];
    if (topics.every((topic) => !topic.awaiting && !topic.refused)) this.#say("live");
  }
}

/**
 * Read a frame, or nothing when it is none.
 * @param {string} text
 * @returns {import("./live.js").AnyFrame | null}
 */
function readFrame(text) {
  try {
    const frame = JSON.parse(text);
    return frame && KINDS.includes(frame.type) ? frame : null;
  } catch {
    return null;
  }
}

/**
 * Open the socket beside this page.
 * @param {string} pass
 */
function openBrowserSocket(pass) {
  const scheme = window.location.protocol === "https:" ? "wss:" : "ws:";
  const address = `${scheme}//${window.location.host}/api/v1/live`;
  return new WebSocket(`${address}?pass=${encodeURIComponent(pass)}`);
}

/**
 * Wake a client whenever the person looks again or the network returns.
 * @param {LiveClient} client
 * @returns {() => void} stops it
 */
export function wakeWithPage(client) {
  let hiddenAt = Date.now();
  const seen = () => {
    if (document.hidden) hiddenAt = Date.now();
    else if (Date.now() - hiddenAt > ASLEEP_MS) client.wake();
  };
  const online = () => client.wake();
  document.addEventListener("visibilitychange", seen);
  window.addEventListener("online", online);
  return () => {
    document.removeEventListener("visibilitychange", seen);
    window.removeEventListener("online", online);
  };
}
