/**
 * @file Keep a true copy of a queue: snapshot first, then every change in order, or a new snapshot.
 *
 * A missed change is always noticed, because versions follow each other without a hole. The pure
 * half (`apply`, `retryDelay`) decides; `createLive` owns the socket and does what they say.
 */

/**
 * @typedef {object} Queue
 * @property {string} queue_id
 * @property {string} on_day
 * @property {number[]} waiting                                 ticket numbers, the next one first
 * @property {{ticket: number, room: string | null}[]} called   in the order of the calls
 * @property {number[]} in_progress
 *
 * @typedef {object} LiveState
 * @property {string} topic
 * @property {string | number} epoch
 * @property {number} version
 * @property {Queue} queue
 *
 * @typedef {object} SnapshotFrame
 * @property {"snapshot"} type
 * @property {string} topic
 * @property {string | number} epoch
 * @property {number} version
 * @property {Queue} state
 *
 * @typedef {object} EventFrame
 * @property {"event"} type
 * @property {string} topic
 * @property {number} version
 * @property {string} kind
 * @property {{ticket: number, position?: number, room?: string | null}} body
 *
 * @typedef {SnapshotFrame | EventFrame} Frame
 */

/** @type {Map<string, (queue: Queue, body: EventFrame["body"]) => Queue>} */
const CHANGES = new Map([
  ["queue.entry_joined.v1", join],
  ["queue.entry_called.v1", call],
  ["queue.entry_started.v1", start],
  ["queue.entry_completed.v1", (queue, { ticket }) => leave(queue, ticket)],
  ["queue.entry_left.v1", (queue, { ticket }) => leave(queue, ticket)],
]);

/**
 * Stand at a place of the waiting line, counted from 1.
 * @param {Queue} queue
 * @param {EventFrame["body"]} body
 * @returns {Queue}
 */
function join(queue, { ticket, position }) {
  const without = leave(queue, ticket);
  const waiting = [...without.waiting];
  waiting.splice((position || waiting.length + 1) - 1, 0, ticket);
  return { ...without, waiting };
}

/**
 * Go from the waiting line to the end of those who were called.
 * @param {Queue} queue
 * @param {EventFrame["body"]} body
 * @returns {Queue}
 */
function call(queue, { ticket, room }) {
  const without = leave(queue, ticket);
  return { ...without, called: [...without.called, { ticket, room: room || null }] };
}

/**
 * Be seen.
 * @param {Queue} queue
 * @param {EventFrame["body"]} body
 * @returns {Queue}
 */
function start(queue, { ticket }) {
  const without = leave(queue, ticket);
  return { ...without, in_progress: [...without.in_progress, ticket] };
}

/**
 * Take a ticket out of wherever it stands.
 * @param {Queue} queue
 * @param {number} ticket
 * @returns {Queue}
 */
function leave(queue, ticket) {
  return {
    ...queue,
    waiting: queue.waiting.filter((other) => other !== ticket),
    called: queue.called.filter((other) => other.ticket !== ticket),
    in_progress: queue.in_progress.filter((other) => other !== ticket),
  };
}

/**
 * Tell what is true after this frame, or `null` when only a fresh snapshot can tell.
 *
 * A snapshot replaces everything. The next version is applied; an older one is already part of the
 * state and changes nothing; a hole, an event before any snapshot, or a kind this page was not
 * built for gives `null`. The given state is never changed.
 * @param {LiveState | null} state
 * @param {Frame} frame
 * @returns {LiveState | null}
 */
export function apply(state, frame) {
  if (frame.type === "snapshot") {
    const { topic, epoch, version, state: queue } = frame;
    return { topic, epoch, version, queue };
  }
  if (!state) return null;
  if (frame.version <= state.version) return state;
  const change = CHANGES.get(frame.kind);
  if (frame.version !== state.version + 1 || !change) return null;
  return { ...state, version: frame.version, queue: change(state.queue, frame.body) };
}

const FIRST_RETRY_MS = 500;
const LONGEST_RETRY_MS = 30000;
const ANSWER_WITHIN_MS = 8000;
const RESUBSCRIBE_SPREAD_MS = 300;

