/**
 * @file Decide what a live frame means: a snapshot, then every change in order, or a new snapshot.
 *
 * A missed change is always noticed, because versions follow each other without a hole. Nothing
 * here touches the network; `live-client.js` owns the socket and does what is decided here.
 */

/**
 * @typedef {object} Queue
 * @property {string} queue_id
 * @property {string} on_day
 * @property {number[]} waiting                                 ticket numbers, the next one first
 * @property {{ticket: number, room: string | null}[]} called   by ticket
 * @property {number[]} in_progress                             by ticket
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
 *
 * @typedef {object} ResumedFrame  what was known at `version` is good; what was missed follows
 * @property {"resumed"} type
 * @property {string} topic
 * @property {string | number} epoch
 * @property {number} version
 *
 * @typedef {object} BeatFrame  the topic is at `version`: whoever has less has missed something
 * @property {"beat"} type
 * @property {string} topic
 * @property {number} version
 * @property {number} [spread_ms]  over how long all come back who lose this server without a word
 *
 * @typedef {object} RefusedFrame
 * @property {"refused"} type
 * @property {string} topic
 * @property {string} code
 *
 * @typedef {object} ByeFrame  the server ends this socket
 * @property {"bye"} type
 * @property {string} [topic]
 * @property {string} code
 * @property {number} retry_after_ms
 *
 * @typedef {Frame | ResumedFrame | BeatFrame | RefusedFrame | ByeFrame} AnyFrame
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
 * Go from the waiting line to those who were called, who stand by ticket: of two calls at once
 * nobody knows which was first.
 * @param {Queue} queue
 * @param {EventFrame["body"]} body
 * @returns {Queue}
 */
function call(queue, { ticket, room }) {
  const without = leave(queue, ticket);
  const called = [...without.called, { ticket, room: room || null }];
  return { ...without, called: called.sort((one, other) => one.ticket - other.ticket) };
}

/**
 * Be seen; those who are stand by ticket too.
 * @param {Queue} queue
 * @param {EventFrame["body"]} body
 * @returns {Queue}
 */
function start(queue, { ticket }) {
  const without = leave(queue, ticket);
  const seen = [...without.in_progress, ticket];
  return { ...without, in_progress: seen.sort((one, other) => one - other) };
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
const LONGEST_SPREAD_MS = 60000;

/**
 * Choose the pause before the next try: anything up to a bound that is twice as long each time.
 *
 * Without the spread, every phone of a waiting room comes back in the same instant.
 * @param {number} attempt 0 for the first retry
 * @param {() => number} [random] from 0 to 1
 * @param {number} [spread] milliseconds over which the server wants its crowd to come back
 * @returns {number} milliseconds
 */
export function retryDelay(attempt, random = Math.random, spread = 0) {
  const longest = Math.min(LONGEST_RETRY_MS, FIRST_RETRY_MS * 2 ** Math.min(attempt, 16));
  return Math.round(Math.max(longest, Math.min(spread, LONGEST_SPREAD_MS)) * random());
}