/**
 * Choose the pause before the next try: twice as long each time, spread evenly from half to all of it.
 *
 * Without the spread, every phone of a waiting room comes back in the same instant.
 * @param {number} attempt 0 for the first retry
 * @param {() => number} [random] from 0 to 1
 * @returns {number} milliseconds
 */
export function retryDelay(attempt, random = Math.random) {
  const longest = Math.min(LONGEST_RETRY_MS, FIRST_RETRY_MS * 2 ** Math.min(attempt, 16));
  return Math.round(longest * (0.5 + random() / 2));
}

/**
 * @typedef {"connecting" | "live" | "reconnecting" | "closed"} LiveStatus
 *
 * @typedef {object} Listener
 * @property {(state: LiveState, frame: Frame) => void} onChange
 * @property {(code: string) => void} [onRefused]
 *
 * @typedef {object} Topic
 * @property {string} clinicId
 * @property {LiveState | null} state
 * @property {boolean} awaiting             a snapshot was asked for and has not come
 * @property {boolean} refused
 * @property {any} watchdog
 * @property {Set<Listener>} listeners
 *
 * @typedef {object} LiveOptions
 * @property {() => Promise<{pass: string}>} requestPass
 * @property {(status: LiveStatus, attempt: number) => void} [onStatus]
 * @property {() => void} [onSignedOut]
 * @property {(pass: string) => WebSocket} [openSocket]
 * @property {() => number} [random]
 *
 * @typedef {object} Live
 * @property {(topic: string, clinicId: string, listener: Listener) => () => void} subscribe
 * @property {() => void} wake
 * @property {() => void} close
 */

/**
 * Hold one socket for all topics of a page, and hold it again whenever it breaks.
 *
 * `live` is said only while the socket is open and every topic has its snapshot on it.
 * @param {LiveOptions} options
 * @returns {Live}
 */
export function createLive({
  requestPass,
  onStatus = () => undefined,
  onSignedOut = () => undefined,
  openSocket = openBrowserSocket,
  random = Math.random,
}) {
  /** @type {Map<string, Topic>} */
  const topics = new Map();
  /** @type {WebSocket | null} */
  let socket = null;
  /** @type {LiveStatus} */
  let status = "connecting";
  /** @type {any} */
  let retryTimer = null;
  let attempt = 0;
  let connecting = false;
  let closed = false;

  /** @param {LiveStatus} next */
  function say(next) {
    status = next;
    onStatus(next, attempt);
  }

  async function connect() {
    if (closed || connecting || socket) return;
    connecting = true;
    clearTimeout(retryTimer);
    retryTimer = null;
    try {
      const { pass } = await requestPass();
      if (!closed) listen(openSocket(pass));
    } catch (failure) {
      connecting = false;
      retryAfter(failure);
      return;
    }
    connecting = false;
  }

  /** @param {any} failure */
  function retryAfter(failure) {
    if (closed) return;
    if (failure && failure.name === "SignedOut") {
      close();
      onSignedOut();
      return;
    }
    const asked = failure && failure.facts ? Number(failure.facts.retry_after_seconds) : 0;
    retryIn(Math.max(retryDelay(attempt, random), (asked || 0) * 1000));
  }

  /** @param {number} pause milliseconds */
  function retryIn(pause) {
    attempt += 1;
    say("reconnecting");
    clearTimeout(retryTimer);
    retryTimer = setTimeout(connect, pause);
  }

  /** @param {WebSocket} opened */
  function listen(opened) {
    socket = opened;
    opened.onopen = () => {
      for (const name of topics.keys()) ask(name);
    };
    opened.onmessage = (message) => {
      if (socket === opened) receive(message.data);
    };
    opened.onclose = () => {
      if (socket === opened) lose();
    };
  }

  /** Forget the socket and come back later; what was known stays readable, and is not called live. */
  function lose() {
    const broken = socket;
    socket = null;
    for (const topic of topics.values()) {
      clearTimeout(topic.watchdog);
      topic.awaiting = true;
    }
    if (broken) broken.close();
    if (!closed) retryIn(retryDelay(attempt, random));
  }

  /** @param {string} text */
  function receive(text) {
    const frame = readFrame(text);
    const topic = frame ? topics.get(frame.topic) : undefined;
    if (!frame || !topic) return;
    if (frame.type === "refused") {
      topic.refused = true;
      settle(topic);
      for (const { onRefused } of topic.listeners) if (onRefused) onRefused(frame.code);
    } else if (frame.type === "snapshot" || !topic.awaiting) {
      follow(frame.topic, topic, frame);
    }
  }

  /**
   * @param {string} name
   * @param {Topic} topic
   * @param {Frame} frame
   */
  function follow(name, topic, frame) {
    const next = apply(topic.state, frame);
    if (next === null) {
      topic.awaiting = true;
      topic.watchdog = setTimeout(() => ask(name), random() * RESUBSCRIBE_SPREAD_MS);
      return;
    }
    const changed = next !== topic.state;
    topic.state = next;
    if (frame.type === "snapshot") settle(topic);
    if (changed) for (const { onChange } of topic.listeners) onChange(next, frame);
  }

  /** @param {Topic} topic */
  function settle(topic) {
    clearTimeout(topic.watchdog);
    topic.awaiting = false;
    attempt = 0;
    judge();
  }

  /** Call the page live once nothing is left to wait for. */
  function judge() {
    if (status === "live" || !socket || socket.readyState !== 1) return;
    if ([...topics.values()].every((each) => !each.awaiting && !each.refused)) say("live");
  }

  /**
   * Ask for a snapshot; a socket that does not answer is taken for dead.
   * @param {string} name
   */
  function ask(name) {
    const topic = topics.get(name);
    if (!topic || !socket || socket.readyState !== 1) return;
    topic.refused = false;
    topic.awaiting = true;
    clearTimeout(topic.watchdog);
    topic.watchdog = setTimeout(lose, ANSWER_WITHIN_MS);
    // A second subscription alone may be taken for a repeated one and answered with nothing.
    if (topic.state) socket.send(JSON.stringify({ op: "unsubscribe", topic: name }));
    socket.send(JSON.stringify({ op: "subscribe", topic: name, clinic_id: topic.clinicId }));
  }

  /**
   * @param {string} name
   * @param {string} clinicId
   * @param {Listener} listener
   */
  function subscribe(name, clinicId, listener) {
    const known = topics.get(name);
    /** @type {Topic} */
    const topic = known || {
      clinicId,
      state: null,
      awaiting: true,
      refused: false,
      watchdog: null,
      listeners: new Set(),
    };
    topic.listeners.add(listener);
    topics.set(name, topic);
    if (!known) ask(name);
    connect();
    return () => {
      topic.listeners.delete(listener);
      if (topic.listeners.size || topics.get(name) !== topic) return;
      topics.delete(name);
      clearTimeout(topic.watchdog);
      if (socket && socket.readyState === 1) {
        socket.send(JSON.stringify({ op: "unsubscribe", topic: name }));
      }
      judge();
    };
  }

  /** Make sure of the truth now: the phone was asleep, or the network came back. */
  function wake() {
    if (closed || !topics.size) return;
    if (socket) for (const name of topics.keys()) ask(name);
    else connect();
  }

  function close() {
    closed = true;
    clearTimeout(retryTimer);
    for (const topic of topics.values()) clearTimeout(topic.watchdog);
    topics.clear();
    const last = socket;
    socket = null;
    if (last) last.close();
    say("closed");
  }

  return { subscribe, wake, close };
}

/**
 * Read a frame, or nothing when it is none.
 * @param {string} text
 * @returns {(Frame | {type: "refused", topic: string, code: string}) | null}
 */
function readFrame(text) {
  try {
    const frame = JSON.parse(text);
    return frame && ["snapshot", "event", "refused"].includes(frame.type) ? frame : null;
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
 * Wake a live client whenever the person looks again or the network returns.
 * @param {Live} live
 * @returns {() => void} stops it
 */
export function wakeWithPage(live) {
  let hiddenAt = 0;
  const seen = () => {
    if (document.hidden) hiddenAt = Date.now();
    else if (Date.now() - hiddenAt > 5000) live.wake();
  };
  const online = () => live.wake();
  document.addEventListener("visibilitychange", seen);
  window.addEventListener("online", online);
  return () => {
    document.removeEventListener("visibilitychange", seen);
    window.removeEventListener("online", online);
  };
}
